//! What happens when, in virtual time. Of two things at the same time the one that was scheduled first
//! comes first, so that a run is the same each time.

use std::collections::BTreeMap;

use crate::message::Envelope;

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A message arrives.
    Deliver(Envelope),
    /// Something that a process planned; nothing when that life is over.
    Timer {
        node: usize,
        life: u64,
        timer: Timer,
    },
    /// A client does its next step.
    Client(usize),
    /// A machine that was off is on, and its broker starts.
    Start(usize),
    /// The majority has an entry of the metadata log.
    Committed { number: u64 },
    /// The voters look whether there is a controller.
    Quorum,
    /// A fault.
    Fault(Fault),
    /// Links that were cut work again.
    Mend(u64),
}

/// What a process plans.
#[derive(Debug, Clone)]
pub(crate) enum Timer {
    Heartbeat,
    IsrTick,
    /// The disk has done what it was asked for.
    Disk,
    /// What waits for the disk is asked for by itself now and then.
    Housekeeping,
    /// New metadata comes.
    Metadata,
    /// Time to fetch from this leader.
    Fetch(usize),
    /// A fetch that waited here for records is answered.
    Parked(Envelope),
    /// An answer did not come.
    Overdue(u64),
    /// Proposals may be sent.
    Propose,
    Register,
    /// The controller's own work.
    Upkeep,
    /// An orderly stop takes too long.
    StopAnyway,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Crash,
    Power,
    Outage,
    Pause,
    Cut,
    Controller,
    Move,
    Minimum,
    Election,
    Stop,
    SyncFailure,
    Trim,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
}

impl Schedule {
    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.next += 1;
        self.events.insert((time, self.next), event);
    }

    /// The next event and its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let ((time, _), event) = self.events.pop_first()?;
        Some((time, event))
    }
}
