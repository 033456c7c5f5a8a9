//! `highwater topic offsets`

use clap::Args;
use highwater_client::PartitionOffset;
use highwater_protocol::ids::{Offset, PartitionId, Timestamp};
use highwater_protocol::messages::OffsetSpec;
use serde_json::json;

use super::bounds::{list, partition_bounds};
use super::{Context, select_partitions};
use crate::exit::{Exit, Outcome};
use crate::moment::{Moment, format_timestamp, now};
use crate::output::{self, Column, Rows};

#[derive(Debug, Args)]
#[command(after_help = "\
Without --at: first offset, end and number of records of every partition.

Examples:
  highwater topic offsets orders
  highwater topic offsets orders --at @2026-01-01T00:00Z
  highwater topic offsets orders --at @-1h -p 0,1
  highwater topic offsets orders --at max-ts")]
pub(super) struct OffsetsArgs {
    /// Name of the topic
    #[arg(value_name = "NAME")]
    name: String,
    /// earliest, latest, max-ts (the newest timestamp), or @TIME (the first record at or after)
    #[arg(long, value_name = "WHERE", value_parser = parse_spec)]
    at: Option<OffsetSpec>,
    /// Only these partitions; may be given several times, or separated by commas
    #[arg(
        short = 'p',
        long = "partition",
        value_name = "N",
        value_delimiter = ','
    )]
    partitions: Vec<PartitionId>,
}

fn parse_spec(text: &str) -> Result<OffsetSpec, String> {
    match text {
        "earliest" | "start" => Ok(OffsetSpec::Earliest),
        "latest" | "end" => Ok(OffsetSpec::Latest),
        "max-ts" => Ok(OffsetSpec::MaxTimestamp),
        _ => match text.strip_prefix('@') {
            Some(time) => Moment::parse(time)
                .map(|moment| OffsetSpec::At(moment.at(now())))
                .map_err(|error| error.to_string()),
            None => Err("write earliest, latest, max-ts or @TIME".to_owned()),
        },
    }
}

pub(super) async fn run(args: &OffsetsArgs, context: &Context) -> Outcome {
    let partitions = select_partitions(context, &args.name, &args.partitions).await?;
    match args.at {
        None => run_bounds(args, &partitions, context).await,
        Some(spec) => run_at(args, spec, &partitions, context).await,
    }
}

async fn run_bounds(args: &OffsetsArgs, partitions: &[PartitionId], context: &Context) -> Outcome {
    let bounds = partition_bounds(&context.client.admin(), &args.name, partitions).await?;
    if context.json {
        let list: Vec<_> = bounds
            .iter()
            .map(|(partition, bounds)| {
                json!({
                    "partition": partition.get(),
                    "start_offset": bounds.start.get(),
                    "end_offset": bounds.end.get(),
                    "records": bounds.end.records_since(bounds.start),
                })
            })
            .collect();
        output::print_json(&list)?;
        return Ok(Exit::Ok);
    }
    let mut rows = Rows::new(&[
        Column::Number("PARTITION"),
        Column::Number("START"),
        Column::Number("END"),
        Column::Number("RECORDS"),
    ]);
    for (partition, bounds) in &bounds {
        rows.push([
            partition.to_string(),
            bounds.start.to_string(),
            bounds.end.to_string(),
            bounds.end.records_since(bounds.start).to_string(),
        ]);
    }
    output::print(rows)?;
    Ok(Exit::Ok)
}

async fn run_at(
    args: &OffsetsArgs,
    spec: OffsetSpec,
    partitions: &[PartitionId],
    context: &Context,
) -> Outcome {
    let found = list(&context.client.admin(), &args.name, partitions, spec).await?;
    if context.json {
        let list: Vec<_> = found
            .iter()
            .map(|found| {
                json!({
                    "partition": found.partition.get(),
                    "offset": found.offset.map(Offset::get),
                    "timestamp": found.timestamp.map(Timestamp::millis),
                })
            })
            .collect();
        output::print_json(&list)?;
        return Ok(Exit::Ok);
    }
    let mut rows = Rows::new(&[
        Column::Number("PARTITION"),
        Column::Number("OFFSET"),
        Column::Text("TIME"),
    ]);
    for found in &found {
        rows.push(row(found));
    }
    output::print(rows)?;
    Ok(Exit::Ok)
}

fn row(found: &PartitionOffset) -> [String; 3] {
    [
        found.partition.to_string(),
        found
            .offset
            .map_or_else(|| "none".to_owned(), |offset| offset.to_string()),
        found
            .timestamp
            .map_or_else(|| "-".to_owned(), format_timestamp),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_typed() {
        assert_eq!(parse_spec("earliest"), Ok(OffsetSpec::Earliest));
        assert_eq!(parse_spec("latest"), Ok(OffsetSpec::Latest));
        assert_eq!(parse_spec("max-ts"), Ok(OffsetSpec::MaxTimestamp));
        let midnight = Timestamp::from_millis(1_767_225_600_000);
        assert_eq!(
            parse_spec("@2026-01-01T00:00Z"),
            Ok(OffsetSpec::At(midnight))
        );
        assert!(parse_spec("middle").is_err() && parse_spec("@middle").is_err());
    }
}
