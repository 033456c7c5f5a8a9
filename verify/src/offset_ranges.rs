//! Sets of offsets that are mostly one after another.

use std::collections::BTreeMap;

/// A set of offsets, as ranges that do not touch: start to exclusive end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OffsetRanges(BTreeMap<u64, u64>);

impl OffsetRanges {
    /// Adds an offset.
    pub(crate) fn insert(&mut self, offset: u64) {
        if self.contains(offset) {
            return;
        }
        let after = offset.saturating_add(1);
        let end = self.0.remove(&after).unwrap_or(after);
        match self.0.range_mut(..offset).next_back() {
            Some((_, before)) if *before == offset => *before = end,
            _ => {
                self.0.insert(offset, end);
            }
        }
    }

    /// Whether it is there.
    pub(crate) fn contains(&self, offset: u64) -> bool {
        let below = self.0.range(..=offset).next_back();
        below.is_some_and(|(_, end)| offset < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set(offsets in proptest::collection::vec(0u64..40, 0..60)) {
            let mut ranges = OffsetRanges::default();
            for offset in &offsets {
                ranges.insert(*offset);
            }
            for offset in 0..42 {
                prop_assert_eq!(ranges.contains(offset), offsets.contains(&offset));
            }
            let ends: Vec<_> = ranges.0.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", ranges);
        }
    }
}
