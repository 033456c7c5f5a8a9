//! Logs that are taken out of use and kept: damaged ones, whose place a fresh replica takes, and ones
//! that belong to no partition any more.
//!
//! Nothing opens them again. They are for people: what a damaged log still holds may be all there is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::background::Maintenance;
use crate::engine::{Engine, key};
use crate::error::{IoError, OfflineReason, StorageError};
use crate::layout::{self, SetAside};
use crate::partition_meta::PartitionMeta;

impl Engine {
    /// Takes a damaged log, open or refused at the start, out of use: its directory becomes
    /// `<directory>.damaged-<n>` and is kept, never to be opened again. The next older one of the
    /// same partition is removed. Then [`Engine::create_log`] makes a fresh one.
    ///
    /// Waits for a sync of that log that is under way, so not for a thread that others wait for.
    /// Durable when this returns. Readers keep what they have.
    ///
    /// # Errors
    /// There is no such directory; the disk fails.
    pub fn set_aside_log(&self, meta: &PartitionMeta) -> Result<PathBuf, StorageError> {
        self.put_aside(meta, SetAside::Damaged)
    }

    /// Takes a log that belongs to no known partition out of use: its directory becomes
    /// `<directory>.stray-<n>` and is kept. Whoever is sure that nobody needs it removes it.
    ///
    /// # Errors
    /// As [`Engine::set_aside_log`].
    pub fn keep_stray(&self, meta: &PartitionMeta) -> Result<PathBuf, StorageError> {
        self.put_aside(meta, SetAside::Stray)
    }

    fn put_aside(&self, meta: &PartitionMeta, why: SetAside) -> Result<PathBuf, StorageError> {
        let disk = self.disk();
        let path = self.dir().join(meta.dir_name());
        let log = self.logs.lock().remove(&key(meta));
        if let Some(log) = &log {
            let _sync = log.sync.lock();
            log.go_offline(OfflineReason::SetAside);
            let mut writer = log.writer.lock();
            writer.active = None;
            writer.prepared = None;
        }
        let older = self.set_aside_of(meta, why)?;
        let number = older
            .last()
            .map_or(1, |(number, _)| number.saturating_add(1));
        let kept = self
            .dir()
            .join(layout::set_aside_name(&meta.dir_name(), why, number));
        disk.rename(&path, &kept).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                StorageError::NotFound { path: path.clone() }
            } else {
                IoError::on("rename", &path)(error).into()
            }
        })?;
        disk.sync_dir(self.dir())
            .map_err(IoError::on("sync", self.dir()))?;
        if why == SetAside::Damaged {
            for (_, path) in older {
                self.shared.maintain.push(Maintenance::RemoveDir(path));
            }
        }
        Ok(kept)
    }

    /// At a start: says what is kept, and removes older damaged logs whose removal was interrupted.
    pub(crate) fn review_set_aside(&self, names: &[String]) {
        let mut newest = BTreeMap::new();
        let parsed = || {
            names
                .iter()
                .filter_map(|name| layout::parse_set_aside_name(name))
        };
        for (of, why, number) in parsed() {
            if why == SetAside::Damaged {
                let slot = newest.entry(of).or_insert(number);
                *slot = number.max(*slot);
            }
        }
        for (of, why, number) in parsed() {
            let path = self.dir().join(layout::set_aside_name(of, why, number));
            if why == SetAside::Damaged && newest.get(of) != Some(&number) {
                self.shared.maintain.push(Maintenance::RemoveDir(path));
            } else {
                tracing::warn!(path = %path.display(), "kept and not used; remove it when nobody needs it");
            }
        }
    }

    /// What was set aside of a partition before, oldest first.
    fn set_aside_of(
        &self,
        meta: &PartitionMeta,
        why: SetAside,
    ) -> Result<Vec<(u32, PathBuf)>, StorageError> {
        let entries = self
            .disk()
            .list(self.dir())
            .map_err(IoError::on("list", self.dir()))?;
        let name = meta.dir_name();
        let mut found: Vec<_> = entries
            .into_iter()
            .filter_map(|entry| {
                let (of, kind, number) = layout::parse_set_aside_name(&entry.name)?;
                (of == name && kind == why).then(|| (number, self.dir().join(&entry.name)))
            })
            .collect();
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use highwater_protocol::batch_builder::BatchBuilder;
    use highwater_protocol::compression::Compression;
    use highwater_protocol::ids::{
        LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName,
    };

    use super::*;
    use crate::sim_disk::{Dice, SimDisk};
    use crate::{Background, EngineOptions, Log, LogHealth, LogOptions, OpenError};

    fn meta() -> PartitionMeta {
        PartitionMeta {
            topic_id: TopicId::from_bytes([3; 16]),
            topic: TopicName::new("kept").unwrap(),
            partition: PartitionId::new(1),
        }
    }

    fn start(disk: &SimDisk) -> Arc<Engine> {
        let options = EngineOptions {
            disk: Arc::new(disk.clone()),
            background: Background::Manual,
            ..EngineOptions::default()
        };
        Engine::open(Path::new("/data"), options).unwrap()
    }

    fn append(log: &Log, tag: u8) {
        let mut builder = BatchBuilder::new(Compression::None, None);
        builder.push(Timestamp::from_millis(1), None, Some(&[tag; 50]), &[]);
        let now = Timestamp::from_millis(2);
        log.append(&builder.build(), LeaderEpoch::new(1), now)
            .unwrap();
        log.flush().unwrap();
    }

    fn segment(dir: &Path) -> PathBuf {
        layout::segment_path(dir, Offset::ZERO, layout::SegmentFileKind::Log)
    }

    #[test]
    fn a_damaged_log_makes_place_for_a_fresh_one_and_is_kept() {
        let disk = SimDisk::new();
        let engine = start(&disk);
        let log = engine.create_log(meta(), LogOptions::default()).unwrap();
        append(&log, 1);
        let bytes = disk.content(&segment(log.dir())).unwrap();
        drop((log, engine));
        disk.restart();
        // Refused at the start.
        let path = Path::new("/data").join(meta().dir_name());
        disk.corrupt(&path.join("partition.toml"), 3, 0x20).unwrap();
        let engine = start(&disk);
        let mut opened = engine.open_logs(&|_| Some(LogOptions::default()), &|_| {});
        let refused = opened.pop().unwrap().result.unwrap_err();
        assert!(matches!(refused, OpenError::PartitionMeta { .. }));
        let refused = engine.create_log(meta(), LogOptions::default());
        assert!(refused.is_err(), "it is in the way");
        let first = engine.set_aside_log(&meta()).unwrap();
        assert!(first.to_str().unwrap().ends_with(".damaged-1"), "{first:?}");
        let kept = disk.content(&segment(&first)).unwrap();
        assert_eq!(kept[..200], bytes[..200], "nothing of it is touched");

        // Open, and given up while it is.
        let log = engine.create_log(meta(), LogOptions::default()).unwrap();
        append(&log, 2);
        let second = engine.set_aside_log(&meta()).unwrap();
        assert!(second.to_str().unwrap().ends_with(".damaged-2"));
        assert!(matches!(log.health(), LogHealth::Offline(_)));
        assert!(engine.log(&meta()).is_none());
        let fresh = engine.create_log(meta(), LogOptions::default()).unwrap();
        append(&fresh, 3);
        let again = engine.set_aside_log(&PartitionMeta {
            partition: PartitionId::new(9),
            ..meta()
        });
        assert!(matches!(again, Err(StorageError::NotFound { .. })));
        drop((fresh, log));

        // Only the newest one is kept, and a start opens the fresh log alone.
        engine.run_pending();
        drop(engine);
        for seed in 0..10 {
            disk.crash(&mut Dice::new(seed));
            let engine = start(&disk);
            let opened = engine.open_logs(&|_| Some(LogOptions::default()), &|_| {});
            assert_eq!(opened.len(), 1);
            assert_eq!(opened[0].result.as_ref().unwrap().0.end().get(), 1);
            engine.run_pending();
            assert!(disk.content(&segment(&first)).is_err());
            assert!(disk.content(&segment(&second)).is_ok());
        }
    }

    #[test]
    fn stray_logs_are_all_kept() {
        let disk = SimDisk::new();
        let engine = start(&disk);
        for n in 1..3 {
            let log = engine.create_log(meta(), LogOptions::default()).unwrap();
            append(&log, n);
            drop(log);
            let kept = engine.keep_stray(&meta()).unwrap();
            assert!(kept.to_str().unwrap().ends_with(&format!(".stray-{n}")));
        }
        engine.run_pending();
        drop(engine);
        disk.restart();
        let engine = start(&disk);
        assert!(
            engine
                .open_logs(&|_| Some(LogOptions::default()), &|_| {})
                .is_empty()
        );
        engine.run_pending();
        for n in 1..3 {
            let name = format!("/data/{}.stray-{n}", meta().dir_name());
            assert!(disk.content(&segment(Path::new(&name))).is_ok());
        }
    }
}
