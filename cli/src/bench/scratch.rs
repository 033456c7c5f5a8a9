//! The bench's own directory: on the same file system as the broker's data, gone afterwards.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate};
use tempfile::TempDir;

use crate::cleanup::Cleanup;

/// A fresh directory that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: TempDir,
}

impl Scratch {
    /// Makes a directory inside `parent`, or inside the current directory.
    pub(crate) fn create(parent: Option<&Path>, cleanup: &Cleanup) -> Result<Scratch> {
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        let directory = tempfile::Builder::new()
            .prefix("highwater-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("making a directory in {}", parent.display()))?;
        cleanup.add_directory(directory.path().to_owned());
        Ok(Scratch { directory })
    }

    /// Where `name` lies inside the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new file with its blocks allocated, as a broker prepares its segments.
    pub(crate) fn allocated_file(&self, name: &str, bytes: u64) -> Result<File> {
        let path = self.path(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes)
            .with_context(|| format!("allocating {bytes} bytes for {}", path.display()))?;
        Ok(file)
    }

    /// Removes a file and with it its pages in the cache.
    pub(crate) fn remove_file(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }
}
