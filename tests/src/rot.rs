//! Bits that change by themselves in the files of a broker.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use highwater_protocol::ids::{PartitionId, TopicId};

/// The directory of a partition.
#[must_use]
pub fn partition_dir(data_dir: &Path, topic: TopicId, partition: PartitionId) -> PathBuf {
    data_dir.join(format!("{topic}-{partition}"))
}

/// Files of a directory whose names end so, in order.
#[must_use]
pub fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}

/// Flips a bit of a file, so far from its start in parts of a thousand. The time of its last change stays,
/// as it does when a disk forgets.
///
/// # Panics
/// When the file is empty or cannot be written.
pub fn flip_bit(path: &Path, per_mille: u64) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    let file = file.expect("the file is there");
    let metadata = file.metadata().expect("it has a length");
    let at = metadata.len() * per_mille.min(999) / 1000;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it has bytes");
    file.write_all_at(&[byte[0] ^ 0x10], at)
        .expect("it can be written");
    let modified = metadata.modified().expect("the system tells it");
    file.set_modified(modified).expect("it can be set");
    println!("a bit of {} was flipped at {at}", path.display());
}
