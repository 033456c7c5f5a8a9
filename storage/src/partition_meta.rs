//! Which partition a directory holds: `partition.toml`, for people and for the next start.

use std::path::Path;

use highwater_protocol::ids::{PartitionId, TopicId, TopicName};
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::error::{IoError, OpenError};
use crate::{layout, small_file};

/// Identity of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionMeta {
    /// Identity of the topic.
    pub topic_id: TopicId,
    /// Its name.
    pub topic: TopicName,
    /// Number of the partition in it.
    pub partition: PartitionId,
}

impl PartitionMeta {
    /// Name of its directory.
    #[must_use]
    pub fn dir_name(&self) -> String {
        layout::partition_dir_name(self.topic_id, self.partition)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartitionToml {
    version: u32,
    topic: String,
    topic_id: String,
    partition: u32,
}

const VERSION: u32 = 1;

/// The bytes of the file.
pub(crate) fn encode(meta: &PartitionMeta) -> String {
    let text = toml::to_string(&PartitionToml {
        version: VERSION,
        topic: meta.topic.as_str().to_owned(),
        topic_id: meta.topic_id.to_string(),
        partition: meta.partition.get(),
    });
    text.expect("four plain values can be written")
}

/// Reads the bytes of the file.
pub(crate) fn decode(bytes: &[u8]) -> Result<PartitionMeta, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let parsed: PartitionToml = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if parsed.version > VERSION {
        return Err(format!(
            "version {} is newer than this program",
            parsed.version
        ));
    }
    Ok(PartitionMeta {
        topic_id: parsed
            .topic_id
            .parse()
            .map_err(|_| "topic_id is not a UUID".to_owned())?,
        topic: TopicName::new(&parsed.topic).map_err(|error| error.to_string())?,
        partition: PartitionId::new(parsed.partition),
    })
}

/// Reads the file in a partition directory.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<PartitionMeta, OpenError> {
    let path = dir.join(layout::PARTITION_META);
    let refuse = |reason: String| OpenError::PartitionMeta {
        path: path.clone(),
        reason,
    };
    let bytes = small_file::read_all(disk, &path)?.ok_or_else(|| refuse("missing".to_owned()))?;
    let meta = decode(&bytes).map_err(refuse)?;
    let name = dir.file_name().and_then(|name| name.to_str());
    if name != Some(meta.dir_name().as_str()) {
        return Err(refuse(format!(
            "belongs into the directory {}",
            meta.dir_name()
        )));
    }
    Ok(meta)
}

/// Writes the file into a partition directory, durably.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, meta: &PartitionMeta) -> Result<(), IoError> {
    small_file::replace(
        disk,
        &dir.join(layout::PARTITION_META),
        encode(meta).as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_back_and_garbage_is_not() {
        let meta = PartitionMeta {
            topic_id: TopicId::random(),
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId::new(3),
        };
        assert_eq!(decode(encode(&meta).as_bytes()), Ok(meta.clone()));
        assert!(decode(b"").is_err());
        assert!(decode(b"\xff").is_err());
        let newer = encode(&meta).replace("version = 1", "version = 2");
        assert!(decode(newer.as_bytes()).unwrap_err().contains("newer"));
    }
}
