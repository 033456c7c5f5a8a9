//! What the end-to-end and fault tests share: brokers as real processes, their networks, workloads and
//! checks.
#![forbid(unsafe_code)]

pub mod broker_process;
pub mod cluster_process;
pub mod health;
pub mod namespaces;
pub mod raw;
pub mod rot;
pub mod scene;
pub mod small_disk;
pub mod workload;

use std::path::{Path, PathBuf};

/// Root of the workspace.
#[must_use]
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}
