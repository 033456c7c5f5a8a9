use highwater_protocol::compression::Compression;
use highwater_protocol::error_code::ErrorCode;

use super::*;

fn options() -> QueueOptions {
    QueueOptions {
        limits: BatchLimits {
            bytes: 10_000,
            records: 1,
        },
        linger: Duration::ZERO,
        delivery_timeout: Duration::from_secs(60),
        idempotent: false,
        retry_in_doubt: true,
        backoff: Backoff::default(),
    }
}

struct Bench {
    queue: PartitionQueue,
    options: QueueOptions,
    builders: Builders,
}

impl Bench {
    /// A queue of so many batches of one record each, of which the first `sent` are in flight.
    fn new(batches: u64, sent: u64) -> Self {
        let topic = TopicName::new("t").unwrap();
        let queue = PartitionQueue::new(topic, PartitionId::new(0), false);
        let builders = Builders::new(Compression::None, None, 10_000, 8);
        let mut bench = Self {
            queue,
            options: options(),
            builders,
        };
        for _ in 0..batches {
            bench.push();
        }
        for number in 0..sent {
            assert_eq!(bench.take(), Some(number));
        }
        bench
    }

    fn push(&mut self) {
        let record = RecordSlices {
            value: Some(b"x"),
            ..RecordSlices::default()
        };
        let time = Timestamp::from_millis(1);
        self.queue.push(
            &record,
            time,
            record.charge(),
            &self.options,
            &self.builders,
        );
    }

    fn take(&mut self) -> Option<u64> {
        self.take_on(1)
    }

    fn take_on(&mut self, connection: u64) -> Option<u64> {
        self.queue
            .take(
                connection,
                TopicId::from_bytes([1; 16]),
                &self.options,
                false,
            )
            .map(|sent| sent.number)
    }

    fn answer(&mut self, number: u64, attempt: Attempt) -> Vec<(u64, Outcome)> {
        let finished = self.queue.on_attempt(number, attempt, &self.options);
        finished
            .into_iter()
            .map(|(batch, outcome)| (batch.number, outcome))
            .collect()
    }

    fn appended(&mut self, number: u64) -> Vec<(u64, Outcome)> {
        self.answer(number, Attempt::Appended(Some(Offset::new(number))))
    }

    fn refused(&mut self, number: u64) -> Vec<(u64, Outcome)> {
        self.answer(number, returned(ErrorCode::Busy))
    }

    fn in_doubt(&mut self, number: u64) -> Vec<(u64, Outcome)> {
        self.answer(number, returned(ErrorCode::RequestTimedOut))
    }

    fn retry(&mut self) -> Vec<u64> {
        assert_eq!(
            self.queue.readiness(&self.options, false),
            Readiness::Blocked
        );
        self.queue.release();
        std::iter::from_fn(|| self.take()).collect()
    }
}

fn returned(code: ErrorCode) -> Attempt {
    let error = SendError::Refused {
        topic: TopicName::new("t").unwrap(),
        partition: PartitionId::new(0),
        code,
        message: String::new(),
    };
    Attempt::Returned {
        error,
        needs_newer: None,
    }
}

fn numbers(finished: &[(u64, Outcome)]) -> Vec<u64> {
    finished.iter().map(|(number, _)| *number).collect()
}

#[test]
fn nothing_more_is_sent_once_a_batch_came_back() {
    let mut bench = Bench::new(6, 3);
    assert!(bench.refused(1).is_empty());
    assert_eq!(bench.take(), None, "two are still in flight");
    assert_eq!(numbers(&bench.appended(0)), [0]);
    assert!(bench.refused(2).is_empty());
    assert_eq!(
        bench.retry(),
        [1, 2, 3, 4, 5],
        "in order, and then the rest"
    );
}

#[test]
fn a_refused_batch_behind_which_one_was_appended_is_overtaken() {
    let mut bench = Bench::new(3, 3);
    bench.refused(0);
    let finished = bench.appended(1);
    assert_eq!(numbers(&finished), [1, 0]);
    assert!(matches!(finished[1].1, Err(SendError::Overtaken { .. })));
    bench.refused(2);
    assert_eq!(bench.retry(), [2]);
}

#[test]
fn also_when_the_answers_come_the_other_way_round() {
    let mut bench = Bench::new(2, 2);
    bench.appended(1);
    let finished = bench.refused(0);
    assert!(matches!(
        finished[..],
        [(0, Err(SendError::Overtaken { .. }))]
    ));
    assert_eq!(
        bench.queue.readiness(&bench.options, false),
        Readiness::Later
    );
}

#[test]
fn one_that_may_have_been_appended_overtakes_too() {
    let mut bench = Bench::new(4, 4);
    bench.in_doubt(0);
    bench.refused(1);
    bench.in_doubt(2);
    let finished = bench.refused(3);
    assert_eq!(
        numbers(&finished),
        [1],
        "0 may be there already, 3 lies behind"
    );
    assert_eq!(bench.retry(), [0, 2, 3]);
}

#[test]
fn without_retries_in_doubt_order_is_kept_all_the_same() {
    let mut bench = Bench::new(3, 3);
    bench.options.retry_in_doubt = false;
    bench.refused(0);
    let finished = bench.in_doubt(1);
    assert_eq!(
        numbers(&finished),
        [1, 0],
        "1 may be there, so 0 is too late"
    );
    bench.refused(2);
    assert_eq!(bench.retry(), [2]);
}

#[test]
fn doubt_is_not_forgotten_by_a_later_clean_refusal() {
    let mut bench = Bench::new(1, 1);
    bench.in_doubt(0);
    assert_eq!(bench.retry(), [0]);
    let refused = SendError::Closed;
    let finished = bench.answer(0, Attempt::Failed(refused));
    let [(0, Err(error))] = &finished[..] else {
        panic!("{finished:?}")
    };
    assert!(error.may_have_committed());
    assert!(matches!(error, SendError::Doubtful { .. }));
    assert_eq!(error.code(), "ProducerClosed");
}

#[test]
fn batches_keep_to_one_connection_until_its_answers_are_in() {
    let mut bench = Bench::new(3, 1);
    assert_eq!(bench.take_on(2), None);
    bench.appended(0);
    assert_eq!(bench.take_on(2), Some(1));
}

#[test]
fn an_answer_to_something_unknown_is_ignored() {
    let mut bench = Bench::new(1, 1);
    assert!(bench.appended(7).is_empty());
    assert_eq!(numbers(&bench.appended(0)), [0]);
    assert!(bench.appended(0).is_empty(), "twice");
}

#[test]
fn only_what_is_not_in_flight_expires() {
    let mut bench = Bench::new(3, 1);
    bench.push();
    let later = Instant::now() + Duration::from_secs(120);
    let finished = bench.queue.expire(later, &bench.options);
    assert_eq!(finished.len(), 3);
    for (_, outcome) in &finished {
        let Err(SendError::DeliveryTimedOut {
            attempts: 0,
            may_have_committed: false,
            ..
        }) = outcome
        else {
            panic!("{outcome:?}");
        };
    }
    assert_eq!(numbers(&bench.appended(0)), [0]);
    assert_eq!(bench.queue.charged(), 0);
}

#[test]
fn abandoning_takes_everything_and_tells_what_was_sent() {
    let mut bench = Bench::new(4, 2);
    bench.refused(0);
    let finished = bench.queue.abandon();
    let sent: Vec<bool> = finished
        .iter()
        .map(|(batch, _)| batch.may_be_appended)
        .collect();
    assert_eq!(sent, [false, true, false, false]);
    assert_eq!(bench.queue.charged(), 0);
    assert!(!bench.queue.has_waiting());
    assert!(bench.queue.unresolved().is_empty());
}

#[test]
fn an_idle_queue_sends_at_once_and_a_busy_one_gathers() {
    let mut bench = Bench::new(0, 0);
    bench.options.limits.records = 100;
    assert_eq!(
        bench.queue.readiness(&bench.options, false),
        Readiness::Later
    );
    bench.push();
    assert_eq!(bench.queue.readiness(&bench.options, false), Readiness::Now);
    assert_eq!(bench.take(), Some(0));
    bench.push();
    assert_eq!(
        bench.queue.readiness(&bench.options, false),
        Readiness::Later
    );
    bench.appended(0);
    assert_eq!(bench.queue.readiness(&bench.options, false), Readiness::Now);
}
