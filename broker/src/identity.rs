//! Who this data directory belongs to: the cluster and the node, settled when it formed or joined one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use highwater_protocol::ids::{ClusterId, NodeId};
use thiserror::Error;

/// Name of the file in the data directory.
const FILE: &str = "identity";
/// Cluster and node of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: ClusterId,
    pub(crate) node_id: NodeId,
    pub(crate) stage: Stage,
}

/// How far a node has come with becoming part of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It forms the cluster. If it stops before the quorum has its first entry, it goes on with that.
    Founding,
    /// It has joined, and may not have heard of the metadata log yet.
    Joined,
    /// It has registered as a broker: it has a metadata log, and may have voted. If the log is not there
    /// any more, the node must not go on as if it had never voted.
    Member,
}

impl Stage {
    const ALL: [(Self, &str); 3] = [
        (Self::Founding, "founding"),
        (Self::Joined, "joined"),
        (Self::Member, "member"),
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Founding => "founding",
            Self::Joined => "joined",
            Self::Member => "member",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word);
        found.map(|(stage, _)| *stage)
    }
}

/// Why a data directory cannot be used by this broker.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is not one of ours, or damaged.
    #[error("{} is damaged: expected lines `cluster`, `node` and `stage`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The directory was written by another node.
    #[error(
        "the data directory belongs to node {found}, but node.id is {configured}; \
         give the broker its own data.dir, or node.id = {found}"
    )]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// What is configured.
        configured: NodeId,
    },
}

impl Identity {
    /// Reads the identity of `data_dir`; `None`: it belongs to no cluster yet.
    pub(crate) fn load(
        data_dir: &Path,
        configured: Option<NodeId>,
    ) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE);
        let found = match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).ok_or(IdentityError::Damaged { path })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(IdentityError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        match configured {
            Some(configured) if configured != found.node_id => Err(IdentityError::OtherNode {
                found: found.node_id,
                configured,
            }),
            _ => Ok(Some(found)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.trim().strip_prefix("= "))
        };
        Some(Self {
            cluster_id: value("cluster")?.parse().ok()?,
            node_id: value("node")?.parse().ok()?,
            stage: Stage::parse(value("stage")?)?,
        })
    }

    /// Gives `data_dir` this identity, whole or not at all: a temporary file, synced, renamed, and the
    /// directory synced.
    pub(crate) fn write(self, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(FILE);
        let written = || -> io::Result<()> {
            let temporary = data_dir.join("identity.tmp");
            let mut file = File::create(&temporary)?;
            writeln!(
                file,
                "cluster = {}\nnode = {}\nstage = {}",
                self.cluster_id,
                self.node_id,
                self.stage.word()
            )?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(data_dir)?.sync_all()
        };
        written().map_err(|source| IdentityError::Io {
            action: "write",
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster_id: ClusterId::random(),
            node_id: NodeId::new(7),
            stage: Stage::Founding,
        }
    }

    #[test]
    fn the_identity_stays_and_another_node_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            Identity::load(dir.path(), Some(NodeId::new(7))).unwrap(),
            None
        );
        let first = identity();
        first.write(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path(), None).unwrap(), Some(first));
        for (stage, word) in Stage::ALL {
            assert_eq!(stage.word(), word);
            let now = Identity { stage, ..first };
            now.write(dir.path()).unwrap();
            assert_eq!(Identity::load(dir.path(), None).unwrap(), Some(now));
        }
        let error = Identity::load(dir.path(), Some(NodeId::new(8))).unwrap_err();
        assert!(matches!(error, IdentityError::OtherNode { .. }), "{error}");
    }

    #[test]
    fn a_damaged_identity_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "cluster = nonsense\n").unwrap();
        let error = Identity::load(dir.path(), None).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        assert_eq!(
            fs::read_to_string(dir.path().join(FILE)).unwrap(),
            "cluster = nonsense\n"
        );
    }
}
