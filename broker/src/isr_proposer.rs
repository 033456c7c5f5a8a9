//! Carries proposals for in-sync replicas from the partitions that are led here to the controller, and
//! its decisions back.
//!
//! One request is on its way at a time, with everything that there is to propose. A request that was
//! not answered is asked again as it was: it may have been decided.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::partition_leader::AlterOutcome;
use highwater_protocol::ids::{BrokerEpoch, NodeId, TopicId};
use highwater_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, AlterPartitionTopic, IsrProposal,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::controller_client::ControllerRequest;
use crate::lease;
use crate::metrics::ReplicationCounters;
use crate::partition::Partition;
use crate::partitions::{Partitions, Refusal};

/// Most proposals of one request.
const PROPOSALS_MAX: usize = 10_000;
/// How long the controller may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Pause after a request that was not answered.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Bounds of the time between two looks at who lags.
const TICK_MIN: Duration = Duration::from_millis(20);
const TICK_MAX: Duration = Duration::from_secs(2);

/// A controller's answer.
pub(crate) type Altering =
    Pin<Box<dyn Future<Output = Result<AlterPartitionResponse, Refusal>> + Send + 'static>>;

/// Asks the controller, wherever it is, and waits up to a time.
pub(crate) type AlterCall = Arc<dyn Fn(AlterPartitionRequest, Duration) -> Altering + Send + Sync>;

/// What the proposer works with.
pub(crate) struct IsrProposer {
    pub(crate) node: NodeId,
    /// This broker's registration; `None` while it is not registered, and then nothing is proposed.
    pub(crate) broker_epoch: Arc<dyn Fn() -> Option<BrokerEpoch> + Send + Sync>,
    pub(crate) partitions: Arc<Partitions>,
    /// `replica.lag.time.max`
    pub(crate) lag_time_max: Duration,
    pub(crate) call: AlterCall,
    pub(crate) counters: Arc<ReplicationCounters>,
    pub(crate) stop: CancellationToken,
}

impl std::fmt::Debug for IsrProposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IsrProposer")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

// What is refused here must not be under way in another copy that nobody here knows of.
const _: () = assert!(!AlterPartitionRequest::MAY_REPEAT);

type Sent = (Arc<Partition>, TopicId, IsrProposal);

impl IsrProposer {
    /// Runs until it is stopped.
    pub(crate) async fn run(self) {
        let mut tick = interval((self.lag_time_max / 4).clamp(TICK_MIN, TICK_MAX));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {
                    let now = lease::now();
                    for partition in self.partitions.online() {
                        partition.on_isr_tick(now);
                    }
                }
                () = self.partitions.proposals().marked() => {
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = self.propose() => {}
                    }
                }
            }
        }
    }

    /// Sends what there is to propose, and hands the decisions on.
    async fn propose(&self) {
        let keys = self.partitions.proposals().take();
        let Some(broker_epoch) = (self.broker_epoch)() else {
            // A broker that is not registered leads nothing for long; the next tick looks again.
            tokio::time::sleep(RETRY_AFTER).await;
            return;
        };
        let mut sent: Vec<Sent> = Vec::new();
        for key in keys {
            if sent.len() >= PROPOSALS_MAX {
                self.partitions.proposals().mark(key);
                continue;
            }
            if let Some(partition) = self.partitions.online_one(key)
                && let Some(proposal) = partition.take_proposal()
            {
                sent.push((partition, key.0, proposal));
            }
        }
        if sent.is_empty() {
            return;
        }
        let request = AlterPartitionRequest {
            node_id: self.node,
            broker_epoch,
            topics: by_topic(&sent),
        };
        // Should this be dropped before the answer: nobody has heard what became of them.
        let mut unheard = Unheard { sent };
        let answer = (self.call)(request, ANSWER_MAX).await;
        let sent = std::mem::take(&mut unheard.sent);
        match answer {
            Ok(response) => self.apply(sent, &response),
            Err(refusal) => {
                debug!(code = %refusal.code, message = refusal.message, "in-sync replicas were not decided; asking again");
                self.counters.isr_proposals_failed(sent.len());
                // Whatever the refusal says, an earlier attempt of whoever carried it may have got
                // through.
                unknown(sent);
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    fn apply(&self, sent: Vec<Sent>, response: &AlterPartitionResponse) {
        let now = lease::now();
        let decisions = response.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|decision| ((topic.topic_id, decision.partition), decision))
        });
        let decisions: BTreeMap<_, _> = decisions.collect();
        for (partition, topic_id, proposal) in sent {
            let decision = decisions.get(&(topic_id, proposal.partition));
            let outcome =
                decision.map_or(AlterOutcome::Unknown, |decision| AlterOutcome::of(decision));
            info!(
                topic = %partition.topic(), partition = %proposal.partition,
                proposed = ?proposal.isr.iter().map(|member| member.node_id.get()).collect::<Vec<_>>(),
                ?outcome, "in-sync replicas"
            );
            if !matches!(outcome, AlterOutcome::Changed { .. }) {
                self.counters.isr_proposals_failed(1);
            }
            partition.on_alter_outcome(&proposal, outcome, now);
        }
    }
}

struct Unheard {
    sent: Vec<Sent>,
}

impl Drop for Unheard {
    fn drop(&mut self) {
        unknown(std::mem::take(&mut self.sent));
    }
}

fn unknown(sent: Vec<Sent>) {
    let now = lease::now();
    for (partition, _, proposal) in sent {
        partition.on_alter_outcome(&proposal, AlterOutcome::Unknown, now);
    }
}

fn by_topic(sent: &[Sent]) -> Vec<AlterPartitionTopic> {
    let mut topics: BTreeMap<TopicId, Vec<IsrProposal>> = BTreeMap::new();
    for (_, topic_id, proposal) in sent {
        topics.entry(*topic_id).or_default().push(proposal.clone());
    }
    let topics = topics.into_iter();
    topics
        .map(|(topic_id, partitions)| AlterPartitionTopic {
            topic_id,
            partitions,
        })
        .collect()
}
