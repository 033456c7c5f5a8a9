//! `highwater log dump`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use highwater_protocol::ids::LeaderEpoch;
use highwater_protocol::record::{BatchRecords, RecordLimits, RecordRef};
use serde_json::{Map, Value, json};

use super::segment_files::{self, failure};
use super::segment_reader::{Found, FoundBatch, SegmentReader};
use crate::base64;
use crate::exit::{Exit, Failure, Outcome};
use crate::moment::format_timestamp;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Files are only read. Damaged batches are shown as such; `highwater log verify` looks for everything
that can be wrong.

Examples:
  highwater log dump highwater-data
  highwater log dump highwater-data/6f1c…-0/00000000000000000000.log
  highwater log dump DIR --records -o json | jq .value")]
pub(super) struct DumpArgs {
    /// Segment files, partition directories, or a data directory
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// One line for every record, not for every batch
    #[arg(long)]
    records: bool,
    /// Stop after so many batches
    #[arg(short = 'n', long = "number", value_name = "COUNT")]
    limit: Option<u64>,
}

pub(super) fn run(args: &DumpArgs, json: bool) -> Outcome {
    let files = segment_files::find(&args.paths)?;
    let mut dump = Dump {
        out: io::BufWriter::new(io::stdout().lock()),
        json,
        records: args.records,
        left: args.limit.unwrap_or(u64::MAX),
        damaged: false,
    };
    match dump.files(&files) {
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(Trouble::Output(error)) => {
            Err(Failure::error(format!("cannot write to stdout: {error}")))
        }
        Err(Trouble::Input(failure)) => Err(failure),
        Ok(()) if dump.damaged => Ok(Exit::Findings),
        Ok(()) => Ok(Exit::Ok),
    }
}

enum Trouble {
    Input(Failure),
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

struct Dump<W: Write> {
    out: W,
    json: bool,
    records: bool,
    /// Batches that may still be shown.
    left: u64,
    damaged: bool,
}

impl<W: Write> Dump<W> {
    fn files(&mut self, files: &[PathBuf]) -> Result<(), Trouble> {
        for file in files {
            self.file(file)?;
        }
        self.out.flush()?;
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Trouble> {
        let unreadable = |error: io::Error| Trouble::Input(failure(path, &error));
        let mut reader = SegmentReader::open(path).map_err(unreadable)?;
        if !self.json {
            writeln!(self.out, "{}", path.display())?;
            if !self.records {
                writeln!(self.out, "{HEADINGS}")?;
            }
        }
        while self.left > 0 {
            match reader.next().map_err(unreadable)? {
                None => break,
                Some(Found::Batch(batch)) => {
                    self.left -= 1;
                    self.damaged |= batch.damage.is_some();
                    self.batch(path, &batch)?;
                }
                Some(Found::Garbage { position, problem }) => {
                    self.damaged = true;
                    self.garbage(path, position, &problem)?;
                }
            }
        }
        if !self.json {
            writeln!(self.out)?;
        }
        Ok(())
    }

    fn batch(&mut self, path: &Path, batch: &FoundBatch) -> Result<(), Trouble> {
        if self.records {
            return self.batch_records(path, batch);
        }
        let header = &batch.header;
        if self.json {
            let line = json!({
                "file": path.display().to_string(),
                "position": batch.position,
                "base_offset": header.base_offset.get(),
                "last_offset": header.last_offset().get(),
                "records": header.record_count,
                "bytes": header.batch_bytes,
                "leader_epoch": header.leader_epoch.map(LeaderEpoch::get),
                "compression": header.compression.to_string(),
                "base_timestamp": header.base_timestamp.millis(),
                "max_timestamp": header.max_timestamp.millis(),
                "crc": format!("{:08x}", header.crc),
                "damage": batch.damage.as_ref().map(ToString::to_string),
            });
            writeln!(self.out, "{line}")?;
            return Ok(());
        }
        let epoch = header
            .leader_epoch
            .map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        let damage = match &batch.damage {
            Some(damage) => format!("  DAMAGED: {damage}"),
            None => String::new(),
        };
        writeln!(
            self.out,
            "{:>12} {:>12} {:>12} {:>9} {:>10} {:>6}  {:<6}  {:08x}  {}{damage}",
            batch.position,
            header.base_offset,
            header.last_offset(),
            header.record_count,
            header.batch_bytes,
            epoch,
            header.compression.to_string(),
            header.crc,
            format_timestamp(header.max_timestamp),
        )?;
        Ok(())
    }

    fn batch_records(&mut self, path: &Path, batch: &FoundBatch) -> Result<(), Trouble> {
        if let Some(damage) = &batch.damage {
            return self.garbage(path, batch.position, &damage.to_string());
        }
        let limits = RecordLimits::default();
        let records = match BatchRecords::open(batch.bytes.clone(), limits) {
            Ok(records) => records,
            Err(error) => {
                self.damaged = true;
                return self.garbage(path, batch.position, &error.to_string());
            }
        };
        for record in &records {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    self.damaged = true;
                    return self.garbage(path, batch.position, &error.to_string());
                }
            };
            if self.json {
                writeln!(self.out, "{}", record_json(path, &record))?;
            } else {
                let (key, value) = (shown(record.key), shown(record.value));
                let time = format_timestamp(record.timestamp);
                writeln!(self.out, "{:>12}  {time}  {key}  {value}", record.offset)?;
            }
        }
        Ok(())
    }

    fn garbage(&mut self, path: &Path, position: u64, problem: &str) -> Result<(), Trouble> {
        if self.json {
            let file = path.display().to_string();
            let line = json!({ "file": file, "position": position, "damage": problem });
            writeln!(self.out, "{line}")?;
        } else {
            writeln!(self.out, "{position:>12} DAMAGED: {problem}")?;
        }
        Ok(())
    }
}

const HEADINGS: &str =
    "    POSITION         BASE         LAST   RECORDS      BYTES  EPOCH  CODEC   CRC       NEWEST";

/// A record as an object, with the same rules as `consume --output json`.
fn record_json(path: &Path, record: &RecordRef<'_>) -> Value {
    let mut object = Map::new();
    object.insert("file".to_owned(), path.display().to_string().into());
    object.insert("offset".to_owned(), record.offset.get().into());
    object.insert("timestamp".to_owned(), record.timestamp.millis().into());
    insert_bytes(&mut object, "key", record.key);
    insert_bytes(&mut object, "value", record.value);
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|(name, value)| {
            let mut header = Map::new();
            header.insert("name".to_owned(), name.into());
            insert_bytes(&mut header, "value", value);
            Value::Object(header)
        });
        object.insert("headers".to_owned(), headers.collect());
    }
    Value::Object(object)
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => {
            let encoded = base64::encode(bytes.unwrap_or_default());
            object.insert(format!("{name}_base64"), encoded.into())
        }
    };
}

/// Bytes as text in quotes, cut where it gets long.
fn shown(bytes: Option<&[u8]>) -> String {
    const BYTES_MAX: usize = 200;
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    let cut = &bytes[..bytes.len().min(BYTES_MAX)];
    let more = if cut.len() < bytes.len() {
        format!("… ({})", output::bytes(bytes.len() as u64))
    } else {
        String::new()
    };
    format!("\"{}\"{more}", cut.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_without_harm() {
        assert_eq!(shown(None), "null");
        assert_eq!(shown(Some(b"a\"\x1b\xff")), "\"a\\\"\\x1b\\xff\"");
        assert!(shown(Some(&[b'x'; 500])).ends_with("… (500 B)"));
    }
}
