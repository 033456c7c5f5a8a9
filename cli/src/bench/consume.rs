//! `bench consume`: how fast records that are in the page cache come out, every one of them decoded.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_client::{Client, Start};
use highwater_protocol::ids::{Offset, PartitionId};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::bench::args::WorkloadArgs;
use crate::bench::latency::Latencies;
use crate::bench::limit::Limit;
use crate::bench::load::LoadOutcome;
use crate::bench::meter::Meter;
use crate::bench::produce::{load_and_check, plan_of};
use crate::bench::result::{Run, WorkloadReport};
use crate::bench::scratch::Scratch;
use crate::bench::target::Target;
use crate::bench::warm::warm_memory;
use crate::cleanup::Cleanup;

/// A broker that gives nothing for this long has lost something.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the broker's memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Fills the topic once, then measures limit and reader in turn.
pub(crate) fn measure_consume(args: &WorkloadArgs, cleanup: &Cleanup) -> Result<WorkloadReport> {
    let scratch = Scratch::create(args.data_dir.as_deref(), cleanup)?;
    let target = Target::open(args, &scratch, cleanup)?;
    let topic = target.open_topic(args)?;
    let filled = load_and_check(&plan_of(args, &target), &topic)?;
    let records = filled.records + filled.uncounted;
    let mut runs = Vec::new();
    for _ in 0..args.repeat {
        let measured = Limit::Source.measure(&scratch, args, cleanup)?;
        if args.warm {
            warm_memory();
        }
        let outcome = read_all(args, &target, records)?;
        runs.push(Run::new(measured, &outcome, args.size));
    }
    topic.close()?;
    target.close()?;
    WorkloadReport::of("consume", Limit::Source, args, &runs)
}

/// Reads `expected` records from the beginning and checks that they are as they were sent.
fn read_all(args: &WorkloadArgs, target: &Target, expected: u64) -> Result<LoadOutcome> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::builder()
            .seeds(target.seeds().iter().cloned())
            .client_name("highwater-bench")
            .connect()
            .await?;
        let mut reader = client
            .reader(args.topic.as_str())
            .start(Start::Beginning)
            .build()
            .await?;
        let mut check = Check::new(args.size);
        let mut latencies = Latencies::new();
        let mut meter = Meter::start(&target.processes())?;
        let start = Instant::now();
        let mut sampled = start;
        while check.records < expected {
            let asked = Instant::now();
            let batch = timeout(STALL_TIMEOUT, reader.next_batch())
                .await
                .with_context(|| format!("nothing came after {} records", check.records))??
                .context("the reader ended before all records were read")?;
            let records_before = check.records;
            for record in &batch {
                let record = record?;
                check.take(batch.partition(), record.offset, record.value)?;
            }
            latencies.record_many(asked.elapsed(), check.records - records_before);
            if sampled.elapsed() > SAMPLE_INTERVAL {
                meter.sample();
                sampled = Instant::now();
            }
        }
        let elapsed = start.elapsed();
        let usage = meter.stop()?;
        ensure!(
            check.records == expected,
            "{expected} records were sent, but {} came back",
            check.records
        );
        Ok(LoadOutcome {
            records: check.records,
            uncounted: 0,
            elapsed,
            latencies,
            usage,
        })
    })
}

/// Counts records and compares what can be compared without keeping them.
#[derive(Debug)]
struct Check {
    record_bytes: u64,
    records: u64,
    next: HashMap<PartitionId, Offset>,
}

impl Check {
    fn new(record_bytes: u64) -> Check {
        Check {
            record_bytes,
            records: 0,
            next: HashMap::new(),
        }
    }

    fn take(&mut self, partition: PartitionId, offset: Offset, value: Option<&[u8]>) -> Result<()> {
        let next = self.next.entry(partition).or_insert(offset);
        ensure!(
            *next == offset,
            "partition {partition}: offset {offset} came where {next} was due"
        );
        *next = offset.checked_add(1).context("offsets have an end")?;
        let value = value.context("a record came back without its value")?;
        ensure!(
            value.len() as u64 == self.record_bytes,
            "a record of {} bytes came back with {}",
            self.record_bytes,
            value.len()
        );
        black_box(value);
        self.records += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::ids::{Offset, PartitionId};

    use super::Check;

    #[test]
    fn a_gap_a_repetition_and_a_wrong_size_are_noticed() {
        let (partition, value) = (PartitionId::new(0), Some(&b"abcd"[..]));
        let mut check = Check::new(4);
        check.take(partition, Offset::new(7), value).unwrap();
        check.take(partition, Offset::new(8), value).unwrap();
        assert!(check.take(partition, Offset::new(10), value).is_err());
        assert!(check.take(partition, Offset::new(8), value).is_err());
        assert!(check.take(partition, Offset::new(9), Some(b"abc")).is_err());
        assert!(
            check
                .take(PartitionId::new(1), Offset::new(0), None)
                .is_err()
        );
    }
}
