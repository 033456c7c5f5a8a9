//! What happened, as lines: the last ones for whoever looks at a failure, and a hash of all.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// How many lines are kept.
const KEPT: usize = 60;

/// See the module.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    count: u64,
    last: VecDeque<String>,
    is_printed: bool,
}

impl Trace {
    /// An empty one; it prints every line when `is_printed`.
    #[must_use]
    pub fn new(is_printed: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            is_printed,
            ..Self::default()
        }
    }

    /// Notes a line. `now` is virtual time in ms.
    pub(crate) fn note(&mut self, now: u64, what: fmt::Arguments<'_>) {
        let mut line = if self.last.len() < KEPT {
            String::with_capacity(96)
        } else {
            self.last.pop_front().unwrap_or_default()
        };
        line.clear();
        let _ = write!(line, "{now:>6} {what}");
        for byte in line.bytes() {
            // FNV-1a
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.count += 1;
        if self.is_printed {
            println!("{line}");
        }
        self.last.push_back(line);
    }

    /// A hash of all lines so far: two runs that took the same steps have the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last lines.
    #[must_use]
    pub fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
