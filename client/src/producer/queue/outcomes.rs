//! What attempts come to: which batches are done, which go again, which are given up.

use std::collections::VecDeque;

use highwater_protocol::error_code::ErrorCode;
use tokio::time::Instant;

use super::super::ack::Outcome;
use super::super::batch::Batch;
use super::super::sequences::Sequences;
use super::{Attempt, Finished, PartitionQueue, QueueOptions};
use crate::error::SendError;

impl PartitionQueue {
    /// Takes in what an attempt came to. Returns the batches that are done now.
    pub(in crate::producer) fn on_attempt(
        &mut self,
        number: u64,
        attempt: Attempt,
        options: &QueueOptions,
    ) -> Vec<Finished> {
        // Gone already when the producer was closed meanwhile.
        let Some(at) = self.in_flight.iter().position(|b| b.number == number) else {
            return Vec::new();
        };
        let Some(mut batch) = self.in_flight.remove(at) else {
            return Vec::new();
        };
        let mut finished = Vec::new();
        match attempt {
            Attempt::Appended(offset) => {
                if let Some(sequences) = &mut self.sequences {
                    sequences.appended(number, Instant::now());
                }
                self.finish(batch, Ok(offset), &mut finished);
                self.passed(number, &mut finished);
            }
            Attempt::Failed(error) => self.finish(batch, Err(error), &mut finished),
            Attempt::Returned { error, .. }
                if error.may_have_committed() && !options.retry_in_doubt =>
            {
                self.finish(batch, Err(error), &mut finished);
                self.passed(number, &mut finished);
            }
            Attempt::Returned { error, needs_newer } => {
                let doubt = error.may_have_committed();
                batch.may_be_appended |= doubt;
                // A broker that has lost a leadership has mostly appended nothing.
                batch.in_doubt = doubt && error.broker_code() != Some(ErrorCode::NotLeader);
                batch.last_error = Some(error);
                self.needs_newer = self.needs_newer.max(needs_newer);
                if self.sequences.is_none() && self.appended > Some(number) {
                    self.overtaken(batch, &mut finished);
                } else {
                    self.returned.push(batch);
                }
            }
            Attempt::OutOfOrder(error) => {
                batch.in_doubt = false;
                batch.last_error = Some(error);
                if let Some(sequences) = &mut self.sequences
                    && batch.first
                {
                    sequences.refuse();
                }
                self.returned.push(batch);
            }
            Attempt::Fenced(error) => {
                if let Some(sequences) = &mut self.sequences {
                    sequences.fence();
                }
                self.finish(batch, Err(error), &mut finished);
            }
        }
        self.line_up_returned(options, &mut finished);
        finished
    }

    /// A batch is, or may be, in the log for good: those before it that came back are too late.
    fn passed(&mut self, number: u64, finished: &mut Vec<Finished>) {
        self.appended = self.appended.max(Some(number));
        if self.sequences.is_some() {
            // Those before it are there too: trying again tells where.
            return;
        }
        let (overtaken, waiting): (Vec<Batch>, Vec<Batch>) =
            self.returned.drain(..).partition(|b| b.number < number);
        self.returned = waiting;
        for batch in overtaken {
            self.overtaken(batch, finished);
        }
    }

    /// Once nothing is in flight any more, what came back goes to the front again.
    fn line_up_returned(&mut self, options: &QueueOptions, finished: &mut Vec<Finished>) {
        if !self.in_flight.is_empty() {
            return;
        }
        if !self.returned.is_empty() {
            self.return_to_front(options, finished);
        }
        if self.sequences.as_ref().is_some_and(Sequences::are_refused) {
            self.restart_numbers(finished);
        }
        if !self.has_waiting() {
            self.release();
        }
    }

    fn return_to_front(&mut self, options: &QueueOptions, finished: &mut Vec<Finished>) {
        self.returned.sort_unstable_by_key(|batch| batch.number);
        if self.sequences.is_none() {
            self.drop_overtaken(finished);
        }
        let attempts = self.returned.first().map_or(1, |batch| batch.attempts);
        for batch in self.returned.drain(..).rev() {
            self.ready.push_front(batch);
        }
        self.hold_until = Some(Instant::now() + options.backoff.wait(attempts));
    }

    /// The broker lacks what comes before the first batch: what came back gets new numbers.
    fn restart_numbers(&mut self, finished: &mut Vec<Finished>) {
        let doubt = self.sequences.as_ref().is_some_and(Sequences::have_doubt);
        for mut batch in std::mem::take(&mut self.ready) {
            if batch.numbered && self.appended > Some(batch.number) {
                self.overtaken(batch, finished);
            } else if batch.numbered && batch.may_be_appended && doubt {
                // Requests that were taken for lost may still be under way: the one that was given
                // up, and behind it this one. Under new numbers it would be there twice.
                let error = self.cause(&batch);
                self.finish(batch, Err(error), finished);
            } else {
                batch.numbered = false;
                self.ready.push_back(batch);
            }
        }
        if let Some(sequences) = &mut self.sequences {
            sequences.restart();
        }
    }

    /// Gives up what came back and must not go again, because what is or may be in the log lies
    /// behind it.
    fn drop_overtaken(&mut self, finished: &mut Vec<Finished>) {
        // One that surely was not appended must not land behind one that perhaps was.
        let doubtful = self
            .returned
            .iter()
            .rposition(|batch| batch.in_doubt)
            .unwrap_or(0);
        let behind = self.returned.split_off(doubtful);
        let ahead = std::mem::replace(&mut self.returned, behind);
        let (doubtful, overtaken): (Vec<Batch>, Vec<Batch>) =
            ahead.into_iter().partition(|batch| batch.in_doubt);
        self.returned.splice(..0, doubtful);
        for batch in overtaken {
            self.overtaken(batch, finished);
        }
    }

    fn overtaken(&mut self, batch: Batch, finished: &mut Vec<Finished>) {
        let cause = Box::new(self.cause(&batch));
        let (topic, partition) = (self.topic.clone(), self.partition);
        self.finish(
            batch,
            Err(SendError::Overtaken {
                topic,
                partition,
                cause,
            }),
            finished,
        );
    }

    /// What its last attempt met.
    fn cause(&self, batch: &Batch) -> SendError {
        let last = batch.last_error.clone();
        last.unwrap_or_else(|| self.abandoned(batch))
    }

    fn abandoned(&self, batch: &Batch) -> SendError {
        SendError::Abandoned {
            topic: self.topic.clone(),
            partition: self.partition,
            may_have_committed: batch.may_be_appended,
        }
    }

    fn finish(&mut self, batch: Batch, mut outcome: Outcome, finished: &mut Vec<Finished>) {
        self.charged -= batch.charged;
        if let Err(error) = &outcome
            && batch.numbered
            && let Some(sequences) = &mut self.sequences
        {
            let doubtful = batch.may_be_appended || error.may_have_committed();
            sequences.gave_up(batch.number, doubtful);
        }
        if let Err(error) = &outcome
            && batch.may_be_appended
            && !error.may_have_committed()
        {
            outcome = Err(SendError::Doubtful {
                error: Box::new(error.clone()),
            });
        }
        finished.push((batch, outcome));
    }

    /// Gives up the batches whose time is over; those in flight have their own deadlines.
    pub(in crate::producer) fn expire(
        &mut self,
        now: Instant,
        options: &QueueOptions,
    ) -> Vec<Finished> {
        if self
            .next_deadline(options)
            .is_none_or(|deadline| deadline > now)
        {
            return Vec::new();
        }
        let late = |opened_at: Instant| opened_at + options.delivery_timeout <= now;
        if self.open.as_ref().is_some_and(|open| late(open.opened_at)) {
            self.close_open();
        }
        let mut expired = Vec::new();
        let (gone, left): (VecDeque<Batch>, _) = std::mem::take(&mut self.ready)
            .into_iter()
            .partition(|b| late(b.opened_at));
        self.ready = left;
        expired.extend(gone);
        let (gone, left): (Vec<Batch>, _) = std::mem::take(&mut self.returned)
            .into_iter()
            .partition(|b| late(b.opened_at));
        self.returned = left;
        expired.extend(gone);
        let mut finished = Vec::new();
        for batch in expired {
            let error = self.timed_out(&batch, options);
            self.finish(batch, Err(error), &mut finished);
        }
        if !self.has_waiting() {
            self.release();
        }
        finished
    }

    fn timed_out(&self, batch: &Batch, options: &QueueOptions) -> SendError {
        SendError::DeliveryTimedOut {
            topic: self.topic.clone(),
            partition: self.partition,
            after: options.delivery_timeout,
            attempts: batch.attempts,
            may_have_committed: batch.may_be_appended,
            last: batch.last_error.clone().map(Box::new),
        }
    }

    /// Gives up everything that waits, for one reason.
    pub(in crate::producer) fn fail_waiting(&mut self, error: &SendError) -> Vec<Finished> {
        self.close_open();
        let mut finished = Vec::new();
        let waiting = std::mem::take(&mut self.ready).into_iter();
        for batch in waiting
            .chain(std::mem::take(&mut self.returned))
            .collect::<Vec<_>>()
        {
            self.finish(batch, Err(error.clone()), &mut finished);
        }
        self.release();
        finished
    }

    /// Gives up everything, also what is in flight; for closing.
    pub(in crate::producer) fn abandon(&mut self) -> Vec<Finished> {
        self.close_open();
        let mut batches: Vec<Batch> = self.in_flight.drain(..).collect();
        for batch in &mut batches {
            batch.may_be_appended = true;
        }
        batches.append(&mut self.returned);
        batches.extend(self.ready.drain(..));
        batches.sort_unstable_by_key(|batch| batch.number);
        let mut finished = Vec::new();
        for batch in batches {
            let error = self.abandoned(&batch);
            self.finish(batch, Err(error), &mut finished);
        }
        self.release();
        finished
    }
}
