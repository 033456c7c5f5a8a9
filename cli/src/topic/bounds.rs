//! Where the logs of partitions start and end.

use std::collections::BTreeMap;

use highwater_client::{Admin, AdminError, PartitionOffset};
use highwater_protocol::ids::{Offset, PartitionId};
use highwater_protocol::messages::OffsetSpec;

use crate::consume::Bounds;

/// First offset and end of some partitions.
///
/// The end is asked for first: a trim in between must not put the start behind the end.
pub(crate) async fn partition_bounds(
    admin: &Admin,
    topic: &str,
    partitions: &[PartitionId],
) -> Result<BTreeMap<PartitionId, Bounds>, AdminError> {
    let ends = offsets(admin, topic, partitions, OffsetSpec::Latest).await?;
    let starts = offsets(admin, topic, partitions, OffsetSpec::Earliest).await?;
    let pairs = partitions.iter().filter_map(|partition| {
        let (start, end) = (*starts.get(partition)?, *ends.get(partition)?);
        Some((
            *partition,
            Bounds {
                start,
                end: end.max(start),
            },
        ))
    });
    Ok(pairs.collect())
}

/// One offset of some partitions; those where there is none are left out.
pub(crate) async fn offsets(
    admin: &Admin,
    topic: &str,
    partitions: &[PartitionId],
    spec: OffsetSpec,
) -> Result<BTreeMap<PartitionId, Offset>, AdminError> {
    let found = list(admin, topic, partitions, spec).await?;
    Ok(found
        .into_iter()
        .filter_map(|found| Some((found.partition, found.offset?)))
        .collect())
}

/// What the leaders say about one offset of some partitions.
pub(crate) async fn list(
    admin: &Admin,
    topic: &str,
    partitions: &[PartitionId],
    spec: OffsetSpec,
) -> Result<Vec<PartitionOffset>, AdminError> {
    let wanted: Vec<_> = partitions
        .iter()
        .map(|partition| (*partition, spec))
        .collect();
    admin.list_partition_offsets(topic, &wanted).await
}
