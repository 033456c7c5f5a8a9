//! Histories in a few words.

use highwater_verify::event::{Bound, Event, Header, Kind, Moment, Op, Phase, Purpose, Rules};
use highwater_verify::{History, Seen, ValueId, Verdict};

/// Events of one topic. Times are in ns.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) header: Header,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn value(text: &str) -> ValueId {
    text.parse().unwrap()
}

pub(crate) fn records(all: &[(u64, &str)]) -> Vec<(u64, Seen)> {
    all.iter()
        .map(|(offset, text)| (*offset, Seen::try_from((*text).to_owned()).unwrap()))
        .collect()
}

impl Story {
    /// Two partitions, everything promised, and one acknowledged record is enough.
    pub(crate) fn new() -> Self {
        let rules = Rules {
            acked_min: 1,
            heal_ms_max: 1000,
            ..Rules::default()
        };
        Self {
            header: Header {
                history: Header::VERSION,
                topic: "t".to_owned(),
                partitions: 2,
                rules,
                faults_wanted: Vec::new(),
            },
            events: Vec::new(),
        }
    }

    pub(crate) fn event(mut self, process: &str, times: (u64, u64), kind: Kind, op: Op) -> Self {
        self.events.push(Event {
            process: process.to_owned(),
            invoke: Moment::from_ns(times.0),
            complete: Moment::from_ns(times.1),
            kind,
            op,
        });
        self
    }

    fn sent(self, times: (u64, u64), kind: Kind, text: &str, offset: Option<u64>) -> Self {
        let op = Op::Send {
            partition: 0,
            value: value(text),
            offset,
            error: None,
        };
        self.event("producer", times, kind, op)
    }

    /// A record of partition 0 that is acknowledged.
    pub(crate) fn acked(self, times: (u64, u64), text: &str, offset: u64) -> Self {
        self.sent(times, Kind::Ok, text, Some(offset))
    }

    /// One of which the client does not know.
    pub(crate) fn in_doubt(self, times: (u64, u64), text: &str) -> Self {
        self.sent(times, Kind::Info, text, None)
    }

    /// One that was refused.
    pub(crate) fn refused(self, times: (u64, u64), text: &str) -> Self {
        self.sent(times, Kind::Fail, text, None)
    }

    fn poll_op(position: u64, purpose: Purpose, found: &[(u64, &str)]) -> Op {
        Op::Poll {
            partition: 0,
            purpose,
            position,
            next: found.last().map_or(position, |(offset, _)| offset + 1),
            seek: false,
            high_watermark: None,
            leader_epoch: None,
            records: records(found),
        }
    }

    /// A reader of partition 0 goes on from `position`.
    pub(crate) fn polled(self, times: (u64, u64), position: u64, found: &[(u64, &str)]) -> Self {
        let op = Self::poll_op(position, Purpose::Follow, found);
        self.event("reader", times, Kind::Ok, op)
    }

    /// The last event, a poll, was told this as well.
    pub(crate) fn told(mut self, end: u64, epoch: u32) -> Self {
        let last = self.events.last_mut().unwrap();
        let Op::Poll {
            high_watermark,
            leader_epoch,
            ..
        } = &mut last.op
        else {
            panic!("{last:?} is no poll");
        };
        (*high_watermark, *leader_epoch) = (Some(end), Some(epoch));
        self
    }

    /// The end of partition 0, or its start, as told.
    pub(crate) fn listed(self, times: (u64, u64), bound: Bound, offset: u64, epoch: u32) -> Self {
        let op = Op::ListOffsets {
            partition: 0,
            bound,
            offset: Some(offset),
            leader_epoch: Some(epoch),
        };
        self.event("probe", times, Kind::Ok, op)
    }

    /// Partition 0 is read as a whole, from its first record on; partition 1 is empty.
    pub(crate) fn read(self, at: u64, found: &[(u64, &str)]) -> Self {
        let start = found.first().map_or(0, |(offset, _)| *offset);
        let end = found.last().map_or(0, |(offset, _)| offset + 1);
        let op = Self::poll_op(start, Purpose::Final, found);
        let read = |partition, start, end| Op::FinalRead {
            partition,
            start,
            end,
        };
        let process = format!("final-{at}");
        self.event(&process, (at, at + 1), Kind::Ok, op)
            .event(&process, (at, at + 2), Kind::Ok, read(0, start, end))
            .event(&process, (at, at + 2), Kind::Ok, read(1, 0, 0))
            .event("workload", (at + 3, at + 3), Kind::Ok, Op::End)
    }

    pub(crate) fn fault(self, at: u64, fault: &str, phase: Phase) -> Self {
        let op = Op::Fault {
            fault: fault.to_owned(),
            target: "broker 1".to_owned(),
            phase,
        };
        self.event("faults", (at, at), Kind::Ok, op)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let history = History::of(self.header.clone(), self.events.clone()).unwrap();
        Verdict::of(&history)
    }

    /// The checks that find something, by their id.
    pub(crate) fn found(&self) -> Vec<&'static str> {
        let verdict = self.verdict();
        for (check, finding) in verdict.findings() {
            // What is shown must be shown with a reason.
            assert!(!finding.what.is_empty(), "{}", check.id);
        }
        let checks = verdict.checks.iter().filter(|check| check.found > 0);
        checks.map(|check| check.id).collect()
    }

    /// It passes.
    pub(crate) fn accepted(&self) {
        self.verdict().expect_valid();
    }
}
