//! What the checks need of the events, in little memory: 48 bytes a record sent, about 70 a record read
//! (once, however many readers have seen it), 120 a poll of a reader that follows or probes, 64 an end
//! that was told.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::event::{Bound, Event, Header, Kind, Moment, Op, Phase, Purpose};
use crate::offset_ranges::OffsetRanges;
use crate::value::{Seen, ValueId};

/// Most partitions of a topic.
const PARTITIONS_MAX: u32 = 100_000;

/// Why an event cannot be of a history.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// A partition that the topic does not have.
    #[error("the topic has {partitions} partitions, no partition {partition}")]
    UnknownPartition {
        /// The partition.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// No topic has so many partitions.
    #[error("{partitions} partitions are not between 1 and {PARTITIONS_MAX}")]
    PartitionCount {
        /// How many the header says.
        partitions: u32,
    },
    /// An answer before its question.
    #[error("an operation completes at {complete}, before it is invoked at {invoke}")]
    BackInTime {
        /// When it was asked.
        invoke: Moment,
        /// When it was answered.
        complete: Moment,
    },
}

/// A process, as a number that is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(u32);

/// A record that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// Its value.
    pub value: ValueId,
    /// When it was given to the client.
    pub invoke: Moment,
    /// When the client said what became of it.
    pub complete: Moment,
    /// What became of it.
    pub kind: Kind,
    /// Where it was said to be.
    pub offset: Option<u64>,
}

impl Write {
    /// Whether it was acknowledged.
    #[must_use]
    pub fn is_acked(&self) -> bool {
        self.kind == Kind::Ok
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its value; `None` when the bytes are no value, see [`PartitionHistory::damaged`].
    pub value: Option<ValueId>,
    /// Epoch of the leader that appended it, if known.
    pub leader_epoch: Option<u32>,
    /// Who read it first.
    pub process: ProcessId,
    /// When that was known.
    pub complete: Moment,
}

/// One poll of one reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// Who.
    pub process: ProcessId,
    /// Why.
    pub purpose: Purpose,
    /// When it was asked.
    pub invoke: Moment,
    /// When it was answered.
    pub complete: Moment,
    /// From where on.
    pub position: u64,
    /// Where the reader goes on.
    pub next: u64,
    /// Whether the reader chose its position.
    pub seek: bool,
    /// The end for readers, as told with it.
    pub high_watermark: Option<u64>,
    /// The first record in it that is not at the offset after the one before, or the end of the poll if
    /// that is not behind its last record: what was expected, what was found.
    pub jump: Option<(u64, u64)>,
}

/// An end of a partition that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Who asked.
    pub process: ProcessId,
    /// When it was asked.
    pub invoke: Moment,
    /// When it was answered.
    pub complete: Moment,
    /// Which end.
    pub bound: Bound,
    /// Where it is.
    pub offset: u64,
    /// Epoch of the leader that said so.
    pub leader_epoch: Option<u32>,
}

/// Who has a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// When it was answered.
    pub complete: Moment,
    /// Who leads.
    pub leader: Option<u32>,
    /// Who shall have it.
    pub replicas: Vec<u32>,
    /// Who is in sync.
    pub isr: Vec<u32>,
}

/// A reading of a whole partition after the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalRead {
    /// Who read.
    pub process: ProcessId,
    /// When the reading began.
    pub invoke: Moment,
    /// When it was over.
    pub complete: Moment,
    /// First offset that was there.
    pub start: u64,
    /// The high watermark at its beginning.
    pub end: u64,
}

/// A fault, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub fault: String,
    /// To whom.
    pub target: String,
    /// Broken or mended.
    pub phase: Phase,
    /// Before this it was not so.
    pub invoke: Moment,
    /// From here on it was so.
    pub complete: Moment,
    /// Whether it was done.
    pub kind: Kind,
}

/// All that was seen of one partition.
#[derive(Debug, Clone, Default)]
pub struct PartitionHistory {
    /// Records sent to it, in the order in which they were settled.
    pub writes: Vec<Write>,
    /// The first sighting at each offset.
    pub sightings: BTreeMap<u64, Sighting>,
    /// Sightings of something else at the same offset.
    pub conflicts: Vec<(u64, Sighting)>,
    /// Records that are no value of ours: offset, what it began with, sighting.
    pub damaged: Vec<(u64, String, Sighting)>,
    /// Polls, each reader's in its order.
    pub polls: Vec<Poll>,
    /// Ends that were told.
    pub listed: Vec<Listed>,
    /// Descriptions.
    pub described: Vec<Described>,
    /// Readings of the whole partition.
    pub finals: Vec<FinalRead>,
    /// What each of these has seen.
    final_seen: HashMap<ProcessId, OffsetRanges>,
}

impl PartitionHistory {
    /// Whether a final reading has seen a record at an offset.
    #[must_use]
    pub fn final_saw(&self, read: &FinalRead, offset: u64) -> bool {
        let seen = self.final_seen.get(&read.process);
        seen.is_some_and(|seen| seen.contains(offset))
    }

    /// Everything that was read: the first sighting at each offset and those that contradict it.
    pub fn all_sightings(&self) -> impl Iterator<Item = (u64, &Sighting)> {
        let first = self.sightings.iter().map(|(offset, seen)| (*offset, seen));
        first.chain(self.conflicts.iter().map(|(offset, seen)| (*offset, seen)))
    }

    /// Where each value was read first.
    #[must_use]
    pub fn offsets_by_value(&self) -> HashMap<ValueId, u64> {
        let mut offsets = HashMap::with_capacity(self.sightings.len());
        for (offset, sighting) in self.all_sightings() {
            if let Some(value) = sighting.value {
                offsets.entry(value).or_insert(offset);
            }
        }
        offsets
    }
}

/// What a history comes to, ready to be checked.
#[derive(Debug, Clone)]
pub struct History {
    /// What it is of.
    pub header: Header,
    /// By number.
    pub partitions: Vec<PartitionHistory>,
    /// Faults, in order.
    pub faults: Vec<Fault>,
    /// When all faults were lifted, if that was noted.
    pub settled: Option<Moment>,
    /// Whether every operation that was begun is in it.
    pub is_complete: bool,
    /// Operations of readers and probes that came to nothing.
    pub reads_in_doubt: u64,
    processes: Vec<String>,
    process_ids: HashMap<String, ProcessId>,
}

impl History {
    /// A history in which nothing has happened.
    ///
    /// # Errors
    /// [`HistoryError::PartitionCount`].
    pub fn new(header: Header) -> Result<Self, HistoryError> {
        if !(1..=PARTITIONS_MAX).contains(&header.partitions) {
            return Err(HistoryError::PartitionCount {
                partitions: header.partitions,
            });
        }
        Ok(Self {
            partitions: vec![PartitionHistory::default(); header.partitions as usize],
            header,
            faults: Vec::new(),
            settled: None,
            is_complete: false,
            reads_in_doubt: 0,
            processes: Vec::new(),
            process_ids: HashMap::new(),
        })
    }

    /// A history of these events.
    ///
    /// # Errors
    /// [`HistoryError`] of the first event that cannot be.
    pub fn of(
        header: Header,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Self, HistoryError> {
        let mut history = Self::new(header)?;
        for event in events {
            history.add(event)?;
        }
        Ok(history)
    }

    /// The name of a process.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> &str {
        &self.processes[id.0 as usize]
    }

    /// With the numbers of the partitions.
    pub fn numbered(&self) -> impl Iterator<Item = (u32, &PartitionHistory)> {
        (0u32..).zip(&self.partitions)
    }

    /// Records that were sent.
    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.partitions.iter().flat_map(|p| &p.writes)
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`HistoryError`]; then nothing is added.
    pub fn add(&mut self, event: Event) -> Result<(), HistoryError> {
        let Event {
            process,
            invoke,
            complete,
            kind,
            op,
        } = event;
        if complete < invoke {
            return Err(HistoryError::BackInTime { invoke, complete });
        }
        if let Some(partition) = op.partition()
            && partition >= self.header.partitions
        {
            return Err(HistoryError::UnknownPartition {
                partition,
                partitions: self.header.partitions,
            });
        }
        let is_read = !matches!(
            op,
            Op::Send { .. } | Op::Fault { .. } | Op::Settle | Op::End
        );
        if is_read && kind != Kind::Ok {
            self.reads_in_doubt += 1;
            return Ok(());
        }
        let process = self.intern(process);
        match op {
            Op::Send {
                partition,
                value,
                offset,
                error: _,
            } => self.partition(partition).writes.push(Write {
                value,
                invoke,
                complete,
                kind,
                offset,
            }),
            Op::Poll {
                partition,
                purpose,
                position,
                next,
                seek,
                high_watermark,
                leader_epoch,
                records,
            } => {
                let poll = Poll {
                    process,
                    purpose,
                    invoke,
                    complete,
                    position,
                    next,
                    seek,
                    high_watermark,
                    jump: jump(position, next, &records),
                };
                self.partition(partition)
                    .add_poll(poll, leader_epoch, records);
            }
            Op::ListOffsets {
                partition,
                bound,
                offset,
                leader_epoch,
            } => {
                if let Some(offset) = offset {
                    self.partition(partition).listed.push(Listed {
                        process,
                        invoke,
                        complete,
                        bound,
                        offset,
                        leader_epoch,
                    });
                }
            }
            Op::Describe {
                partition,
                leader,
                replicas,
                isr,
            } => self.partition(partition).described.push(Described {
                complete,
                leader,
                replicas,
                isr,
            }),
            Op::Fault {
                fault,
                target,
                phase,
            } => self.faults.push(Fault {
                fault,
                target,
                phase,
                invoke,
                complete,
                kind,
            }),
            Op::Settle => self.settled = Some(complete),
            Op::FinalRead {
                partition,
                start,
                end,
            } => self.partition(partition).finals.push(FinalRead {
                process,
                invoke,
                complete,
                start,
                end,
            }),
            Op::End => self.is_complete = true,
        }
        Ok(())
    }

    fn partition(&mut self, partition: u32) -> &mut PartitionHistory {
        &mut self.partitions[partition as usize]
    }

    fn intern(&mut self, name: String) -> ProcessId {
        if let Some(id) = self.process_ids.get(&name) {
            return *id;
        }
        let id = ProcessId(u32::try_from(self.processes.len()).unwrap_or(u32::MAX));
        self.processes.push(name.clone());
        self.process_ids.insert(name, id);
        id
    }
}

impl PartitionHistory {
    fn add_poll(&mut self, poll: Poll, leader_epoch: Option<u32>, records: Vec<(u64, Seen)>) {
        if poll.purpose == Purpose::Final {
            let seen = self.final_seen.entry(poll.process).or_default();
            for (offset, _) in &records {
                seen.insert(*offset);
            }
        }
        match self.polls.last_mut() {
            // The last reading is one long poll, as far as it goes on.
            Some(last)
                if poll.purpose == Purpose::Final
                    && (last.purpose, last.process) == (poll.purpose, poll.process)
                    && last.next == poll.position
                    && last.high_watermark == poll.high_watermark
                    && last.jump.is_none()
                    && poll.jump.is_none() =>
            {
                (last.next, last.complete) = (poll.next, poll.complete);
            }
            _ => self.polls.push(poll),
        }
        for (offset, seen) in records {
            let (value, damage) = match seen {
                Seen::Value(value) => (Some(value), None),
                Seen::Damaged(hex) => (None, Some(hex)),
            };
            let sighting = Sighting {
                value,
                leader_epoch,
                process: poll.process,
                complete: poll.complete,
            };
            if let Some(hex) = damage {
                let seen = self.sightings.get(&offset);
                if seen.is_none_or(|seen| seen.value.is_some()) {
                    self.damaged.push((offset, hex, sighting.clone()));
                }
            }
            match self.sightings.get_mut(&offset) {
                None => {
                    self.sightings.insert(offset, sighting);
                }
                Some(first)
                    if first.value == value
                        && (first.leader_epoch == leader_epoch
                            || first.leader_epoch.is_none()
                            || leader_epoch.is_none()) =>
                {
                    first.complete = first.complete.min(sighting.complete);
                    first.leader_epoch = first.leader_epoch.or(leader_epoch);
                }
                Some(_) => self.conflicts.push((offset, sighting)),
            }
        }
    }
}

fn jump(position: u64, next: u64, records: &[(u64, Seen)]) -> Option<(u64, u64)> {
    let mut expected = position;
    for (offset, _) in records {
        if *offset != expected {
            return Some((expected, *offset));
        }
        expected = offset.saturating_add(1);
    }
    (next != expected).then_some((expected, next))
}

impl Op {
    /// The partition that it is about.
    #[must_use]
    pub fn partition(&self) -> Option<u32> {
        match self {
            Self::Send { partition, .. }
            | Self::Poll { partition, .. }
            | Self::ListOffsets { partition, .. }
            | Self::Describe { partition, .. }
            | Self::FinalRead { partition, .. } => Some(*partition),
            Self::Fault { .. } | Self::Settle | Self::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_polls_take_as_little_as_is_said() {
        assert!(size_of::<Write>() <= 48);
        assert!(size_of::<Sighting>() + size_of::<u64>() <= 48);
        assert!(size_of::<Poll>() <= 120);
        assert!(size_of::<Listed>() <= 64);
    }
}
