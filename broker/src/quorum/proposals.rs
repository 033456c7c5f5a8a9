//! Changes of the metadata, and the certainty that this node still leads.
//!
//! A change is decided on the applied image. As long as it is not known what becomes of one that was
//! proposed and given up, nothing may be decided in the same term: it may still be applied, after a
//! change that was decided without it. In another term it does not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_coordination::cluster_image::ClusterImage;
use highwater_protocol::messages::RaftRecords;
use highwater_protocol::metadata_record::MetadataRecord;
use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use tokio::sync::{oneshot, watch};

use super::Quorum;
use super::error::ProposeError;
use super::types::{Member, Outcome, TypeConfig};

/// Most bytes of the records of one entry: with room to spare below the frame limit.
const ENTRY_BYTES_MAX: usize = 32 << 20;

/// A change that is not committed after so many election timeouts is in doubt.
const PROPOSE_TIMEOUTS: u32 = 10;

type Written =
    Result<ClientWriteResponse<TypeConfig>, RaftError<u64, ClientWriteError<u64, Member>>>;

/// How many changes of each term were given up whose fate is not known.
#[derive(Debug, Clone, Default)]
pub(super) struct Doubts {
    by_term: Arc<watch::Sender<BTreeMap<u64, usize>>>,
}

impl Doubts {
    /// Follows them.
    pub(super) fn watch(&self) -> watch::Receiver<BTreeMap<u64, usize>> {
        self.by_term.subscribe()
    }

    fn any_in(&self, term: u64) -> bool {
        self.by_term.borrow().contains_key(&term)
    }

    fn add(&self, term: u64) {
        self.by_term.send_modify(|by_term| {
            *by_term.entry(term).or_default() += 1;
        });
    }

    fn remove(&self, term: u64) {
        self.by_term.send_modify(|by_term| {
            if let Some(count) = by_term.get_mut(&term) {
                *count -= 1;
                if *count == 0 {
                    by_term.remove(&term);
                }
            }
        });
    }
}

/// Waits for what becomes of a change. When it is dropped before, the change is in doubt.
struct Waiting {
    term: u64,
    doubts: Doubts,
    answer: oneshot::Receiver<Written>,
    is_answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.doubts.add(self.term);
        // From here on the sender is told that nobody waits, and takes the doubt back.
        self.answer.close();
        if self.answer.try_recv().is_ok() {
            self.doubts.remove(self.term);
        }
    }
}

impl Quorum {
    /// Proposes records that were decided on the applied image in this term, and waits until they are
    /// applied on this node. Returns the index of their entry.
    ///
    /// Cancel safety: a call that is dropped leaves the change in doubt; until it is known what became
    /// of it, this node does not lead.
    ///
    /// # Errors
    /// [`ProposeError`]; after [`ProposeError::Unknown`] they may still be applied, on this node or by
    /// the next leader.
    pub(crate) async fn propose(
        &self,
        term: u64,
        records: &[MetadataRecord],
    ) -> Result<u64, ProposeError> {
        if *self.leadership.borrow() != Some(term) || self.doubts.any_in(term) {
            return Err(self.not_leader());
        }
        let mut image = ClusterImage::clone(&self.applied().image);
        for record in records {
            image
                .apply(record)
                .map_err(|error| ProposeError::Contradiction(error.to_string()))?;
        }
        let entry = RaftRecords {
            decided_in: term,
            records: records.iter().map(MetadataRecord::encode).collect(),
        };
        let bytes = entry.records.iter().map(|record| record.len() + 4).sum();
        if bytes > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge {
                bytes,
                bytes_max: ENTRY_BYTES_MAX,
            });
        }
        self.write(entry).await
    }

    pub(super) async fn write(&self, entry: RaftRecords) -> Result<u64, ProposeError> {
        let term = entry.decided_in;
        let (sender, answer) = oneshot::channel();
        let mut waiting = Waiting {
            term,
            doubts: self.doubts.clone(),
            answer,
            is_answered: false,
        };
        let (raft, doubts) = (self.raft.clone(), self.doubts.clone());
        self.runtime.spawn(async move {
            let written = raft.client_write(entry).await;
            if sender.send(written).is_err() {
                doubts.remove(term);
            }
        });
        let limit = self.election_timeout * PROPOSE_TIMEOUTS;
        let written = tokio::time::timeout(limit, &mut waiting.answer)
            .await
            .map_err(|_| ProposeError::Unknown("it took too long".to_owned()))?
            .map_err(|_| ProposeError::Unknown("this broker stops".to_owned()))?;
        waiting.is_answered = true;
        // Also the answer that another node leads: the entry may be in the log by then.
        let written = written.map_err(|error| ProposeError::Unknown(error.to_string()))?;
        match written.data {
            Outcome::Applied => Ok(written.log_id.index),
            Outcome::OtherTerm(_) => Err(ProposeError::NotApplied),
            Outcome::Contradiction(reason) => Err(ProposeError::Contradiction(reason)),
        }
    }

    /// Makes sure that this node led at some time after the call began, and that everything that was
    /// committed by then is applied (ReadIndex).
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], or [`ProposeError::Unknown`] when no quorum answers in time.
    pub(crate) async fn confirm_leadership(&self) -> Result<(), ProposeError> {
        let confirm = async {
            loop {
                match self.raft.ensure_linearizable().await {
                    Ok(_) => return Ok(()),
                    // One round may be lost: it has only a heartbeat's time.
                    Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                        tokio::time::sleep(self.election_timeout / 50).await;
                    }
                    Err(_) => return Err(self.not_leader()),
                }
            }
        };
        tokio::time::timeout(self.election_timeout, confirm)
            .await
            .unwrap_or_else(|_| Err(ProposeError::Unknown("no quorum answers".to_owned())))
    }
}
