//! Doing the same to many logs at a time, on threads that end with the call.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Most threads of one call. More than processors, because they mostly wait for the disk, and syncs
/// that come together share one commit of the file system's journal.
pub const THREADS_MAX: usize = 32;

/// Runs `work` on every item, on so many threads at most, and returns the answers in the order of the
/// items. Few items are not worth a thread.
pub fn for_each<T: Sync, A: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> A + Sync,
) -> Vec<A> {
    let threads = threads.min(items.len().div_ceil(4));
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(n) else { return };
            let answer = work(item);
            answers.lock().push((n, answer));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run);
        }
    });
    let mut answers = answers.into_inner();
    answers.sort_by_key(|(n, _)| *n);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order() {
        let items: Vec<_> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            assert_eq!(for_each(threads, &items, |n| n * 2)[99], 198);
        }
        assert!(for_each(4, &[] as &[u8], |n| *n).is_empty());
    }
}
