//! Reads, filters, prints, and knows when it is done.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};

use highwater_client::{Client, ReadBatch, Reader, Start};
use highwater_protocol::ids::PartitionId;
use highwater_protocol::messages::OffsetSpec;

use super::ConsumeArgs;
use super::plan::{PartitionFacts, Span};
use super::printer::{Printer, Style};
use super::record_view::RecordView;
use crate::args::OutputFormat;
use crate::connect::connect;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Progress;
use crate::topic::bounds::{offsets, partition_bounds};
use crate::topic::partitions_of;

/// Prints the records.
pub(crate) async fn run(args: &ConsumeArgs) -> Outcome {
    let mut interrupt = Interrupt::listen()?;
    let client = connect(&args.connect).await?;
    let spans = plan(args, &client).await?;
    for span in spans.values().filter(|span| span.missing > 0) {
        output::note(format_args!(
            "note: {}/{}: {} before offset {} are gone",
            args.topic,
            span.partition,
            output::count(span.missing, "record"),
            span.position,
        ));
    }
    let mut consumption = Consumption {
        spans,
        left: args.limit.unwrap_or(u64::MAX),
        printer: Printer::new(style(args), io::stdout()),
        progress: if io::stdout().is_terminal() {
            Progress::hidden()
        } else {
            Progress::bytes(None)
        },
        printed: 0,
    };
    if consumption.is_done() {
        return Ok(Exit::Ok);
    }
    let mut reader = open_reader(args, &client, &consumption.spans).await?;
    consumption.run(&mut reader, &mut interrupt).await
}

fn style(args: &ConsumeArgs) -> Style {
    match (&args.format, args.output) {
        (_, Some(OutputFormat::Json)) => Style::Json,
        (Some(format), _) => Style::Format(format.clone()),
        (None, _) => Style::Value,
    }
}

/// What is read of each partition; partitions of which nothing is wanted are left out.
async fn plan(args: &ConsumeArgs, client: &Client) -> Result<BTreeMap<PartitionId, Span>, Failure> {
    let admin = client.admin();
    let topic = args.topic.as_str();
    let there = admin.describe_topic(topic).await?.partitions.len();
    let partitions = partitions_of(topic, there, &args.partitions)?;
    let bounds = partition_bounds(&admin, topic, &partitions).await?;
    let mut times = Vec::new();
    for time in args.range.times() {
        times.push(offsets(&admin, topic, &partitions, OffsetSpec::At(time)).await?);
    }
    let at = |number: usize, partition: &PartitionId| {
        times
            .get(number)
            .and_then(|offsets: &BTreeMap<_, _>| offsets.get(partition))
            .copied()
    };
    let spans = bounds.iter().map(|(partition, bounds)| {
        let facts = PartitionFacts {
            partition: *partition,
            bounds: *bounds,
            from_time: at(0, partition),
            until_time: at(1, partition),
        };
        (*partition, Span::new(&args.range, args.exit_at_end, &facts))
    });
    let spans: BTreeMap<_, _> = spans.collect();
    Ok(spans
        .into_iter()
        .filter(|(_, span)| !span.is_empty())
        .collect())
}

async fn open_reader(
    args: &ConsumeArgs,
    client: &Client,
    spans: &BTreeMap<PartitionId, Span>,
) -> Result<Reader, Failure> {
    let mut builder = client
        .reader(args.topic.as_str())
        .partitions(spans.keys().copied())
        .retry_timeout(args.connect.timeout);
    for span in spans.values() {
        builder = builder.start_at(span.partition, Start::Offset(span.position));
    }
    Ok(builder.build().await?)
}

/// What is still to be read, and where it goes.
struct Consumption<W> {
    spans: BTreeMap<PartitionId, Span>,
    /// How many records may still be printed.
    left: u64,
    printer: Printer<W>,
    progress: Progress,
    printed: u64,
}

/// Why it cannot go on.
enum Trouble {
    /// Whoever reads the output has enough.
    PipeClosed,
    /// Anything else.
    Failed(Failure),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::PipeClosed
        } else {
            Self::Failed(Failure::error(format!("cannot write to stdout: {error}")))
        }
    }
}

impl<W: Write> Consumption<W> {
    async fn run(&mut self, reader: &mut Reader, interrupt: &mut Interrupt) -> Outcome {
        let result = self.print_all(reader, interrupt).await;
        self.progress.finish();
        // Also behind an error: what was read before it is right.
        let flushed = self.printer.flush().map_err(Trouble::from);
        match result.and(flushed) {
            Ok(()) | Err(Trouble::PipeClosed) => Ok(Exit::Ok),
            Err(Trouble::Failed(failure)) => Err(failure),
        }
    }

    async fn print_all(
        &mut self,
        reader: &mut Reader,
        interrupt: &mut Interrupt,
    ) -> Result<(), Trouble> {
        while !self.is_done() && !interrupt.is_set() {
            let batch = {
                let mut next = std::pin::pin!(reader.next_batch());
                match poll_once(next.as_mut()).await {
                    Some(batch) => batch,
                    None => {
                        // Nothing there right now: show what there is before waiting for more.
                        self.printer.flush()?;
                        tokio::select! {
                            biased;
                            () = interrupt.wait() => return Ok(()),
                            batch = next => batch,
                        }
                    }
                }
            };
            let Some(batch) = batch.map_err(|error| Trouble::Failed(error.into()))? else {
                break;
            };
            if self.print_batch(&batch)? {
                self.spans.remove(&batch.partition());
                reader.pause([batch.partition()]);
            }
        }
        Ok(())
    }

    /// Prints the wanted records of a batch; returns whether its partition is done.
    fn print_batch(&mut self, batch: &ReadBatch) -> Result<bool, Trouble> {
        // Of a partition that is done a batch may still come that was fetched ahead.
        let Some(span) = self.spans.get(&batch.partition()).copied() else {
            return Ok(false);
        };
        let topic = batch.topic().as_str();
        let wants_headers = self.printer.style().wants_headers();
        let mut headers = Vec::new();
        for record in batch.records() {
            let record = record.map_err(|error| Trouble::Failed(error.into()))?;
            if !span.contains(record.offset) {
                continue;
            }
            if self.left == 0 {
                break;
            }
            headers.clear();
            if wants_headers {
                headers.extend(record.headers);
            }
            self.printer.print(&RecordView {
                topic,
                partition: batch.partition(),
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: &headers,
            })?;
            self.left -= 1;
            self.printed += 1;
        }
        self.progress
            .advance(batch.raw().len() as u64, self.printed);
        Ok(span.is_done_at(batch.next_offset()))
    }

    fn is_done(&self) -> bool {
        self.left == 0 || self.spans.is_empty()
    }
}

/// The result of a future that is ready already.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
