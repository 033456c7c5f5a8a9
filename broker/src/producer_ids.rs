//! Producer ids for idempotent producers.
//!
//! The controller hands them out in blocks, through the metadata, and never the same twice. A broker
//! asks for a block when the first producer comes and when the last id of a block is gone; what is left
//! of it at a stop is never used, because nothing but memory says how far it was.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::ProducerId;
use tokio::sync::Mutex;

use crate::partitions::Refusal;

/// Ids that nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerIdBlock {
    pub(crate) first: ProducerId,
    pub(crate) count: u32,
}

/// Where blocks come from. The future must not wait for ever.
pub(crate) type BlockSource = Box<
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<ProducerIdBlock, Refusal>> + Send>>
        + Send
        + Sync,
>;

/// Gives out producer ids.
pub(crate) struct ProducerIds {
    left: Mutex<Range<u64>>,
    source: BlockSource,
}

impl fmt::Debug for ProducerIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerIds")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl ProducerIds {
    pub(crate) fn new(source: BlockSource) -> Self {
        Self {
            left: Mutex::new(0..0),
            source,
        }
    }

    /// The next id. Who comes while a block is on its way waits for that one.
    pub(crate) async fn next(&self) -> Result<ProducerId, Refusal> {
        let mut left = self.left.lock().await;
        if left.is_empty() {
            *left = ids((self.source)().await?)?;
        }
        let id = ProducerId::new(left.start);
        left.start += 1;
        Ok(id)
    }
}

fn ids(block: ProducerIdBlock) -> Result<Range<u64>, Refusal> {
    let first = block.first.get();
    first
        .checked_add(block.count.into())
        .filter(|end| first < *end && i64::try_from(*end).is_ok())
        .map(|end| first..end)
        .ok_or_else(|| Refusal {
            code: ErrorCode::Internal,
            message: format!("there is no producer id in {block:?}"),
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn source(calls: &Arc<AtomicU64>, count: u32, fail_at: u64) -> BlockSource {
        let calls = Arc::clone(calls);
        Box::new(move || {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                tokio::task::yield_now().await;
                if call == fail_at {
                    return Err(Refusal {
                        code: ErrorCode::Busy,
                        message: "not now".to_owned(),
                    });
                }
                Ok(ProducerIdBlock {
                    first: ProducerId::new(call * 100),
                    count,
                })
            })
        })
    }

    #[tokio::test]
    async fn every_id_is_given_out_once_and_a_block_is_asked_for_once() {
        let calls = Arc::new(AtomicU64::new(0));
        let ids = Arc::new(ProducerIds::new(source(&calls, 10, u64::MAX)));
        let tasks: Vec<_> = (0..35)
            .map(|_| {
                let ids = Arc::clone(&ids);
                tokio::spawn(async move { ids.next().await.unwrap().get() })
            })
            .collect();
        let mut given = BTreeSet::new();
        for task in tasks {
            assert!(given.insert(task.await.unwrap()));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 4);
        let expected = (0..3u64).flat_map(|block| block * 100..block * 100 + 10);
        assert!(expected.chain(300..305).eq(given));
    }

    #[tokio::test]
    async fn a_block_that_did_not_come_is_asked_for_again() {
        let calls = Arc::new(AtomicU64::new(0));
        let ids = ProducerIds::new(source(&calls, 1, 1));
        assert_eq!(ids.next().await.unwrap().get(), 0);
        assert_eq!(ids.next().await.unwrap_err().code, ErrorCode::Busy);
        assert_eq!(ids.next().await.unwrap().get(), 200);
        let empty = ProducerIds::new(source(&calls, 0, u64::MAX));
        assert_eq!(empty.next().await.unwrap_err().code, ErrorCode::Internal);
    }
}
