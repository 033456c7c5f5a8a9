//! What must come back: one chain of fingerprints per partition.
//!
//! The sender adds a link for every record before it sends it, in the order of the partition. The
//! reader compares each record that it receives with the oldest link that is left. A record that
//! does not fit is judged: it came too early (what lies between is missing), a second time, late,
//! or changed.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

/// How far before and behind its place a record that does not fit is searched for.
const SEARCH_LINKS: usize = 100_000;

/// A record that was sent.
#[derive(Debug, Clone, Copy)]
struct Link {
    offset: u64,
    fingerprint: u64,
    due: Instant,
}

/// What was found wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Sent and acknowledged, but not there.
    pub(crate) lost: u64,
    /// There more than once.
    pub(crate) duplicated: u64,
    /// There, but behind a later one.
    pub(crate) reordered: u64,
    /// There, but with other content or at another offset.
    pub(crate) altered: u64,
}

impl Faults {
    /// Whether there are none.
    pub(crate) fn none(self) -> bool {
        self == Faults::default()
    }

    /// Both together.
    #[must_use]
    pub(crate) fn plus(self, other: Faults) -> Faults {
        Faults {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            altered: self.altered + other.altered,
        }
    }
}

/// The records of one partition that are on their way, and what was found wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    sent: u64,
    received: u64,
    expected: VecDeque<Link>,
    /// Links that were jumped over: lost, unless they turn up late.
    missing: Vec<Link>,
    recent: VecDeque<u64>,
    /// Where the records lie against where they should: other than 0 only behind a fault.
    shift: i128,
    /// A fault was just judged, and what follows it may lie elsewhere because of it.
    shift_unknown: bool,
    faults: Faults,
}

impl Chain {
    /// Adds the next record that will be sent.
    pub(crate) fn expect(&mut self, fingerprint: u64, due: Instant) {
        self.expected.push_back(Link {
            offset: self.sent,
            fingerprint,
            due,
        });
        self.sent += 1;
    }

    /// Compares the next record that was received; returns when it was due, if it is as it must be.
    pub(crate) fn receive(&mut self, offset: u64, fingerprint: u64) -> Option<Instant> {
        self.received += 1;
        self.remember(fingerprint);
        match self.expected.front().copied() {
            Some(link) if link.fingerprint == fingerprint => {
                self.expected.pop_front();
                self.check_place(link, offset);
                Some(link.due)
            }
            _ => {
                self.judge(fingerprint);
                self.shift_unknown = true;
                None
            }
        }
    }

    /// The right record must also lie at the right offset.
    fn check_place(&mut self, link: Link, offset: u64) {
        let shift = i128::from(offset) - i128::from(link.offset);
        if shift != self.shift && !self.shift_unknown {
            self.faults.altered += 1;
        }
        self.shift = shift;
        self.shift_unknown = false;
    }

    fn remember(&mut self, fingerprint: u64) {
        if self.recent.len() == SEARCH_LINKS {
            self.recent.pop_front();
        }
        self.recent.push_back(fingerprint);
    }

    /// Finds out what is wrong with a record that is not the expected one.
    fn judge(&mut self, fingerprint: u64) {
        if let Some(at) = self
            .missing
            .iter()
            .position(|link| link.fingerprint == fingerprint)
        {
            self.missing.swap_remove(at);
            self.faults.reordered += 1;
            return;
        }
        let before = self.recent.len().saturating_sub(1);
        if self
            .recent
            .iter()
            .take(before)
            .any(|&seen| seen == fingerprint)
        {
            self.faults.duplicated += 1;
            return;
        }
        let ahead = self
            .expected
            .iter()
            .take(SEARCH_LINKS)
            .position(|link| link.fingerprint == fingerprint);
        if let Some(distance) = ahead {
            self.missing.extend(self.expected.drain(..distance));
        } else {
            self.faults.altered += 1;
        }
        self.expected.pop_front();
    }

    /// Records that were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Records that were received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Records that are still expected.
    pub(crate) fn outstanding(&self) -> usize {
        self.expected.len()
    }

    /// What is wrong as things stand, records that were jumped over counting as lost.
    pub(crate) fn faults(&self) -> Faults {
        Faults {
            lost: self.faults.lost + self.missing.len() as u64,
            ..self.faults
        }
    }

    /// What is wrong now that nothing more will come.
    pub(crate) fn final_faults(&self) -> Faults {
        let faults = self.faults();
        Faults {
            lost: faults.lost + self.expected.len() as u64,
            ..faults
        }
    }
}

/// What stands for a record in its chain.
pub(crate) fn fingerprint(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(key.len());
    hasher.write(key);
    hasher.write(value);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Chain, Faults, fingerprint};

    /// Sends records 0 to 4 and receives those given, at offsets from 0 up.
    fn received(records: &[u64]) -> Faults {
        let mut chain = Chain::default();
        for record in 0..5 {
            chain.expect(record, Instant::now());
        }
        for (offset, &record) in (0..).zip(records) {
            chain.receive(offset, record);
        }
        chain.final_faults()
    }

    #[test]
    fn what_comes_back_as_sent_is_right() {
        assert!(received(&[0, 1, 2, 3, 4]).none());
    }

    #[test]
    fn every_kind_of_fault_is_told_apart() {
        let none = Faults::default();
        assert_eq!(received(&[0, 1, 3, 4]), Faults { lost: 1, ..none });
        assert_eq!(received(&[0, 1, 2]), Faults { lost: 2, ..none });
        assert_eq!(
            received(&[0, 1, 1, 2, 3, 4]),
            Faults {
                duplicated: 1,
                ..none
            }
        );
        assert_eq!(
            received(&[0, 2, 1, 3, 4]),
            Faults {
                reordered: 1,
                ..none
            }
        );
        assert_eq!(received(&[0, 1, 99, 3, 4]), Faults { altered: 1, ..none });
        assert_eq!(
            received(&[0, 1, 2, 3, 4, 4]),
            Faults {
                duplicated: 1,
                ..none
            }
        );
        assert_eq!(
            received(&[0, 1, 2, 3, 4, 99]),
            Faults { altered: 1, ..none }
        );
    }

    #[test]
    fn right_content_at_a_wrong_offset_is_a_fault() {
        let mut chain = Chain::default();
        chain.expect(7, Instant::now());
        chain.receive(1, 7);
        assert_eq!(
            chain.final_faults(),
            Faults {
                altered: 1,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn key_and_value_cannot_be_exchanged_for_each_other() {
        assert_ne!(fingerprint(b"ab", b"c"), fingerprint(b"a", b"bc"));
        assert_eq!(fingerprint(b"a", b"b"), fingerprint(b"a", b"b"));
    }
}
