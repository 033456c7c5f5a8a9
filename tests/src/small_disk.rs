//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a tmpfs of so many MiB on a directory. `None`, and a word about it, where this user may not
    /// mount: a limit on the size of files ([`crate::broker_process::file_limit`]) is the next best.
    #[must_use]
    pub fn mount(path: &Path, mib: u32) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={mib}m"))
            .arg("highwater-test")
            .arg(path)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!(
                "NOTE: mounting a small tmpfs was refused; a limit on the size of files \
                 (RLIMIT_FSIZE) stands in for the full disk"
            );
        }
        mounted.then(|| Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the broker's maps may still be around for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
