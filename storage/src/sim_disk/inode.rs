//! One simulated file: what programs see of it, and what a power loss leaves.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::PAGE_BYTES;
use super::dice::Dice;
use crate::map::Map;

#[derive(Debug, Default)]
pub(super) struct Inode {
    /// What programs see, except for what a map has published since it was looked at.
    pub(super) cached: Vec<u8>,
    /// What a power loss leaves for sure.
    pub(super) durable: Vec<u8>,
    /// The shortest the file was since the last sync.
    pub(super) cut_to: Option<usize>,
    /// Pages whose sync failed: clean in the cache, not on the disk.
    pub(super) lost: BTreeSet<usize>,
    pub(super) map: Option<Arc<Map>>,
    pub(super) map_seen: usize,
    pub(super) finished: Vec<Weak<Map>>,
}

impl Inode {
    /// Takes over what the map has published.
    pub(super) fn refresh(&mut self) {
        if let Some(map) = &self.map {
            let published = map.published();
            if published > self.map_seen {
                let new = map.bytes(self.map_seen..published);
                self.cached[self.map_seen..published].copy_from_slice(new);
                self.map_seen = published;
            }
        }
    }

    pub(super) fn set_len(&mut self, length: usize) {
        self.refresh();
        if let Some(map) = &self.map
            && Arc::strong_count(map) > 1
        {
            assert!(
                length >= map.published(),
                "a file is cut under a map: SIGBUS"
            );
        }
        self.finished.retain(|map| map.strong_count() > 0);
        for map in self.finished.iter().filter_map(Weak::upgrade) {
            assert!(
                length >= map.length(),
                "a file is cut under a finished map: SIGBUS"
            );
        }
        if length < self.cached.len() {
            self.cut_to = Some(self.cut_to.map_or(length, |cut| cut.min(length)));
        }
        self.cached.resize(length, 0);
    }

    /// Puts a page of the cache onto the disk.
    pub(super) fn write_back(&mut self, page: usize) {
        let start = page * PAGE_BYTES;
        let end = (start + PAGE_BYTES).min(self.cached.len());
        if start >= end || self.lost.contains(&page) {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.cached[start..end]);
    }

    pub(super) fn apply_cut(&mut self) {
        if let Some(cut) = self.cut_to.take() {
            self.durable.truncate(cut);
        }
    }

    pub(super) fn sync(&mut self, range: Range<usize>) {
        self.refresh();
        self.apply_cut();
        for page in range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES) {
            self.write_back(page);
        }
        self.durable.resize(self.cached.len(), 0);
    }

    /// What is left after a power loss.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        self.refresh();
        let mut writable_to = usize::MAX;
        if let Some(cut) = self.cut_to {
            if dice.one_in(2) {
                self.apply_cut();
            } else {
                writable_to = cut.div_ceil(PAGE_BYTES) * PAGE_BYTES;
            }
        }
        let new_length = match dice.below(3) {
            _ if writable_to != usize::MAX => self.durable.len(),
            0 => self.durable.len(),
            1 => self.cached.len().max(self.durable.len()),
            _ => {
                let (low, high) = (
                    self.durable.len(),
                    self.cached.len().max(self.durable.len()),
                );
                low + dice.below((high - low) as u64 + 1) as usize
            }
        };
        // Sometimes nothing or everything, otherwise any subset.
        let bias = dice.below(4);
        for page in 0..self.cached.len().div_ceil(PAGE_BYTES) {
            let survives = match bias {
                0 => false,
                1 => true,
                _ => dice.one_in(2),
            };
            if survives && page * PAGE_BYTES < writable_to {
                self.write_back(page);
            }
        }
        self.durable.resize(new_length, 0);
        self.cached = self.durable.clone();
        self.forget_process();
    }

    pub(super) fn forget_process(&mut self) {
        self.map = None;
        self.map_seen = 0;
        self.cut_to = None;
        self.lost.clear();
        self.finished.clear();
    }
}
