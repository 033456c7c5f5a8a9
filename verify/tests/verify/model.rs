//! Histories of a log that does everything right, at random.

use highwater_verify::event::{Bound, Kind, Op, Purpose};
use highwater_verify::{Seen, ValueId};
use proptest::prelude::*;

use crate::story::Story;

/// Who sends.
const PRODUCERS: usize = 3;

/// What happens next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A producer gives a record to its client.
    Send(usize),
    /// A producer's oldest record that is on its way is appended.
    Append(usize),
    /// A producer's oldest record that is appended is acknowledged, or not.
    Settle(usize, bool),
    /// A reader polls at most so many.
    Poll(usize, u64),
    /// The end is asked for.
    List,
    /// Another leader.
    Elect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..PRODUCERS).prop_map(Step::Send),
        4 => (0..PRODUCERS).prop_map(Step::Append),
        4 => (0..PRODUCERS, prop::bool::weighted(0.9)).prop_map(|(p, acked)| Step::Settle(p, acked)),
        2 => (0..2usize, 1..4u64).prop_map(|(reader, most)| Step::Poll(reader, most)),
        2 => Just(Step::List),
        1 => Just(Step::Elect),
    ]
}

#[derive(Debug, Clone, Copy)]
struct OnItsWay {
    value: ValueId,
    invoke: u64,
    offset: Option<u64>,
}

/// A log, its clients, and what they note.
struct Model {
    story: Story,
    now: u64,
    epoch: u32,
    /// Values with their epochs.
    log: Vec<(ValueId, u32)>,
    on_its_way: [Vec<OnItsWay>; PRODUCERS],
    next: [u64; PRODUCERS],
    positions: [u64; 2],
}

impl Model {
    fn step(&mut self, step: &Step) {
        self.now += 10;
        match *step {
            Step::Send(p) => {
                let producer = u32::try_from(p).unwrap();
                self.on_its_way[p].push(OnItsWay {
                    value: ValueId::new(producer, self.next[p]).unwrap(),
                    invoke: self.now,
                    offset: None,
                });
                self.next[p] += 1;
            }
            Step::Append(p) => {
                let end = self.log.len() as u64;
                let waiting = self.on_its_way[p].iter_mut().find(|w| w.offset.is_none());
                if let Some(waiting) = waiting {
                    waiting.offset = Some(end);
                    self.log.push((waiting.value, self.epoch));
                }
            }
            Step::Settle(p, acked) => {
                let first = self.on_its_way[p].first();
                if first.is_some_and(|first| first.offset.is_some()) {
                    let settled = self.on_its_way[p].remove(0);
                    self.settle(settled, acked);
                }
            }
            Step::Poll(reader, most) => self.poll(reader, most),
            Step::List => {
                let (end, times) = (self.log.len() as u64, (self.now, self.now + 1));
                self.tell(|story, epoch| {
                    story.listed(times, Bound::Latest, end, epoch).listed(
                        times,
                        Bound::Earliest,
                        0,
                        epoch,
                    )
                });
            }
            Step::Elect => self.epoch += 1,
        }
    }

    fn tell(&mut self, tell: impl FnOnce(Story, u32) -> Story) {
        let story = std::mem::replace(&mut self.story, Story::new());
        self.story = tell(story, self.epoch);
    }

    fn settle(&mut self, settled: OnItsWay, acked: bool) {
        let times = (settled.invoke, self.now);
        let text = settled.value.to_string();
        self.tell(|story, _| {
            if acked {
                story.acked(times, &text, settled.offset.unwrap())
            } else {
                story.in_doubt(times, &text)
            }
        });
    }

    fn poll(&mut self, reader: usize, most: u64) {
        let position = self.positions[reader];
        let end = self.log.len() as u64;
        // A batch is of one epoch.
        let epoch = self.log.get(position as usize).map(|(_, epoch)| *epoch);
        let same = (position..end)
            .take(most as usize)
            .take_while(|offset| Some(self.log[*offset as usize].1) == epoch)
            .count() as u64;
        let next = position + same;
        self.positions[reader] = next;
        let op = self.poll_op(position, next, Purpose::Follow);
        let times = (self.now, self.now + 1);
        self.tell(|story, _| story.event(&format!("reader-{reader}"), times, Kind::Ok, op));
    }

    fn poll_op(&self, position: u64, next: u64, purpose: Purpose) -> Op {
        let offsets = position..next;
        Op::Poll {
            partition: 0,
            purpose,
            position,
            next,
            seek: false,
            high_watermark: Some(self.log.len() as u64),
            leader_epoch: self
                .log
                .get(position as usize)
                .map(|(_, epoch)| *epoch)
                .filter(|_| next > position),
            records: offsets
                .map(|offset| (offset, Seen::Value(self.log[offset as usize].0)))
                .collect(),
        }
    }

    /// All is settled, and the log is read as a whole.
    fn finish(mut self) -> Story {
        for producer in 0..PRODUCERS {
            for waiting in std::mem::take(&mut self.on_its_way[producer]) {
                self.now += 10;
                self.settle(waiting, waiting.offset.is_some());
            }
        }
        self.now += 10;
        let (end, times) = (self.log.len() as u64, (self.now, self.now + 1));
        let mut position = 0;
        while position < end {
            let op = self.poll_op(position, position + 1, Purpose::Final);
            self.tell(|story, _| story.event("final", times, Kind::Ok, op));
            position += 1;
        }
        for (partition, end) in [(0, end), (1, 0)] {
            let op = Op::FinalRead {
                partition,
                start: 0,
                end,
            };
            self.tell(|story, _| story.event("final", times, Kind::Ok, op));
        }
        self.tell(|story, _| story.event("workload", times, Kind::Ok, Op::End));
        self.story
    }
}

/// A history in which nothing is wrong, with something in it.
pub(crate) fn history() -> impl Strategy<Value = Story> {
    prop::collection::vec(step(), 30..150).prop_map(|steps| {
        let mut model = Model {
            story: Story::new(),
            now: 0,
            epoch: 1,
            log: Vec::new(),
            on_its_way: Default::default(),
            next: [0; PRODUCERS],
            positions: [0; 2],
        };
        // So that there is always something to spoil.
        for first in [
            Step::Send(0),
            Step::Append(0),
            Step::Settle(0, true),
            Step::Send(1),
            Step::Append(1),
            Step::Settle(1, true),
            Step::Poll(0, 3),
            Step::Send(2),
            Step::Append(2),
            Step::Settle(2, true),
            Step::Poll(0, 3),
            Step::List,
            Step::List,
        ] {
            model.step(&first);
        }
        for step in &steps {
            model.step(step);
        }
        model.finish()
    })
}
