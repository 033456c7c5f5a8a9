//! What committed entries amount to: the cluster image, published whenever it changes.
//!
//! The image lives in memory. Durable are snapshots of it and the log behind them. Applying knows no
//! clock and no chance, so that every node comes to the same image.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_coordination::cluster_image::ClusterImage;
use highwater_protocol::ids::IncarnationId;
use highwater_protocol::messages::RaftRecords;
use highwater_protocol::metadata_record::{MetadataRecord, MetadataRecordError};
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::snapshot_file::{self, Loaded, SnapshotError};
use super::types::{
    Entry, LogId, Outcome, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};
use crate::mutant::{Mutant, is_on};

/// What is committed and applied on this node.
#[derive(Debug)]
pub(crate) struct Applied {
    /// Index of the last entry; 0 also before there is any.
    pub(crate) index: u64,
    /// The cluster.
    pub(crate) image: Arc<ClusterImage>,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct StateMachine {
    last: Option<LogId>,
    membership: StoredMembership,
    image: Arc<ClusterImage>,
    published: watch::Sender<Arc<Applied>>,
    store: Arc<SnapshotStore>,
}

/// The newest snapshot on the disk.
#[derive(Debug)]
struct SnapshotStore {
    dir: PathBuf,
    /// Held while files are changed, so that a slow build never replaces a newer snapshot.
    newest: Mutex<Option<(SnapshotMeta, PathBuf)>>,
}

impl StateMachine {
    /// Starts from the newest snapshot in `dir`; `purged` is the entry up to which the log needs one.
    pub(crate) fn open(dir: &Path, purged: Option<LogId>) -> Result<Self, SnapshotError> {
        snapshot_file::remove_unfinished(dir)?;
        let mut newest = None;
        for path in snapshot_file::find(dir)? {
            match snapshot_file::read(&mut File::open(&path)?) {
                Ok(loaded) => {
                    newest = Some((path, loaded));
                    break;
                }
                // Without purged entries the log has everything, and without the right snapshot it
                // does not; then an older snapshot must not pass for the newest.
                Err(error) if purged.is_none() => {
                    tracing::warn!(path = %path.display(), %error, "a snapshot is damaged; the log has it all");
                }
                Err(error) => return Err(error),
            }
        }
        let mut machine = Self {
            last: None,
            membership: StoredMembership::default(),
            image: Arc::default(),
            published: watch::Sender::new(Arc::new(Applied {
                index: 0,
                image: Arc::default(),
            })),
            store: Arc::new(SnapshotStore {
                dir: dir.to_owned(),
                newest: Mutex::new(None),
            }),
        };
        if let Some((path, loaded)) = newest {
            *machine.store.newest.lock() = Some((loaded.meta.clone(), path));
            machine.take(loaded);
        }
        if machine.last < purged {
            return Err(SnapshotError::Damaged(
                "entries were purged that no snapshot has",
            ));
        }
        Ok(machine)
    }

    /// Follows what is applied.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Applied>> {
        self.published.subscribe()
    }

    fn take(&mut self, loaded: Loaded) {
        self.last = loaded.meta.last_log_id;
        self.membership = loaded.meta.last_membership;
        self.image = Arc::new(loaded.image);
        self.publish();
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(Applied {
            index: self.last.map_or(0, |id| id.index),
            image: Arc::clone(&self.image),
        }));
    }
}

/// Applies the records of one entry: all or none.
fn apply_records(
    image: &mut ClusterImage,
    id: LogId,
    entry: RaftRecords,
) -> Result<Outcome, MetadataRecordError> {
    // Decoded in any case: a node that cannot read what others can must not go on.
    let records: Vec<_> = entry
        .records
        .into_iter()
        .map(MetadataRecord::decode)
        .collect::<Result<_, _>>()?;
    if entry.decided_in != id.leader_id.term {
        return Ok(Outcome::OtherTerm(id.leader_id.term));
    }
    let before = (records.len() > 1).then(|| image.clone());
    for record in &records {
        if let Err(error) = image.apply(record) {
            // The leader tried it out on the same image before it proposed it.
            tracing::error!(index = id.index, %error, "an entry contradicts the metadata and is ignored");
            if let Some(before) = before {
                *image = before;
            }
            return Ok(Outcome::Contradiction(error.to_string()));
        }
    }
    Ok(Outcome::Applied)
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        let mut changed: Option<ClusterImage> = None;
        for entry in entries {
            let id = entry.log_id;
            let outcome = match entry.payload {
                EntryPayload::Blank => Outcome::Applied,
                EntryPayload::Normal(records) => {
                    let image = changed.get_or_insert_with(|| ClusterImage::clone(&self.image));
                    apply_records(image, id, records)
                        .map_err(|error| StorageIOError::apply(id, AnyError::new(&error)))?
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(id), membership);
                    Outcome::Applied
                }
            };
            self.last = Some(id);
            outcomes.push(outcome);
        }
        if let Some(image) = changed {
            self.image = Arc::new(image);
        }
        self.publish();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            meta: SnapshotMeta {
                last_log_id: self.last,
                last_membership: self.membership.clone(),
                // Another snapshot of the same entries has the same bytes but for this.
                snapshot_id: IncarnationId::random().to_string(),
            },
            image: Arc::clone(&self.image),
            store: Arc::clone(&self.store),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<tokio::fs::File>, StorageError> {
        // Without a name: one that is given up leaves nothing behind.
        let dir = self.store.dir.clone();
        let file = blocking(move || Ok(tempfile::tempfile_in(dir)?)).await;
        let file =
            file.map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)))?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<tokio::fs::File>,
    ) -> Result<(), StorageError> {
        let mut file = snapshot.into_std().await;
        let (store, expected) = (Arc::clone(&self.store), meta.clone());
        let loaded = blocking(move || {
            let loaded = snapshot_file::read(&mut file)?;
            if loaded.meta != expected {
                return Err(SnapshotError::Damaged("it is another one than announced"));
            }
            let mut newest = store.newest.lock();
            let path = snapshot_file::keep(&store.dir, &loaded.meta, &mut file)?;
            snapshot_file::remove_others(&store.dir, &path);
            *newest = Some((expected, path));
            Ok(loaded)
        });
        let loaded = loaded.await.map_err(|error| {
            StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error))
        })?;
        self.take(loaded);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let store = Arc::clone(&self.store);
        let opened = blocking(move || store.open_verified()).await;
        match opened {
            Ok(snapshot) => Ok(snapshot),
            // A node that it is sent to would refuse it; what it says is in memory, so it is made anew.
            Err(error) => {
                tracing::error!(%error, "the snapshot cannot be used; another one is made");
                let mut builder = self.get_snapshot_builder().await;
                builder.build_snapshot().await.map(Some)
            }
        }
    }
}

/// A snapshot that another node sent, if it is one and the one that was announced.
pub(super) async fn verified(snapshot: Snapshot) -> Result<Snapshot, SnapshotError> {
    if is_on(Mutant::PeersBelieved) {
        return Ok(snapshot);
    }
    let Snapshot { meta, snapshot } = snapshot;
    let mut file = snapshot.into_std().await;
    let (meta, file) = blocking(move || {
        let loaded = snapshot_file::read(&mut file)?;
        if loaded.meta != meta {
            return Err(SnapshotError::Damaged("it is another one than announced"));
        }
        Ok((meta, file))
    })
    .await?;
    Ok(Snapshot {
        meta,
        snapshot: Box::new(tokio::fs::File::from_std(file)),
    })
}

impl SnapshotStore {
    /// The newest snapshot, open. Its file stays readable when a newer one replaces it.
    fn open(&self) -> Result<Option<(Snapshot, File)>, SnapshotError> {
        let newest = self.newest.lock();
        let Some((meta, path)) = &*newest else {
            return Ok(None);
        };
        let file = File::open(path)?;
        let snapshot = Snapshot {
            meta: meta.clone(),
            snapshot: Box::new(tokio::fs::File::from_std(file.try_clone()?)),
        };
        Ok(Some((snapshot, file)))
    }

    /// The newest snapshot, if its bytes are what was written.
    fn open_verified(&self) -> Result<Option<Snapshot>, SnapshotError> {
        let Some((snapshot, mut file)) = self.open()? else {
            return Ok(None);
        };
        snapshot_file::verify(&mut file)?;
        Ok(Some(snapshot))
    }
}

/// Writes a snapshot of an image that does not change any more.
#[derive(Debug)]
pub(crate) struct Builder {
    meta: SnapshotMeta,
    image: Arc<ClusterImage>,
    store: Arc<SnapshotStore>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let (meta, image) = (self.meta.clone(), Arc::clone(&self.image));
        let store = Arc::clone(&self.store);
        let built = blocking(move || {
            let mut newest = store.newest.lock();
            let is_newer = newest
                .as_ref()
                .is_none_or(|(newest, _)| newest.last_log_id <= meta.last_log_id);
            if is_newer {
                let path = snapshot_file::write(&store.dir, &meta, &image)?;
                snapshot_file::remove_others(&store.dir, &path);
                *newest = Some((meta, path));
            }
            drop(newest);
            let built = store.open()?.map(|(snapshot, _)| snapshot);
            built.ok_or(SnapshotError::Damaged("there is none after all"))
        });
        built.await.map_err(|error| {
            let signature = Some(self.meta.signature());
            StorageIOError::write_snapshot(signature, AnyError::new(&error)).into()
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}
