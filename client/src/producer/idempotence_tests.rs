//! An idempotent producer's partition against a broker that keeps the rules, over a network that
//! loses answers and connections, and brings requests of lost ones late.

use std::collections::VecDeque;

use highwater_protocol::compression::Compression;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{ProducerEpoch, ProducerId};
use highwater_protocol::record::BatchRecords;
use highwater_protocol::record_batch::{BatchHeader, verify_batch};
use proptest::prelude::*;

use super::*;

#[path = "../../tests/client/support/producers.rs"]
mod producers;

use producers::{Judgement, Producers};

fn options() -> QueueOptions {
    QueueOptions {
        limits: BatchLimits {
            bytes: 10_000,
            records: 1,
        },
        linger: Duration::ZERO,
        delivery_timeout: Duration::from_secs(60),
        idempotent: true,
        retry_in_doubt: true,
        backoff: Backoff::default(),
    }
}

/// The broker's side of the partition.
#[derive(Debug, Default)]
struct Log {
    producers: Producers,
    values: Vec<u64>,
}

impl Log {
    fn append(&mut self, bytes: &Bytes) -> Result<Offset, ErrorCode> {
        let header = verify_batch(bytes).unwrap();
        match self.producers.judge(&header)? {
            Judgement::Repeated(base) => Ok(base),
            Judgement::Append => {
                let base = Offset::new(self.values.len() as u64);
                self.producers.appended(&header, base);
                self.values.extend(values(bytes));
                Ok(base)
            }
        }
    }
}

fn values(bytes: &Bytes) -> Vec<u64> {
    let records = BatchRecords::open(bytes.clone(), Default::default()).unwrap();
    let text = |value: &[u8]| std::str::from_utf8(value).unwrap().parse().unwrap();
    records
        .iter()
        .map(|record| text(record.unwrap().value.unwrap()))
        .collect()
}

struct Bench {
    queue: PartitionQueue,
    options: QueueOptions,
    builders: Builders,
    log: Log,
    pushed: u64,
    connection: u64,
    topic_id: TopicId,
    next_id: u64,
    /// What was sent on the live connection and not read by the broker yet.
    sent: VecDeque<Sent>,
    /// What was sent on connections that are lost, each in order.
    late: Vec<VecDeque<Bytes>>,
    /// Answers under way.
    answers: VecDeque<(u64, Attempt)>,
    outcomes: Vec<(u64, Outcome)>,
}

impl Bench {
    fn new() -> Self {
        let topic = TopicName::new("t").unwrap();
        Self {
            queue: PartitionQueue::new(topic, PartitionId::new(0), true),
            options: options(),
            builders: Builders::new(Compression::None, None, 10_000, 8),
            log: Log::default(),
            pushed: 0,
            connection: 1,
            topic_id: TopicId::from_bytes([1; 16]),
            next_id: 1,
            sent: VecDeque::new(),
            late: Vec::new(),
            answers: VecDeque::new(),
            outcomes: Vec::new(),
        }
    }

    /// As [`Self::new`], with a first batch acknowledged: its value is 0.
    fn proven() -> Self {
        let mut bench = Self::new();
        bench.push();
        bench.take();
        bench.deliver(None);
        bench.answer();
        assert_eq!(bench.log.values, [0]);
        bench
    }

    fn push(&mut self) {
        let value = self.pushed.to_string();
        self.pushed += 1;
        let record = RecordSlices {
            value: Some(value.as_bytes()),
            ..RecordSlices::default()
        };
        let time = Timestamp::from_millis(1);
        let (options, builders) = (&self.options, &self.builders);
        self.queue
            .push(&record, time, record.charge(), options, builders);
    }

    /// Sends one batch, if one may go.
    fn take(&mut self) -> bool {
        if self.queue.lacks_identity() {
            self.queue.adopt(Identity {
                id: ProducerId::new(self.next_id),
                epoch: ProducerEpoch::new(0),
            });
            self.next_id += 1;
        }
        let sent = self
            .queue
            .take(self.connection, self.topic_id, &self.options, false);
        self.sent.extend(sent);
        assert!(self.queue.in_flight.len() <= 5);
        !self.sent.is_empty()
    }

    /// Sends what may go.
    fn take_all(&mut self) {
        for _ in 0..10 {
            self.take();
        }
    }

    /// The broker reads one request, and refuses it where `refuse` says so.
    fn deliver(&mut self, refuse: Option<ErrorCode>) {
        let Some(sent) = self.sent.pop_front() else {
            return;
        };
        let attempt = match refuse {
            // Appended, but it looks as if that was not certain.
            Some(ErrorCode::RequestTimedOut) => match self.log.append(&sent.bytes) {
                Ok(_) => refused(ErrorCode::RequestTimedOut),
                Err(code) => refused(code),
            },
            Some(code) => refused(code),
            None => match self.log.append(&sent.bytes) {
                Ok(base) => Attempt::Appended(Some(base)),
                Err(ErrorCode::DuplicateSequence) => Attempt::Appended(None),
                Err(code) => refused(code),
            },
        };
        self.answers.push_back((sent.number, attempt));
    }

    fn answer(&mut self) {
        if let Some((number, attempt)) = self.answers.pop_front() {
            self.attempt(number, attempt);
        }
    }

    fn attempt(&mut self, number: u64, attempt: Attempt) {
        let finished = self.queue.on_attempt(number, attempt, &self.options);
        self.finish(finished);
    }

    fn finish(&mut self, finished: Vec<Finished>) {
        for (batch, outcome) in finished {
            let value = values(&batch.bytes)[0];
            self.outcomes.push((value, outcome));
        }
    }

    /// The connection breaks: what the broker has not read yet may still come.
    fn lose_connection(&mut self) {
        self.connection += 1;
        let unread: Vec<Sent> = self.sent.drain(..).collect();
        self.late
            .push(unread.iter().map(|sent| sent.bytes.clone()).collect());
        let open: Vec<u64> = self.queue.in_flight.iter().map(|b| b.number).collect();
        self.answers.clear();
        for number in open {
            self.attempt(number, refused(ErrorCode::RequestTimedOut));
        }
    }

    /// A request of a lost connection arrives.
    fn arrive_late(&mut self, which: usize) {
        if self.late.is_empty() {
            return;
        }
        let which = which % self.late.len();
        if let Some(bytes) = self.late[which].pop_front() {
            // Nobody hears the answer.
            let _ = self.log.append(&bytes);
        }
    }

    /// The delivery timeout of the first batch that is not in flight passes.
    fn give_up_first(&mut self) {
        if let Some(first) = self.queue.ready.front_mut() {
            first.opened_at -= Duration::from_secs(120);
            let finished = self.queue.expire(Instant::now(), &self.options);
            self.finish(finished);
        }
    }

    /// Everything goes well from now on, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.queue.release();
            self.take_all();
            self.deliver(None);
            self.answer();
            if !self.queue.has_waiting() && self.queue.in_flight.is_empty() {
                return;
            }
        }
        panic!("stuck: {:?}", self.queue);
    }

    fn outcome(&self, value: u64) -> &Outcome {
        let mut found = self.outcomes.iter().filter(|(v, _)| *v == value);
        let outcome = &found.next().expect("it is resolved").1;
        assert!(found.next().is_none(), "{value} is resolved once");
        outcome
    }

    /// What must hold at every end.
    fn check(&self) {
        let log = &self.log.values;
        assert!(
            log.is_sorted_by(|a, b| a < b),
            "each once and in order: {log:?}"
        );
        for value in 0..self.pushed {
            match self.outcome(value) {
                Ok(offset) => {
                    assert!(log.contains(&value), "{value} is acknowledged: {log:?}");
                    if let Some(offset) = offset {
                        assert_eq!(log[offset.get() as usize], value);
                    }
                }
                Err(error) if !error.may_have_committed() => {
                    assert!(!log.contains(&value), "{value} in spite of {error}");
                }
                Err(_) => {}
            }
        }
        assert_eq!(self.queue.charged(), 0);
        assert_eq!(
            self.queue.readiness(&self.options, false),
            Readiness::Later,
            "nothing is left to look after"
        );
    }
}

fn refused(code: ErrorCode) -> Attempt {
    let error = SendError::Refused {
        topic: TopicName::new("t").unwrap(),
        partition: PartitionId::new(0),
        code,
        message: String::new(),
    };
    match code {
        ErrorCode::OutOfOrderSequence => Attempt::OutOfOrder(error),
        ErrorCode::InvalidProducerEpoch => Attempt::Fenced(error),
        code if code.is_retriable() => Attempt::Returned {
            error,
            needs_newer: None,
        },
        _ => Attempt::Failed(error),
    }
}

fn sequence(sent: &Sent) -> (u16, u32) {
    let stamp = BatchHeader::parse(&sent.bytes).unwrap().producer.unwrap();
    (stamp.epoch.get(), stamp.base_sequence.unwrap().get())
}

fn sequences(bench: &Bench) -> Vec<(u16, u32)> {
    bench.sent.iter().map(sequence).collect()
}

#[test]
fn one_batch_is_in_flight_until_the_broker_knows_the_producer() {
    let mut bench = Bench::new();
    (0..9).for_each(|_| bench.push());
    bench.take_all();
    assert_eq!(sequences(&bench), [(0, 0)]);
    bench.deliver(None);
    bench.answer();
    bench.take_all();
    assert_eq!(sequences(&bench), [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
    bench.settle();
    bench.check();
    assert_eq!(bench.log.values.len(), 9);
}

#[test]
fn one_batch_is_in_flight_until_the_next_leader_knows_the_producer() {
    let mut bench = Bench::proven();
    (0..3).for_each(|_| bench.push());
    bench.take_all();
    assert_eq!(sequences(&bench), [(0, 1), (0, 2), (0, 3)]);
    bench.lose_connection();
    // What the old leader acknowledged alone is gone, and with it all that is known of the producer.
    bench.log = Log::default();
    bench.queue.release();
    bench.take_all();
    bench.deliver(Some(ErrorCode::NotLeader));
    // Whatever else was sent on its heels is taken: the leadership has begun meanwhile.
    while !bench.sent.is_empty() {
        bench.deliver(None);
    }
    while !bench.answers.is_empty() {
        bench.answer();
    }
    bench.settle();
    assert_eq!(bench.log.values, [1, 2, 3]);
    for value in 1..=3 {
        assert!(bench.outcome(value).is_ok(), "{value}");
    }
}

#[test]
fn an_attempt_in_doubt_is_repeated_byte_for_byte() {
    let mut bench = Bench::proven();
    bench.push();
    bench.take();
    let first = bench.sent[0].bytes.clone();
    bench.deliver(Some(ErrorCode::RequestTimedOut));
    bench.answer();
    bench.queue.release();
    bench.take();
    assert_eq!(bench.sent[0].bytes, first);
    bench.settle();
    bench.check();
    assert_eq!(bench.log.values, [0, 1]);
    assert_eq!(bench.outcome(1).as_ref().unwrap().unwrap().get(), 1);
}

#[test]
fn batches_behind_a_refused_one_go_again_behind_it() {
    let mut bench = Bench::proven();
    (0..4).for_each(|_| bench.push());
    bench.take_all();
    bench.deliver(Some(ErrorCode::DiskFull));
    (0..3).for_each(|_| bench.deliver(None));
    (0..4).for_each(|_| bench.answer());
    bench.queue.release();
    bench.take_all();
    assert_eq!(sequences(&bench), [(0, 1), (0, 2), (0, 3), (0, 4)]);
    bench.settle();
    bench.check();
    assert_eq!(bench.log.values, [0, 1, 2, 3, 4]);
}

#[test]
fn a_batch_that_fails_for_good_makes_the_sequence_start_over() {
    let mut bench = Bench::proven();
    (0..3).for_each(|_| bench.push());
    bench.take_all();
    bench.deliver(Some(ErrorCode::BatchTooLarge));
    (0..2).for_each(|_| bench.deliver(None));
    (0..3).for_each(|_| bench.answer());
    bench.settle();
    bench.check();
    assert_eq!(bench.log.values, [0, 2, 3]);
    assert!(!bench.outcome(1).as_ref().unwrap_err().may_have_committed());
    bench.push();
    bench.take();
    assert_eq!(sequences(&bench), [(1, 2)], "the next epoch, from 0");
}

#[test]
fn what_was_given_up_in_doubt_is_fenced_by_the_next_epoch() {
    let mut bench = Bench::proven();
    bench.push();
    bench.take();
    bench.lose_connection();
    bench.give_up_first();
    assert!(bench.outcome(1).as_ref().unwrap_err().may_have_committed());
    bench.push();
    bench.take();
    assert_eq!(sequences(&bench), [(1, 0)]);
    bench.settle();
    bench.arrive_late(0);
    assert_eq!(bench.log.values, [0, 2]);
}

#[test]
fn what_was_given_up_in_doubt_and_is_there_leaves_no_hole() {
    let mut bench = Bench::proven();
    (0..2).for_each(|_| bench.push());
    bench.take_all();
    bench.deliver(None);
    bench.deliver(None);
    bench.lose_connection();
    bench.give_up_first();
    bench.settle();
    bench.check();
    assert_eq!(bench.log.values, [0, 1, 2]);
    bench.push();
    bench.take();
    assert_eq!(sequences(&bench), [(0, 3)], "the sequence goes on");
}

#[test]
fn behind_a_doubtful_one_that_is_missing_nothing_in_doubt_gets_new_numbers() {
    let mut bench = Bench::proven();
    (0..3).for_each(|_| bench.push());
    bench.take();
    bench.take();
    bench.lose_connection();
    bench.give_up_first();
    bench.queue.release();
    bench.take_all();
    assert_eq!(sequences(&bench), [(0, 2)]);
    bench.deliver(None);
    // Now both requests of the lost connection come after all.
    bench.arrive_late(0);
    bench.arrive_late(0);
    bench.answer();
    bench.settle();
    bench.check();
    assert_eq!(bench.log.values, [0, 1, 2, 3]);
    assert!(bench.outcome(2).as_ref().unwrap_err().may_have_committed());
    assert!(bench.outcome(3).is_ok());
}

#[test]
fn another_log_has_another_sequence() {
    let mut bench = Bench::proven();
    (0..2).for_each(|_| bench.push());
    bench.take();
    bench.topic_id = TopicId::from_bytes([2; 16]);
    assert!(!bench.queue.in_flight.is_empty());
    bench.take_all();
    assert_eq!(bench.sent.len(), 1, "not before the answers");
    bench.deliver(Some(ErrorCode::UnknownTopicId));
    bench.answer();
    bench.log = Log::default();
    bench.queue.release();
    bench.take_all();
    assert_eq!(sequences(&bench), [(0, 0)]);
    bench.settle();
    assert_eq!(bench.log.values, [1, 2]);
}

#[test]
fn a_broker_that_lost_everything_is_begun_with_anew() {
    let mut bench = Bench::proven();
    (0..2).for_each(|_| bench.push());
    bench.take();
    bench.deliver(None);
    bench.answer();
    // Not even the acknowledged batch is there: a leader with a shorter log.
    bench.log = Log::default();
    let (header, base) = (bench.take(), Offset::ZERO);
    assert!(header);
    let old = BatchHeader::parse(&bench.sent[0].bytes).unwrap();
    let mut first = old;
    if let Some(stamp) = &mut first.producer {
        stamp.base_sequence = Some(highwater_protocol::ids::Sequence::new(0));
    }
    bench.log.producers.appended(&first, base);
    bench.settle();
    assert_eq!(bench.log.values, [2]);
    assert!(bench.outcome(2).is_ok());
}

#[test]
fn a_fenced_id_is_replaced() {
    let mut bench = Bench::proven();
    (0..2).for_each(|_| bench.push());
    bench.take();
    bench.deliver(Some(ErrorCode::InvalidProducerEpoch));
    bench.answer();
    assert!(bench.outcome(1).is_err());
    assert!(
        bench
            .queue
            .take(1, bench.topic_id, &bench.options, false)
            .is_none()
    );
    assert!(bench.queue.lacks_identity());
    assert_eq!(bench.queue.used_up_identity(), Some(ProducerId::new(1)));
    bench.settle();
    bench.check();
    assert_eq!(bench.log.values, [0, 2]);
    assert_eq!(bench.next_id, 3);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Push,
    Take,
    Release,
    Deliver,
    Refuse(ErrorCode),
    Answer,
    AnswerLast,
    LoseConnection,
    ArriveLate(usize),
    GiveUpFirst,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Push),
        8 => Just(Step::Take),
        4 => Just(Step::Release),
        8 => Just(Step::Deliver),
        1 => Just(Step::Refuse(ErrorCode::Busy)),
        1 => Just(Step::Refuse(ErrorCode::NotLeader)),
        1 => Just(Step::Refuse(ErrorCode::RequestTimedOut)),
        1 => Just(Step::Refuse(ErrorCode::BatchTooLarge)),
        7 => Just(Step::Answer),
        2 => Just(Step::AnswerLast),
        1 => Just(Step::LoseConnection),
        3 => (0_usize..8).prop_map(Step::ArriveLate),
        1 => Just(Step::GiveUpFirst),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the network does, the log has every acknowledged record, each once, in order.
    #[test]
    fn each_once_and_in_order(steps in steps()) {
        let mut bench = Bench::new();
        for step in steps {
            match step {
                Step::Push => bench.push(),
                Step::Take => { bench.take(); }
                Step::Release => bench.queue.release(),
                Step::Deliver => bench.deliver(None),
                Step::Refuse(code) => bench.deliver(Some(code)),
                Step::Answer => bench.answer(),
                Step::AnswerLast => {
                    if let Some((number, attempt)) = bench.answers.pop_back() {
                        bench.attempt(number, attempt);
                    }
                }
                Step::LoseConnection => bench.lose_connection(),
                Step::ArriveLate(which) => bench.arrive_late(which),
                Step::GiveUpFirst => bench.give_up_first(),
            }
            let log = &bench.log.values;
            prop_assert!(log.is_sorted_by(|a, b| a < b), "{log:?}");
        }
        bench.settle();
        bench.check();
        for which in 0..1000 {
            bench.arrive_late(which);
        }
        let log = &bench.log.values;
        prop_assert!(log.is_sorted_by(|a, b| a < b), "{log:?}");
    }
}
