//! `highwater topic trim`

use clap::Args;
use highwater_protocol::ids::{Offset, PartitionId, Timestamp};
use highwater_protocol::messages::OffsetSpec;
use serde_json::json;

use super::bounds::{offsets, partition_bounds};
use super::{Context, select_partitions};
use crate::connect::confirm;
use crate::exit::{Exit, Failure, Outcome};
use crate::moment::{Moment, now};
use crate::output::{self, Column, Rows};

#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal it asks first; -y skips that. Disk space is freed by whole segments, the records are
gone at once.

Examples:
  highwater topic trim orders --before 1000 -p 0
  highwater topic trim orders --before @-7d
  highwater topic trim orders --before end                everything there is
  highwater topic trim orders --before @2026-01-01 --dry-run")]
pub(super) struct TrimArgs {
    /// Name of the topic
    #[arg(value_name = "NAME")]
    name: String,
    /// The first record to keep: an offset, @TIME, or end
    #[arg(long, value_name = "WHERE", value_parser = parse_before)]
    before: Before,
    /// Only these partitions; may be given several times, or separated by commas
    #[arg(
        short = 'p',
        long = "partition",
        value_name = "N",
        value_delimiter = ','
    )]
    partitions: Vec<PartitionId>,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
}

/// The first record to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Offset(Offset),
    Time(Timestamp),
    End,
}

fn parse_before(text: &str) -> Result<Before, String> {
    const FORM: &str = "write an offset, @TIME or end";
    if text == "end" {
        return Ok(Before::End);
    }
    match text.strip_prefix('@') {
        Some(time) => Moment::parse(time)
            .map(|moment| Before::Time(moment.at(now())))
            .map_err(|error| error.to_string()),
        None => match text.parse::<u64>() {
            Ok(offset) if offset <= Offset::MAX.get() && !text.starts_with('+') => {
                Ok(Before::Offset(Offset::new(offset)))
            }
            _ => Err(FORM.to_owned()),
        },
    }
}

/// What is trimmed of a partition.
struct Cut {
    partition: PartitionId,
    start: Offset,
    to: Offset,
}

impl Cut {
    fn records(&self) -> u64 {
        self.to.records_since(self.start)
    }
}

pub(super) async fn run(args: &TrimArgs, context: &Context) -> Outcome {
    let cuts = plan(args, context).await?;
    let records: u64 = cuts.iter().map(Cut::records).sum();
    if args.dry_run || records == 0 {
        show(&cuts, false, context)?;
        return Ok(Exit::Ok);
    }
    let counted = output::count(records, "record");
    confirm(
        &format!("Delete {counted} of {}, for good?", args.name),
        args.yes,
    )?;
    let wanted: Vec<_> = cuts
        .iter()
        .filter(|cut| cut.records() > 0)
        .map(|cut| (cut.partition, Some(cut.to)))
        .collect();
    context
        .client
        .admin()
        .delete_records(&args.name, &wanted)
        .await?;
    show(&cuts, true, context)?;
    Ok(Exit::Ok)
}

async fn plan(args: &TrimArgs, context: &Context) -> Result<Vec<Cut>, Failure> {
    let admin = context.client.admin();
    let partitions = select_partitions(context, &args.name, &args.partitions).await?;
    let bounds = partition_bounds(&admin, &args.name, &partitions).await?;
    let at_time = match args.before {
        Before::Time(time) => {
            offsets(&admin, &args.name, &partitions, OffsetSpec::At(time)).await?
        }
        Before::Offset(_) | Before::End => Default::default(),
    };
    bounds
        .iter()
        .map(|(partition, bounds)| {
            let to = match args.before {
                Before::Offset(offset) => offset,
                Before::End => bounds.end,
                // No record that new: all are older.
                Before::Time(_) => at_time.get(partition).copied().unwrap_or(bounds.end),
            };
            if to > bounds.end {
                let message = format!(
                    "{}/{partition} ends at offset {}: cannot trim before {to}",
                    args.name, bounds.end
                );
                return Err(Failure::new(Exit::Error, "OffsetOutOfRange", message)
                    .hint("-p chooses partitions; --before end deletes everything there is"));
            }
            Ok(Cut {
                partition: *partition,
                start: bounds.start,
                to: to.max(bounds.start),
            })
        })
        .collect()
}

fn show(cuts: &[Cut], done: bool, context: &Context) -> Result<(), Failure> {
    if context.json {
        let list: Vec<_> = cuts
            .iter()
            .map(|cut| {
                json!({
                    "partition": cut.partition.get(),
                    "start_offset_before": cut.start.get(),
                    "start_offset": cut.to.get(),
                    "records": cut.records(),
                    "trimmed": done,
                })
            })
            .collect();
        return output::print_json(&list);
    }
    let mut rows = Rows::new(&[
        Column::Number("PARTITION"),
        Column::Number("START BEFORE"),
        Column::Number("START"),
        Column::Number(if done {
            "RECORDS DELETED"
        } else {
            "RECORDS TO DELETE"
        }),
    ]);
    for cut in cuts {
        rows.push([
            cut.partition.to_string(),
            cut.start.to_string(),
            cut.to.to_string(),
            cut.records().to_string(),
        ]);
    }
    output::print(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_typed() {
        assert_eq!(parse_before("end"), Ok(Before::End));
        assert_eq!(parse_before("7"), Ok(Before::Offset(Offset::new(7))));
        assert!(matches!(parse_before("@-7d"), Ok(Before::Time(_))));
        for bad in ["", "start", "-1", "+1", "@", "9223372036854775808"] {
            assert!(parse_before(bad).is_err(), "{bad}");
        }
    }
}
