//! Memory is bounded at the door: request bytes are paid for before they are read.
//!
//! A connection pays for the capacity of its receive buffer beyond a small free allowance. The price
//! of all connections together is bounded by `network.in.flight.bytes.max`; whoever cannot pay waits,
//! and idle buffers are given back.
//!
//! A frame is paid for piece by piece as it arrives, so frames that are half there could hold the whole
//! budget and all wait for the rest. One connection at a time may therefore go on without paying: what
//! is held is bounded by the budget and one frame more, and somebody always gets on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Receive buffers up to this size are free: enough for small requests, little enough for very many
/// connections.
pub(crate) const FREE_BYTES: usize = 64 << 10;

/// Permits are counted in blocks, because a semaphore counts in `u32`.
const BLOCK_BYTES: usize = 4 << 10;

/// The broker's budget of request bytes.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    blocks: Arc<Semaphore>,
    blocks_total: usize,
    overdraft: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// What one connection has paid for.
#[derive(Debug, Default)]
pub(crate) struct Paid {
    permit: Option<OwnedSemaphorePermit>,
    /// May go on without paying.
    overdraft: Option<OwnedSemaphorePermit>,
}

impl Paid {
    /// Whether others wait for this one to finish and give the overdraft back.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.overdraft.is_some()
    }
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let blocks = usize::try_from(bytes).unwrap_or(usize::MAX) / BLOCK_BYTES;
        let blocks_total = blocks.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            blocks: Arc::new(Semaphore::new(blocks_total)),
            blocks_total,
            overdraft: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Pays for a buffer of `capacity` bytes, waiting until others give back or the overdraft is free.
    /// What was paid before is kept meanwhile: the buffer is still there. Never asks for more than the
    /// whole budget: a single frame larger than it is let through alone.
    ///
    /// Cancel safety: a cancelled call has paid for nothing more than before.
    pub(crate) async fn pay(&self, paid: &mut Paid, capacity: usize) {
        let wanted = self.price(capacity);
        let have = paid
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted <= have || paid.is_overdrawn() {
            return;
        }
        let missing = (wanted - have) as u32;
        let more = match Arc::clone(&self.blocks).try_acquire_many_owned(missing) {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::new(&self.waiting);
                // The semaphores are never closed.
                tokio::select! {
                    biased;
                    more = Arc::clone(&self.blocks).acquire_many_owned(missing) => match more {
                        Ok(permit) => permit,
                        Err(_) => return,
                    },
                    overdraft = Arc::clone(&self.overdraft).acquire_owned() => {
                        paid.overdraft = overdraft.ok();
                        return;
                    }
                }
            }
        };
        match &mut paid.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
    }

    /// Pays for `bytes` if that can be done without waiting; says whether they are paid for.
    pub(crate) fn try_pay(&self, paid: &mut Paid, bytes: usize) -> bool {
        let wanted = self.price(bytes);
        let have = paid
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted <= have {
            return true;
        }
        let missing = (wanted - have) as u32;
        let Ok(more) = Arc::clone(&self.blocks).try_acquire_many_owned(missing) else {
            return false;
        };
        match &mut paid.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        true
    }

    /// Whether someone waits, so that a buffer that is not needed now should be given back at once.
    pub(crate) fn is_contended(&self) -> bool {
        self.waiting() > 0
    }

    /// Connections that wait to pay.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Bytes paid for now.
    pub(crate) fn used_bytes(&self) -> u64 {
        ((self.blocks_total - self.blocks.available_permits()) * BLOCK_BYTES) as u64
    }

    fn price(&self, capacity: usize) -> usize {
        capacity
            .saturating_sub(FREE_BYTES)
            .div_ceil(BLOCK_BYTES)
            .min(self.blocks_total)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_paid_is_bounded_and_comes_back() {
        let budget = Budget::new(1 << 20);
        let mut first = Paid::default();
        budget.pay(&mut first, FREE_BYTES).await;
        assert_eq!(budget.used_bytes(), 0);
        budget.pay(&mut first, 600 << 10).await;
        budget.pay(&mut first, 300 << 10).await;
        assert_eq!(budget.used_bytes(), (600 - 64) << 10);

        // Somebody always gets on.
        let mut second = Paid::default();
        budget.pay(&mut second, 200 << 10).await;
        budget.pay(&mut second, 900 << 10).await;
        assert!(second.is_overdrawn());
        assert_eq!(budget.used_bytes(), (600 - 64 + 200 - 64) << 10);
        assert!(!budget.try_pay(&mut Paid::default(), 700 << 10));

        let waiter = {
            let budget = budget.clone();
            tokio::spawn(async move {
                let mut third = Paid::default();
                budget.pay(&mut third, 128 << 10).await;
                budget.pay(&mut third, 700 << 10).await;
                (budget.used_bytes(), third.is_overdrawn())
            })
        };
        while !budget.is_contended() {
            tokio::task::yield_now().await;
        }
        // Who waits keeps what it paid for what it holds, and is given what is left already.
        assert!(budget.used_bytes() >= (600 - 64 + 200 - 64 + 128 - 64) << 10);
        drop(first);
        assert_eq!(waiter.await.unwrap(), ((200 - 64 + 700 - 64) << 10, false));
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
    }

    /// Frames that are half there never wait for each other, however many there are.
    #[tokio::test]
    async fn half_paid_frames_all_get_through() {
        let budget = Budget::new(1 << 20);
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let budget = budget.clone();
                tokio::spawn(async move {
                    let mut paid = Paid::default();
                    for kib in [100, 300, 700, 900] {
                        budget.pay(&mut paid, kib << 10).await;
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn a_frame_larger_than_the_budget_is_let_through_alone() {
        let budget = Budget::new(1 << 20);
        let mut paid = Paid::default();
        budget.pay(&mut paid, 100 << 20).await;
        assert_eq!(budget.used_bytes(), 1 << 20);
    }
}
