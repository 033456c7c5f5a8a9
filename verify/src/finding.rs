//! What a check has found: where, what, and the operations that contradict each other.

use std::fmt;

use serde::Serialize;

use crate::event::Moment;
use crate::history::{History, Listed, Poll, Sighting, Write};
use crate::value::ValueId;

/// Findings of one check that are kept; the others are counted.
const KEPT_MAX: usize = 10;

/// An operation that a finding rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Who did it.
    pub process: String,
    /// When it was begun, in ns since the history began.
    pub invoke: Option<Moment>,
    /// When it was over.
    pub complete: Moment,
    /// What was done and told.
    pub what: String,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.invoke {
            Some(invoke) => write!(f, "{invoke} - {}", self.complete)?,
            None => write!(f, "{}", self.complete)?,
        }
        write!(f, " {}: {}", self.process, self.what)
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The partition.
    pub partition: u32,
    /// The offset, where it is about one.
    pub offset: Option<u64>,
    /// The value, where it is about one.
    pub value: Option<ValueId>,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The operations that show it.
    pub evidence: Vec<Evidence>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {}", self.partition)?;
        if let Some(offset) = self.offset {
            write!(f, " offset {offset}")?;
        }
        if let Some(value) = self.value {
            write!(f, " value {value}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Gathers the findings of one check.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) kept: Vec<Finding>,
    pub(crate) total: u64,
}

impl Findings {
    /// Adds one; what it says is made only if it is kept.
    pub(crate) fn add(&mut self, finding: impl FnOnce() -> Finding) {
        self.total += 1;
        if self.kept.len() < KEPT_MAX {
            self.kept.push(finding());
        }
    }
}

impl Finding {
    pub(crate) fn at(partition: u32, what: impl Into<String>) -> Self {
        Self {
            partition,
            offset: None,
            value: None,
            what: what.into(),
            evidence: Vec::new(),
        }
    }

    pub(crate) fn offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    pub(crate) fn value(mut self, value: impl Into<Option<ValueId>>) -> Self {
        self.value = value.into();
        self
    }

    pub(crate) fn write(mut self, write: &Write) -> Self {
        let outcome = match (write.kind, write.offset) {
            (crate::event::Kind::Ok, Some(offset)) => format!("acknowledged at offset {offset}"),
            (crate::event::Kind::Ok, None) => "acknowledged".to_owned(),
            (crate::event::Kind::Fail, _) => "refused".to_owned(),
            (crate::event::Kind::Info, _) => "in doubt".to_owned(),
        };
        self.evidence.push(Evidence {
            process: format!("producer-{}", write.value.producer()),
            invoke: Some(write.invoke),
            complete: write.complete,
            what: format!("sent {}: {outcome}", write.value),
        });
        self
    }

    pub(crate) fn sighting(mut self, history: &History, offset: u64, seen: &Sighting) -> Self {
        let value = seen.value.map_or_else(
            || "something that is no value".to_owned(),
            |value| value.to_string(),
        );
        self.evidence.push(Evidence {
            process: history.process(seen.process).to_owned(),
            invoke: None,
            complete: seen.complete,
            what: format!("read {value} at offset {offset}"),
        });
        self
    }

    pub(crate) fn poll(mut self, history: &History, poll: &Poll) -> Self {
        let end = poll
            .high_watermark
            .map_or_else(String::new, |end| format!(", end {end}"));
        self.evidence.push(Evidence {
            process: history.process(poll.process).to_owned(),
            invoke: Some(poll.invoke),
            complete: poll.complete,
            what: format!("polled from {} to {}{end}", poll.position, poll.next),
        });
        self
    }

    pub(crate) fn listed(mut self, history: &History, listed: &Listed) -> Self {
        let epoch = listed
            .leader_epoch
            .map_or_else(String::new, |epoch| format!(", leader epoch {epoch}"));
        self.evidence.push(Evidence {
            process: history.process(listed.process).to_owned(),
            invoke: Some(listed.invoke),
            complete: listed.complete,
            what: format!("was told {:?} = {}{epoch}", listed.bound, listed.offset),
        });
        self
    }
}
