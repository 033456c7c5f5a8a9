//! Links that lose, repeat and delay messages, and that are cut in one direction or both.

use std::collections::BTreeMap;

use highwater_storage::sim_disk::Dice;

use crate::message::{Envelope, Message};
use crate::plan::Faults;

/// The longest that a stale message is kept, in ms.
const STALE_MS: u64 = 2500;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Which links are cut, and by how many cuts.
    cut: BTreeMap<(usize, usize), usize>,
    cuts: BTreeMap<u64, Vec<(usize, usize)>>,
    next_cut: u64,
}

impl Network {
    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        from == to || !self.cut.contains_key(&(from, to))
    }

    pub(crate) fn is_open_both_ways(&self, one: usize, other: usize) -> bool {
        self.is_open(one, other) && self.is_open(other, one)
    }

    /// Cuts links; the number mends them.
    pub(crate) fn cut(&mut self, links: Vec<(usize, usize)>) -> u64 {
        for link in &links {
            *self.cut.entry(*link).or_default() += 1;
        }
        self.next_cut += 1;
        self.cuts.insert(self.next_cut, links);
        self.next_cut
    }

    pub(crate) fn mend(&mut self, number: u64) {
        for link in self.cuts.remove(&number).unwrap_or_default() {
            if let Some(cuts) = self.cut.get_mut(&link) {
                *cuts -= 1;
                if *cuts == 0 {
                    self.cut.remove(&link);
                }
            }
        }
    }

    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
        self.cuts.clear();
    }

    /// After how many ms each copy of a message arrives.
    pub(crate) fn delays(&self, envelope: &Envelope, faults: &Faults, dice: &mut Dice) -> Vec<u64> {
        let mut delays = Vec::with_capacity(1);
        let chance = |dice: &mut Dice, rate: u64| rate > 0 && dice.below(1000) < rate;
        let copies = 1 + usize::from(chance(dice, faults.duplicates));
        for _ in 0..copies {
            let lost = match envelope.body {
                Message::Altered(_) => faults.lost_decisions,
                Message::Alter(_) => faults.lost_proposals,
                _ => 0,
            };
            let mut delay = 1 + dice.below(faults.delay_ms);
            let is_stale = chance(dice, faults.stale);
            if is_stale {
                delay += 50 + dice.below(STALE_MS);
            }
            // What waits in a link that is cut may still come through once it is mended.
            let is_cut = !self.is_open(envelope.from, envelope.to) && !is_stale;
            let is_lost = chance(dice, faults.loss) || chance(dice, lost);
            if !is_cut && !is_lost {
                delays.push(delay);
            }
        }
        delays
    }
}
