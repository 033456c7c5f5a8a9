//! One fetch with many partitions, and which answer belongs to which of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_coordination::partition_follower::Ask;
use highwater_protocol::ids::{BrokerEpoch, NodeId, Offset};
use highwater_protocol::messages::{
    FetchPartition, FetchPartitionResult, FetchReplica, FetchRequest, FetchResponse, FetchSession,
    FetchTopic, Isolation,
};

use crate::partition::Partition;
use crate::partitions::Key;

/// Most partitions of one request; the others have their turn with the next.
pub(super) const PARTITIONS_MAX: usize = 20_000;

/// The most that one partition gets of one answer: others wait behind it.
pub(super) const PARTITION_BYTES_MAX: u32 = 4 << 20;

/// What was asked for one partition.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) partition: Arc<Partition>,
    pub(super) ask: Ask,
    pub(super) in_sync: bool,
}

/// A fetch in the making.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    request: FetchRequest,
    asked: Vec<Asked>,
}

impl Draft {
    /// A fetch of this broker that waits so long for records.
    pub(super) fn new(
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
        wait_ms_max: u32,
        bytes_max: u32,
    ) -> Self {
        Self {
            request: FetchRequest {
                replica: Some(FetchReplica {
                    node_id,
                    broker_epoch,
                    session: None,
                }),
                wait_ms_max,
                bytes_min: 1,
                bytes_max,
                isolation: Isolation::ReadUncommitted,
                topics: Vec::new(),
            },
            asked: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Does not wait longer than this.
    pub(super) fn wait_at_most(&mut self, millis: u32) {
        self.request.wait_ms_max = self.request.wait_ms_max.min(millis);
    }

    /// Asks for this partition too. Those of one topic that follow each other share its entry.
    pub(super) fn push(&mut self, asked: Asked, durable_end: Offset, bytes_max: u32) {
        let (topic_id, partition) = asked.partition.key();
        let position = asked.ask.position;
        let entry = FetchPartition {
            partition,
            leader_epoch: Some(asked.ask.epoch),
            offset: position.log_end,
            last_epoch: position.last_epoch,
            durable_end: Some(durable_end.min(position.log_end)),
            log_start: Some(position.log_start),
            bytes_max,
        };
        match self.request.topics.last_mut() {
            Some(topic) if topic.topic_id == topic_id => topic.partitions.push(entry),
            _ => self.request.topics.push(FetchTopic {
                topic_id,
                partitions: vec![entry],
            }),
        }
        self.asked.push(asked);
    }

    /// Makes it a fetch of this session.
    pub(super) fn name(&mut self, session: FetchSession) {
        if let Some(replica) = &mut self.request.replica {
            replica.session = Some(session);
        }
    }

    /// What is asked for, by partition.
    pub(super) fn take_asked(&mut self) -> BTreeMap<Key, Asked> {
        let asked = std::mem::take(&mut self.asked).into_iter();
        asked.map(|asked| (asked.partition.key(), asked)).collect()
    }

    /// Whether all partitions that are asked for are in sync.
    pub(super) fn is_all_in_sync(&self) -> bool {
        self.asked.iter().all(|asked| asked.in_sync)
    }

    pub(super) fn into_parts(self) -> (FetchRequest, Vec<Asked>) {
        (self.request, self.asked)
    }
}

/// Puts the results of an answer beside what was asked. `None`: it answers something else.
pub(super) fn paired(
    asked: Vec<Asked>,
    response: FetchResponse,
) -> Option<Vec<(Asked, FetchPartitionResult)>> {
    let results = response.topics.into_iter().flat_map(|topic| {
        let topic_id = topic.topic_id;
        topic
            .partitions
            .into_iter()
            .map(move |result| ((topic_id, result.partition), result))
    });
    let mut results: Vec<(Key, FetchPartitionResult)> = results.collect();
    let fits = results.len() == asked.len()
        && results
            .iter()
            .zip(&asked)
            .all(|((key, _), asked)| *key == asked.partition.key());
    fits.then(|| {
        asked
            .into_iter()
            .zip(results.drain(..).map(|(_, result)| result))
            .collect()
    })
}
