//! Counts what became of the records, while later ones are still being sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_client::{PendingBatch, SendError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Calls whose records may be on their way: each holds up to one block of input, and the producer's
/// buffer bounds the bytes.
const PENDING_MAX: usize = 4096;

/// Counts acknowledged and failed records.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    pending: mpsc::Sender<PendingBatch>,
    counts: Arc<Counts>,
    counting: JoinHandle<Option<SendError>>,
}

#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

/// What it all came to.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Records that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Why the first of them was not.
    pub(crate) first_error: Option<SendError>,
}

impl Acknowledgements {
    /// Starts to count.
    pub(crate) fn start() -> Self {
        let (pending, mut receiver) = mpsc::channel::<PendingBatch>(PENDING_MAX);
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let counting = tokio::spawn(async move {
            let mut first_error = None;
            while let Some(batch) = receiver.recv().await {
                let settled = batch.settle().await;
                shared
                    .acknowledged
                    .fetch_add(settled.acknowledged, Ordering::Relaxed);
                shared.failed.fetch_add(settled.failed, Ordering::Relaxed);
                first_error = first_error.or(settled.first_error);
            }
            first_error
        });
        Self {
            pending,
            counts,
            counting,
        }
    }

    /// Takes over the records of one call.
    pub(crate) async fn expect(&self, batch: PendingBatch) {
        // The task ends only after this sender is gone.
        let _ = self.pending.send(batch).await;
    }

    /// Records acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.counts.acknowledged.load(Ordering::Relaxed)
    }

    /// Whether a record has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.counts.failed.load(Ordering::Relaxed) > 0
    }

    /// Waits for the last of them.
    pub(crate) async fn finish(self) -> Tally {
        drop(self.pending);
        let first_error = self.counting.await.unwrap_or_else(|error| {
            // It is never aborted, so it has panicked: go on with that.
            std::panic::resume_unwind(error.into_panic())
        });
        Tally {
            acknowledged: self.counts.acknowledged.load(Ordering::Relaxed),
            first_error,
        }
    }
}
