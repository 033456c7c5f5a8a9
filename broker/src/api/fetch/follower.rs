//! Fetches of followers: they see the log up to its end, and where their own parts from it.

use std::sync::Arc;

use bytes::Bytes;
use highwater_coordination::moment::Moment;
use highwater_coordination::partition_leader::{FetchAnswer, FetchRefusal, FollowerFetch};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, TopicId};
use highwater_protocol::messages::{FetchPartition, FetchPartitionResult, FetchReplica};

use super::{Bounds, Look, Pass};
use crate::partition::{FollowerRefusal, Partition};
use crate::partitions::{Refusal, not_leader};
use crate::shared::Shared;

/// What a follower asks of one partition.
#[derive(Debug)]
pub(super) struct Fetch<'a> {
    pub(super) replica: &'a FetchReplica,
    pub(super) topic_id: TopicId,
    pub(super) asked: &'a FetchPartition,
    pub(super) look: Look,
    pub(super) now: Moment,
    /// How many bytes the answer may still hold; `None`: it wants no records.
    pub(super) left: Option<usize>,
}

impl Pass {
    /// No lease is needed: a follower of an old leader is told apart by its epochs, and what it gets
    /// from a leader that is one no more commits nothing.
    pub(super) fn read_for_follower(
        &mut self,
        shared: &Shared,
        fetch: &Fetch<'_>,
        place: (usize, usize),
    ) -> Result<FetchPartitionResult, Refusal> {
        let asked = fetch.asked;
        let partition = shared.leader((fetch.topic_id, asked.partition), None)?;
        let Some(leader_epoch) = asked.leader_epoch else {
            return Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message: "a follower says in which leader epoch it follows".to_owned(),
            });
        };
        let told = FollowerFetch {
            follower: fetch.replica.node_id,
            broker_epoch: fetch.replica.broker_epoch,
            leader_epoch,
            offset: asked.offset,
            last_epoch: asked.last_epoch,
            // What was not said is not known to be on its disk.
            durable_end: asked.durable_end.unwrap_or(Offset::ZERO),
            is_report: fetch.left.is_none(),
        };
        let found = partition
            .on_follower_fetch(&told, fetch.look == Look::First, fetch.now)
            .map_err(|refused| refusal(&partition, refused))?;
        let mut result = FetchPartitionResult {
            partition: asked.partition,
            error: ErrorCode::None,
            message: None,
            high_watermark: found.high_watermark,
            last_stable: found.high_watermark,
            log_start: partition.log().log_start(),
            diverging: None,
            records: Bytes::new(),
        };
        match found.answer {
            FetchAnswer::Diverging(end) => {
                result.diverging = Some(end);
                self.has_errors = true;
            }
            FetchAnswer::Records => {
                if let Some(left) = fetch.left {
                    let bounds = Bounds {
                        offset: asked.offset,
                        end: found.log_end,
                        left,
                        bytes_max: asked.bytes_max,
                    };
                    self.read_records(&partition, bounds, place, &mut result)?;
                }
            }
        }
        self.partitions.push(Arc::clone(&partition));
        Ok(result)
    }
}

fn refusal(partition: &Partition, refused: FollowerRefusal) -> Refusal {
    let FollowerRefusal::Fetch(refused) = refused else {
        return not_leader(partition);
    };
    let (code, message) = match refused {
        FetchRefusal::FencedLeaderEpoch => (
            ErrorCode::FencedLeaderEpoch,
            "the follower's leader epoch is over",
        ),
        FetchRefusal::UnknownLeaderEpoch => (
            ErrorCode::UnknownLeaderEpoch,
            "this leader does not know the follower's epoch yet, or not that it is a replica",
        ),
        FetchRefusal::StaleBrokerEpoch => (
            ErrorCode::StaleBrokerEpoch,
            "the follower was registered anew since",
        ),
        FetchRefusal::OutOfRange => (
            ErrorCode::OffsetOutOfRange,
            "the leader's log does not reach there",
        ),
        FetchRefusal::EpochAhead => (
            ErrorCode::EpochAhead,
            "the follower has records of an epoch that its leader never heard of",
        ),
    };
    Refusal {
        code,
        message: message.to_owned(),
    }
}
