//! The last reading: every partition from its start to what is its high watermark when that begins,
//! from its leader. (Followers answer no reader, so what they have shows when they lead.)

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_client::{
    AdminError, Client, Offset, OffsetSpec, PartitionId, ReadError, Start, Until,
};
use tokio::task::JoinSet;

use super::readers::{Place, poll_of};
use super::{Shared, WorkloadError};
use crate::event::{Kind, Op, Purpose};

/// Partitions read at the same time.
const AT_ONCE: usize = 4;

/// How long a partition may give no answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads all partitions.
pub(super) async fn read_all(
    shared: &Arc<Shared>,
    client: &Client,
    round: u64,
) -> Result<(), WorkloadError> {
    let mut reading = JoinSet::new();
    for partition in 0..shared.plan.partitions {
        if reading.len() >= AT_ONCE
            && let Some(read) = reading.join_next().await
        {
            read??;
        }
        let (shared, client) = (Arc::clone(shared), client.clone());
        reading.spawn(async move { read(&shared, &client, partition, round).await });
    }
    while let Some(read) = reading.join_next().await {
        read??;
    }
    Ok(())
}

async fn read(
    shared: &Shared,
    client: &Client,
    partition: u32,
    round: u64,
) -> Result<(), WorkloadError> {
    let process = format!("final-{round}");
    let recorder = &shared.recorder;
    let began = recorder.now();
    let failed = |source| WorkloadError::Ends { partition, source };
    let end = offset(shared, client, partition, OffsetSpec::Latest).await;
    let end = end.map_err(failed)?;
    let start = offset(shared, client, partition, OffsetSpec::Earliest).await;
    let start = start.map_err(failed)?;
    let failed = |source| WorkloadError::FinalRead { partition, source };
    let mut reader = client
        .reader(&shared.plan.topic)
        .partitions([PartitionId::new(partition)])
        .start(Start::Offset(Offset::new(start)))
        .until(Until::Offset(Offset::new(end)))
        .retry_timeout(PATIENCE)
        .build()
        .await
        .map_err(failed)?;
    let mut place = Place::chosen(start);
    while place.position() < end {
        let invoke = recorder.now();
        let batch = match reader.next_batch().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            // The end that was told is not there: the check of polls says so.
            Err(ReadError::OffsetOutOfRange { .. }) => break,
            Err(error) => return Err(failed(error)),
        };
        let op = poll_of(&batch, &mut place, Purpose::Final).map_err(failed)?;
        recorder.record(process.clone(), invoke, Kind::Ok, op);
    }
    let op = Op::FinalRead {
        partition,
        start,
        end,
    };
    recorder.record(process, began, Kind::Ok, op);
    Ok(())
}

async fn offset(
    shared: &Shared,
    client: &Client,
    partition: u32,
    spec: OffsetSpec,
) -> Result<u64, AdminError> {
    let wanted = [(PartitionId::new(partition), spec)];
    let began = Instant::now();
    loop {
        let admin = client.admin();
        match admin
            .list_partition_offsets(&shared.plan.topic, &wanted)
            .await
        {
            Ok(answers) => {
                let offset = answers.first().and_then(|answer| answer.offset);
                return Ok(offset.map(Offset::get).unwrap_or_default());
            }
            Err(error) if error.is_retriable() && began.elapsed() < PATIENCE => {
                tracing::debug!(%error, partition, "asked again");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}
