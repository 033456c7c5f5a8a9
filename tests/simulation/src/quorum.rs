//! The metadata log, as a model: a list of entries that a majority has agreed on, and who leads. Raft
//! itself is tested elsewhere; what matters here is what it lets happen:
//!
//! - a proposal takes its time, is lost with its leader, or is committed after its leader is gone,
//!   without anybody telling who proposed it;
//! - an old leader does not know at once that it is one, and goes on answering from its image;
//! - brokers learn of entries late, and at different times.

use std::sync::Arc;

use highwater_coordination::cluster_image::ClusterImage;
use highwater_protocol::metadata_record::MetadataRecord;

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) term: u64,
}

/// An entry that is not committed.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    pub(crate) number: u64,
    pub(crate) by: Leadership,
    pub(crate) records: Vec<MetadataRecord>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Quorum {
    /// `images[n]`: after the first `n` entries.
    images: Vec<Arc<ClusterImage>>,
    pub(crate) leader: Option<Leadership>,
    /// Who led before.
    pub(crate) last_leader: usize,
    pub(crate) term: u64,
    pub(crate) proposal: Option<Proposal>,
    next_number: u64,
    /// Since when the leader is not able to lead, in ms.
    pub(crate) unable_since: Option<u64>,
}

impl Quorum {
    pub(crate) fn new() -> Self {
        Self {
            images: vec![Arc::new(ClusterImage::default())],
            leader: None,
            last_leader: 0,
            term: 0,
            proposal: None,
            next_number: 0,
            unable_since: None,
        }
    }

    /// How many entries are committed: the position of the last.
    pub(crate) fn index(&self) -> usize {
        self.images.len() - 1
    }

    /// After everything that is committed.
    pub(crate) fn image(&self) -> &Arc<ClusterImage> {
        &self.images[self.images.len() - 1]
    }

    pub(crate) fn image_at(&self, index: usize) -> &Arc<ClusterImage> {
        &self.images[index.min(self.images.len() - 1)]
    }

    /// Begins to make an entry. The number is for [`crate::schedule::Event::Committed`].
    pub(crate) fn propose(&mut self, by: Leadership, records: Vec<MetadataRecord>) -> u64 {
        self.next_number += 1;
        self.proposal = Some(Proposal {
            number: self.next_number,
            by,
            records,
        });
        self.next_number
    }

    /// Commits an entry.
    pub(crate) fn append(&mut self, records: &[MetadataRecord]) -> Result<(), String> {
        let mut image = ClusterImage::clone(self.image());
        for record in records {
            image
                .apply(record)
                .map_err(|error| format!("{record:?}: {error}"))?;
        }
        self.images.push(Arc::new(image));
        Ok(())
    }
}
