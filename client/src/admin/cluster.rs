//! The cluster: its brokers, its metadata quorum, and where replicas and leaders are.

use highwater_protocol::ids::NodeId;
use highwater_protocol::messages as m;
use highwater_protocol::messages::{BalanceAction, ElectionKind};

use super::{
    Admin, BalanceStatus, ClusterDescription, Election, PartitionName, PartitionOutcome,
    QuorumDescription, ReplicaMove,
};
use crate::error::AdminError;

impl Admin {
    /// The cluster and its brokers.
    ///
    /// # Errors
    /// [`AdminError`] when no broker answers.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, AdminError> {
        let request = m::DescribeClusterRequest {
            include_fenced: true,
        };
        Ok(self.core.ask_any(&request).await?.into())
    }

    /// The metadata quorum: who leads, who votes, how far each is.
    ///
    /// # Errors
    /// [`AdminError`] when no broker answers, or none can reach the controller.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn describe_quorum(&self) -> Result<QuorumDescription, AdminError> {
        let request = m::DescribeQuorumRequest { reserved: false };
        Ok(self.core.ask_any(&request).await?.into())
    }

    /// Changes who votes in the metadata quorum; returns who does then.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the change may be made all the same.
    pub async fn alter_voters(
        &self,
        add: impl IntoIterator<Item = NodeId>,
        remove: impl IntoIterator<Item = NodeId>,
    ) -> Result<Vec<NodeId>, AdminError> {
        let request = m::AlterVotersRequest {
            add: add.into_iter().collect(),
            remove: remove.into_iter().collect(),
        };
        Ok(self.core.ask_any(&request).await?.voters)
    }

    /// Begins to move everything off a node and keeps new replicas away, or ends that. Returns how
    /// many replicas are still there.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the change may be made all the same.
    pub async fn drain_node(&self, node_id: NodeId, drain: bool) -> Result<u32, AdminError> {
        let request = m::DrainNodeRequest { node_id, drain };
        Ok(self.core.ask_any(&request).await?.replicas_left)
    }

    /// Takes a node that is stopped out of the cluster for ever; with `force` also one that holds
    /// replicas, which are lost. Returns how many it held.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the node may be removed all the same.
    pub async fn remove_node(&self, node_id: NodeId, force: bool) -> Result<u32, AdminError> {
        let request = m::RemoveNodeRequest { node_id, force };
        Ok(self.core.ask_any(&request).await?.replicas_lost)
    }

    /// Begins or gives up moves of replicas. They go on by themselves: the `adding` and `removing` of
    /// [`Admin::describe_topic`] show how far. The outcomes are in the order of the moves.
    ///
    /// # Errors
    /// [`AdminError`] when the whole request failed; a refused move is an outcome.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; moves may begin all the same.
    pub async fn move_replicas(
        &self,
        moves: Vec<ReplicaMove>,
    ) -> Result<Vec<PartitionOutcome>, AdminError> {
        let moves = moves.into_iter().map(|wanted| m::ReplicaMove {
            topic: wanted.partition.topic,
            partition: wanted.partition.partition,
            replicas: wanted.replicas,
        });
        let request = m::MoveReplicasRequest {
            moves: moves.collect(),
        };
        let answer = self
            .ask(&request, |a| a.results.first().map(|result| result.error))
            .await?;
        Ok(PartitionOutcome::all(answer.results))
    }

    /// Elects leaders of some partitions, in their order, or of all: then the outcomes are of those
    /// whose leader changed. [`Election::Unclean`] wants the partitions named.
    ///
    /// # Errors
    /// [`AdminError`] when the whole request failed; a refused election is an outcome.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; leaders may change all the same.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<&[PartitionName]>,
    ) -> Result<Vec<PartitionOutcome>, AdminError> {
        let (kind, node_id) = match election {
            Election::Preferred => (ElectionKind::Preferred, None),
            Election::Node(node) => (ElectionKind::Node, Some(node)),
            Election::Unclean => (ElectionKind::Unclean, None),
        };
        let partitions = partitions.map(|partitions| {
            let named = partitions.iter().map(|name| m::TopicPartition {
                topic: name.topic.clone(),
                partition: name.partition,
            });
            named.collect()
        });
        let request = m::ElectLeadersRequest {
            kind,
            node_id,
            partitions,
        };
        let answer = self
            .ask(&request, |a| a.results.first().map(|result| result.error))
            .await?;
        Ok(PartitionOutcome::all(answer.results))
    }

    /// The moves that would give every node its share.
    ///
    /// # Errors
    /// [`AdminError`] when no broker answers, or none can reach the controller.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn plan_balance(&self) -> Result<BalanceStatus, AdminError> {
        self.balance(BalanceAction::Plan).await
    }

    /// Makes the moves that give every node its share. They go on by themselves.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the moves may begin all the same.
    pub async fn run_balance(&self) -> Result<BalanceStatus, AdminError> {
        self.balance(BalanceAction::Run).await
    }

    /// The moves that are under way, whatever began them, and which nodes are gone.
    ///
    /// # Errors
    /// [`AdminError`] when no broker answers, or none can reach the controller.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn balance_status(&self) -> Result<BalanceStatus, AdminError> {
        self.balance(BalanceAction::Status).await
    }

    /// Gives up every move that balancing began.
    ///
    /// # Errors
    /// [`AdminError`]; see its `may_have_committed` when no answer came.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; moves may be given up all the same.
    pub async fn cancel_balance(&self) -> Result<BalanceStatus, AdminError> {
        self.balance(BalanceAction::Cancel).await
    }

    async fn balance(&self, action: BalanceAction) -> Result<BalanceStatus, AdminError> {
        let request = m::BalanceRequest { action };
        Ok(self.core.ask_any(&request).await?.into())
    }
}
