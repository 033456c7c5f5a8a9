//! Sends everything, waits for the acknowledgements, reports.

use std::time::{Duration, Instant};

use highwater_client::{Client, Producer, TopicDescription};
use highwater_protocol::limits::BATCH_BYTES_MAX_LIMIT;
use highwater_protocol::messages::Acks;
use serde_json::json;

use super::acknowledgements::Tally;
use super::feed::{Feed, FeedOptions, Flow, Origin, RecordFormat};
use super::input::Input;
use super::line::LineFormat;
use super::{AcksArg, ProduceArgs};
use crate::connect::connect;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Progress;
use crate::topic::partitions_of;

/// How long the end waits longer than a record may take, so that the record's own error is reported
/// and not that of closing.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// Sends everything.
pub(crate) async fn run(args: &ProduceArgs) -> Outcome {
    let input = Input::open(&args.files)?;
    let client = connect(&args.connect).await?;
    check_topic(args, &client).await?;
    let producer = build_producer(args, &client).await?;
    let started = Instant::now();
    let (stopped, feed) = send(args, input, &producer).await?;
    let sent = feed.sent();
    let closed = producer.close(args.connect.timeout + CLOSE_GRACE).await;
    let tally = feed.into_acknowledgements().finish().await;
    let undelivered = closed.err().map(|error| error.to_string());
    report(args, &tally, sent, started.elapsed())?;
    finish(&tally, sent, undelivered, stopped)
}

/// Why no more was read.
enum Stopped {
    /// The input is at its end, or the limit is reached.
    Done,
    /// The user wanted it.
    Interrupted,
    /// The input is wrong, or a record could not be sent.
    Failed(Failure),
}

async fn check_topic(args: &ProduceArgs, client: &Client) -> Result<TopicDescription, Failure> {
    let topic = client
        .admin()
        .describe_topic(args.topic.as_str())
        .await
        .map_err(|error| {
            let failure = Failure::from(error);
            if failure.exit == Exit::NotFound {
                failure.hint(format!(
                    "create it with `highwater topic create {}`",
                    args.topic
                ))
            } else {
                failure
            }
        })?;
    if let Some(partition) = args.partition {
        partitions_of(args.topic.as_str(), topic.partitions.len(), &[partition])?;
    }
    Ok(topic)
}

async fn build_producer(args: &ProduceArgs, client: &Client) -> Result<Producer, Failure> {
    let acks = match args.acks {
        AcksArg::None => Acks::None,
        AcksArg::Leader => Acks::Leader,
        AcksArg::All => Acks::All,
    };
    Ok(client
        .producer()
        .acks(acks)
        .compression(args.compression)
        .linger(args.linger)
        .batch_bytes(args.batch.min(message_bytes_max(args, client).await?))
        .delivery_timeout(args.connect.timeout)
        .build())
}

/// The largest batch that the topic takes.
async fn message_bytes_max(args: &ProduceArgs, client: &Client) -> Result<usize, Failure> {
    let keys = ["max.message.bytes"];
    let configs = client
        .admin()
        .describe_configs(args.topic.as_str(), Some(&keys))
        .await?;
    let value = configs.iter().find(|config| config.key == keys[0]);
    let bytes = value.and_then(|config| highwater_config::units::parse_size(&config.value).ok());
    Ok(bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(usize::MAX))
}

fn feed_options(args: &ProduceArgs) -> FeedOptions {
    let format = if args.from_json {
        RecordFormat::Json
    } else {
        RecordFormat::Line(LineFormat {
            key_separator: args.key_separator.as_deref().map(<[u8]>::to_vec),
            fixed_key: args.key.as_ref().map(|key| key.clone().into_bytes()),
            null: args.null.as_ref().map(|null| null.clone().into_bytes()),
        })
    };
    FeedOptions {
        topic: args.topic.clone(),
        partition: args.partition,
        delimiter: args.delimiter.to_vec(),
        format,
        headers: args
            .headers
            .iter()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
        rate: args.rate,
        limit: args.limit,
    }
}

async fn send(
    args: &ProduceArgs,
    input: Input,
    producer: &Producer,
) -> Result<(Stopped, Feed), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let progress = if input.is_terminal() || args.output.json() {
        Progress::hidden()
    } else {
        Progress::bytes(input.bytes_total())
    };
    let names = input.names();
    let mut feed = Feed::new(feed_options(args), producer.clone());
    if args.limit == Some(0) {
        return Ok((Stopped::Done, feed));
    }
    let mut blocks = input
        .start(args.delimiter.to_vec(), BATCH_BYTES_MAX_LIMIT as usize)
        .map_err(|error| Failure::error(format!("cannot start to read: {error}")))?;
    let stopped = loop {
        let block = tokio::select! {
            biased;
            () = interrupt.wait() => break Stopped::Interrupted,
            block = blocks.recv() => block,
        };
        let block = match block {
            None => break Stopped::Done,
            Some(Err(failure)) => break Stopped::Failed(failure),
            Some(Ok(block)) => block,
        };
        let origin = Origin {
            source: block.source,
            name: &names[block.source],
        };
        match feed.send_block(origin, &block.bytes, &mut interrupt).await {
            Ok(Flow::More) => {}
            Ok(Flow::Enough) if interrupt.is_set() => break Stopped::Interrupted,
            Ok(Flow::Enough) => break Stopped::Done,
            Err(failure) => break Stopped::Failed(failure),
        }
        progress.advance(
            block.bytes.len() as u64,
            feed.acknowledgements().acknowledged(),
        );
    };
    Ok((stopped, feed))
}

/// The line on stderr that every run ends with.
fn report(args: &ProduceArgs, tally: &Tally, sent: u64, took: Duration) -> Result<(), Failure> {
    let seconds = took.as_secs_f64();
    let rate = if seconds > 0.0 {
        tally.acknowledged as f64 / seconds
    } else {
        0.0
    };
    if args.output.json() {
        output::note(json!({
            "records": sent,
            "acknowledged": tally.acknowledged,
            "failed": sent - tally.acknowledged,
            "seconds": seconds,
        }));
        return Ok(());
    }
    let acknowledged = output::count(tally.acknowledged, "record");
    let how = if args.acks == AcksArg::None {
        "sent, unacknowledged (--acks 0)"
    } else {
        "acknowledged"
    };
    output::note(format_args!(
        "{acknowledged} {how} in {seconds:.3} s ({rate:.0} records/s)"
    ));
    Ok(())
}

fn finish(tally: &Tally, sent: u64, undelivered: Option<String>, stopped: Stopped) -> Outcome {
    let lost = sent - tally.acknowledged;
    if lost > 0 {
        let of = format!(
            "{lost} of {} not acknowledged",
            output::count(sent, "record")
        );
        let cause = tally.first_error.clone().map(Failure::from);
        return Err(match cause {
            Some(cause) => Failure {
                message: format!("{of}: {}", cause.message),
                ..cause
            },
            None => Failure::error(format!("{of}: {}", undelivered.unwrap_or_default())),
        });
    }
    match stopped {
        Stopped::Done => Ok(Exit::Ok),
        Stopped::Interrupted => Ok(Exit::Interrupted),
        Stopped::Failed(failure) => Err(failure),
    }
}
