//! Turns blocks of input into records and hands them to the producer, many in one call.

use std::cell::Cell;
use std::sync::Arc;

use highwater_client::{Producer, RecordSlices};
use highwater_protocol::ids::{PartitionId, Timestamp, TopicName};
use tokio::time::Instant;

use super::acknowledgements::Acknowledgements;
use super::blocks::records;
use super::envelope::{self, JsonRecord};
use super::line::LineFormat;
use super::pace::Rate;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;

/// A header as the client takes it.
type HeaderPair<'a> = (&'a str, Option<&'a [u8]>);

/// How input becomes records, and where they go.
#[derive(Debug)]
pub(crate) struct FeedOptions {
    /// The topic.
    pub(crate) topic: TopicName,
    /// The partition of every record, if there is one for all.
    pub(crate) partition: Option<PartitionId>,
    /// What ends a record.
    pub(crate) delimiter: Vec<u8>,
    /// What a record is.
    pub(crate) format: RecordFormat,
    /// Headers of every record.
    pub(crate) headers: Vec<(String, Option<String>)>,
    /// Send no faster.
    pub(crate) rate: Option<Rate>,
    /// Stop after so many records.
    pub(crate) limit: Option<u64>,
}

/// What a record of the input is.
#[derive(Debug)]
pub(crate) enum RecordFormat {
    /// A line: key and value.
    Line(LineFormat),
    /// A JSON object.
    Json,
}

/// Whether there is more to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Go on.
    More,
    /// Stop: the limit is reached, a record has failed, or the user wants it.
    Enough,
}

/// Where a block is from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// Number of the source.
    pub(crate) source: usize,
    /// What it is called in messages.
    pub(crate) name: &'a str,
}

/// Sends records and remembers how far it has come.
#[derive(Debug)]
pub(crate) struct Feed {
    options: Arc<FeedOptions>,
    producer: Producer,
    acknowledgements: Acknowledgements,
    started: Instant,
    sent: u64,
    /// The source of the last block, and the records of it before the next one.
    source: (usize, u64),
}

impl Feed {
    /// Sends to `producer`.
    pub(crate) fn new(options: FeedOptions, producer: Producer) -> Self {
        Self {
            options: Arc::new(options),
            producer,
            acknowledgements: Acknowledgements::start(),
            started: Instant::now(),
            sent: 0,
            source: (0, 0),
        }
    }

    /// Records handed to the producer.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// What became of them so far.
    pub(crate) fn acknowledgements(&self) -> &Acknowledgements {
        &self.acknowledgements
    }

    /// Gives the acknowledgements away, when everything is sent.
    pub(crate) fn into_acknowledgements(self) -> Acknowledgements {
        self.acknowledgements
    }

    /// Sends the records of a block.
    ///
    /// # Errors
    /// The first record of the block that is none; those before it are sent.
    pub(crate) async fn send_block(
        &mut self,
        origin: Origin<'_>,
        block: &[u8],
        interrupt: &mut Interrupt,
    ) -> Result<Flow, Failure> {
        if origin.source != self.source.0 {
            self.source = (origin.source, 0);
        }
        let options = Arc::clone(&self.options);
        let sent_before = self.sent;
        let fault = Cell::new(None);
        let headers = pairs(&options.headers);
        let lines = records(block, &options.delimiter);
        let flow = match &options.format {
            RecordFormat::Line(format) => {
                let records = lines.map_while(|line| match format.split(line) {
                    Ok((key, value)) => Some(RecordSlices {
                        key,
                        value,
                        headers: &headers,
                        timestamp: None,
                    }),
                    Err(_) => {
                        fault.set(Some("it lacks the key separator".to_owned()));
                        None
                    }
                });
                self.send_records(records, interrupt).await?
            }
            RecordFormat::Json => {
                let parsed: Vec<JsonRecord> = lines
                    .map_while(|line| {
                        envelope::parse(line)
                            .map_err(|error| fault.set(Some(error.to_string())))
                            .ok()
                    })
                    .collect();
                self.send_json(&parsed, &headers, interrupt).await?
            }
        };
        self.source.1 += self.sent - sent_before;
        match fault.into_inner() {
            Some(fault) if flow == Flow::More => {
                let (name, number) = (origin.name, self.source.1 + 1);
                let message = format!("{name}: record {number} is none: {fault}");
                Err(Failure::new(Exit::Error, "invalid_input", message))
            }
            _ => Ok(flow),
        }
    }

    async fn send_json(
        &mut self,
        parsed: &[JsonRecord],
        common: &[HeaderPair<'_>],
        interrupt: &mut Interrupt,
    ) -> Result<Flow, Failure> {
        let headers: Vec<Vec<HeaderPair<'_>>> = parsed
            .iter()
            .map(|record| {
                let own = record.headers.iter();
                let own = own.map(|(name, value)| (name.as_str(), value.as_deref()));
                own.chain(common.iter().copied()).collect()
            })
            .collect();
        let records = parsed
            .iter()
            .zip(&headers)
            .map(|(record, headers)| RecordSlices {
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers,
                timestamp: record.timestamp.map(Timestamp::from_millis),
            });
        self.send_records(records, interrupt).await
    }

    async fn send_records<'a>(
        &mut self,
        records: impl Iterator<Item = RecordSlices<'a>>,
        interrupt: &mut Interrupt,
    ) -> Result<Flow, Failure> {
        let options = Arc::clone(&self.options);
        let left = options
            .limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(self.sent));
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        // Fused, because a line that is no record ends them for good, whatever follows it.
        let mut records = records.fuse().take(left).peekable();
        let group = options.rate.map_or(usize::MAX, Rate::burst);
        while records.peek().is_some() {
            if let Some(rate) = options.rate {
                self.wait_until_due(rate, interrupt).await;
            }
            if interrupt.is_set() || self.acknowledgements.has_failed() {
                return Ok(Flow::Enough);
            }
            let some = records.by_ref().take(group);
            let enqueued = self
                .producer
                .enqueue_many(options.topic.as_str(), options.partition, some)
                .await;
            let (pending, error) = match enqueued {
                Ok(pending) => (Some(pending), None),
                Err(partly) => (partly.enqueued, Some(partly.error)),
            };
            if let Some(pending) = pending {
                self.sent += pending.records();
                self.acknowledgements.expect(pending).await;
            }
            if let Some(error) = error {
                return Err(error.into());
            }
        }
        let enough = options.limit.is_some_and(|limit| self.sent >= limit);
        Ok(if enough { Flow::Enough } else { Flow::More })
    }

    async fn wait_until_due(&self, rate: Rate, interrupt: &mut Interrupt) {
        let Some(due) = self.started.checked_add(rate.due(self.sent)) else {
            return interrupt.wait().await;
        };
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = interrupt.wait() => {}
        }
    }
}

fn pairs(headers: &[(String, Option<String>)]) -> Vec<HeaderPair<'_>> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref().map(str::as_bytes)))
        .collect()
}
