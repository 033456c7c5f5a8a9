//! A first start: forming a cluster with the other seeds, or joining the one that is there.
//!
//! ```text
//! ask every seed who is there (Discover), again and again:
//!   one belongs to a cluster                    join it
//!   all answer, none belongs to one:
//!     this broker is the first of the list      form one
//!     otherwise                                 wait for the first
//!   some do not answer                          wait: they may belong to a cluster
//! ```
//!
//! Only one broker can ever form, and only while it can see that nobody else has: so there are never
//! two clusters of one list of seeds, also when the first seed comes back with an empty disk.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use highwater_protocol::api_key::{ApiKey, Request};
use highwater_protocol::codec::Decoder;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{
    FrameReader, decode_request_header, encode_error_response, encode_response,
};
use highwater_protocol::ids::{ClusterId, DirectoryId, IncarnationId, NodeId};
use highwater_protocol::messages::{
    DiscoverRequest, DiscoverResponse, JoinClusterRequest, JoinClusterResponse,
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, info};

use crate::identity::{Identity, Stage};
use crate::peers::{PeerError, Peers};

/// How long a seed has to say who it is.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a seed may hold up the start of a broker that knows its cluster already.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the cluster has to take a new node in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two rounds of asking.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// Between two lines in the log that say what is waited for.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Peers that may ask at a time.
const ASKING_MAX: usize = 256;

/// What a peer asks before there is a cluster is small.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// A peer that asks nothing for this long is let go.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// The number of a node that forms a cluster and was not given one.
const NODE_ID_FIRST: NodeId = NodeId::new(1);

/// Why a broker could neither form nor join a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormationError {
    /// The seeds do not belong together.
    #[error(
        "cluster.seeds names brokers of two clusters: {first} is of cluster {first_cluster}, \
         {second} of {second_cluster}"
    )]
    TwoClusters {
        /// A seed.
        first: String,
        /// Its cluster.
        first_cluster: ClusterId,
        /// Another seed.
        second: String,
        /// Its cluster.
        second_cluster: ClusterId,
    },
    /// The data directory is of one cluster, the seeds are of another.
    #[error(
        "the data directory belongs to cluster {own}, but the seed {seed} is of cluster {other}: \
         give the broker the seeds of its own cluster, or an empty data directory"
    )]
    OtherCluster {
        /// The cluster of the data directory.
        own: ClusterId,
        /// A seed.
        seed: String,
        /// Its cluster.
        other: ClusterId,
    },
    /// The cluster does not take this node.
    #[error("the cluster does not take this node: {0}")]
    Refused(String),
}

/// A broker that belongs to no cluster yet.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer {
    pub(crate) seeds: Vec<String>,
    pub(crate) node_id: Option<NodeId>,
    pub(crate) directory: DirectoryId,
    pub(crate) incarnation: IncarnationId,
    /// Where the other brokers reach this one.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Asks the seeds whether they are of the cluster that the data directory belongs to. A seed that does
/// not answer says nothing.
///
/// # Errors
/// [`FormationError::OtherCluster`].
pub(crate) async fn check_seeds(
    seeds: &[String],
    own: ClusterId,
    incarnation: IncarnationId,
) -> Result<(), FormationError> {
    let request = DiscoverRequest { incarnation };
    let asked = seeds
        .iter()
        .map(|seed| Peers::call_at(seed, &request, CHECK_TIMEOUT));
    for (seed, answer) in seeds
        .iter()
        .zip(futures_util::future::join_all(asked).await)
    {
        let cluster = answer.ok().and_then(|answer| answer.cluster_id);
        if let Some(other) = cluster.filter(|cluster| *cluster != own) {
            return Err(FormationError::OtherCluster {
                own,
                seed: seed.clone(),
                other,
            });
        }
    }
    Ok(())
}

impl Newcomer {
    /// Finds out which cluster this broker belongs to. Without seeds it is one of its own. Goes on until
    /// it has: a cluster that is not there yet may come.
    ///
    /// # Errors
    /// [`FormationError`] when waiting does not help.
    pub(crate) async fn settle(&self, listener: &TcpListener) -> Result<Identity, FormationError> {
        if self.seeds.is_empty() {
            return Ok(self.form());
        }
        let me = DiscoverResponse {
            incarnation: self.incarnation,
            directory: self.directory,
            cluster_id: None,
            node_id: None,
            controller: None,
        };
        tokio::select! {
            identity = self.look_around() => identity,
            never = answer_others(listener, &me) => match never {},
        }
    }

    fn form(&self) -> Identity {
        Identity {
            cluster_id: ClusterId::random(),
            node_id: self.node_id.unwrap_or(NODE_ID_FIRST),
            stage: Stage::Founding,
        }
    }

    async fn look_around(&self) -> Result<Identity, FormationError> {
        let mut reported: Option<Instant> = None;
        loop {
            let found = self.discover().await;
            let waits_for = match self.judge(&found)? {
                Next::Form => {
                    info!(seeds = ?self.seeds, "no seed belongs to a cluster: this broker, the first of them, forms one");
                    return Ok(self.form());
                }
                Next::Join { through } => match self.join(&through).await? {
                    Some(identity) => return Ok(identity),
                    None => format!("the cluster of {through} to have a controller"),
                },
                Next::Wait { reason } => reason,
            };
            if reported.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
                reported = Some(Instant::now());
                info!(seeds = ?self.seeds, "looking for a cluster: waiting for {waits_for}");
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    async fn discover(&self) -> Vec<Option<DiscoverResponse>> {
        let request = DiscoverRequest {
            incarnation: self.incarnation,
        };
        let asked = self
            .seeds
            .iter()
            .map(|seed| Peers::call_at(seed, &request, DISCOVER_TIMEOUT));
        let mut found = Vec::with_capacity(self.seeds.len());
        for answer in futures_util::future::join_all(asked).await {
            match answer {
                Ok(answer) => found.push(Some(answer)),
                Err(error) => {
                    debug!(%error, "a seed does not answer");
                    found.push(None);
                }
            }
        }
        found
    }

    fn judge(&self, found: &[Option<DiscoverResponse>]) -> Result<Next, FormationError> {
        let members: Vec<(&String, ClusterId)> = self
            .seeds
            .iter()
            .zip(found)
            .filter_map(|(seed, answer)| Some((seed, answer.as_ref()?.cluster_id?)))
            .collect();
        if let Some((first, first_cluster)) = members.first() {
            if let Some((second, second_cluster)) =
                members.iter().find(|(_, cluster)| cluster != first_cluster)
            {
                return Err(FormationError::TwoClusters {
                    first: (*first).clone(),
                    first_cluster: *first_cluster,
                    second: (*second).clone(),
                    second_cluster: *second_cluster,
                });
            }
            let through = (*first).clone();
            return Ok(Next::Join { through });
        }
        let silent: Vec<&str> = self
            .seeds
            .iter()
            .zip(found)
            .filter(|(_, answer)| answer.is_none())
            .map(|(seed, _)| seed.as_str())
            .collect();
        if !silent.is_empty() {
            let reason = format!("{} to answer", silent.join(", "));
            return Ok(Next::Wait { reason });
        }
        let is_first = found
            .first()
            .and_then(Option::as_ref)
            .is_some_and(|first| first.incarnation == self.incarnation);
        if is_first {
            return Ok(Next::Form);
        }
        let reason = format!("{} to form the cluster", self.seeds[0]);
        Ok(Next::Wait { reason })
    }

    /// `None`: not now, but perhaps later.
    async fn join(&self, through: &str) -> Result<Option<Identity>, FormationError> {
        let request = JoinClusterRequest {
            directory: self.directory,
            node_id: self.node_id,
            host: self.host.clone(),
            port: self.port,
        };
        match Peers::call_at(through, &request, JOIN_TIMEOUT).await {
            Ok(JoinClusterResponse {
                cluster_id,
                node_id,
            }) => Ok(Some(Identity {
                cluster_id,
                node_id,
                stage: Stage::Joined,
            })),
            Err(PeerError::Refused { code, message }) if !code.is_retriable() => {
                Err(FormationError::Refused(message))
            }
            Err(error) => {
                debug!(%error, through, "cannot join yet");
                Ok(None)
            }
        }
    }
}

/// What to do after a round of asking.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Form,
    Join { through: String },
    Wait { reason: String },
}

/// Answers Discover until this broker belongs to a cluster; everything else is told to wait. Never
/// returns.
async fn answer_others(listener: &TcpListener, me: &DiscoverResponse) -> Infallible {
    let asking = Arc::new(Semaphore::new(ASKING_MAX));
    loop {
        let Ok(permit) = Arc::clone(&asking).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let me = me.clone();
                tokio::spawn(async move {
                    // Whoever asks tries again when this fails.
                    let _ = tokio::time::timeout(QUIET_MAX, answer(stream, &me)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                debug!(%error, "cannot accept a connection");
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, me: &DiscoverResponse) -> std::io::Result<()> {
    let mut reader = FrameReader::new(FRAME_BYTES_MAX);
    let mut received = BytesMut::new();
    loop {
        match reader.next_frame(&mut received) {
            Ok(Some(frame)) => {
                for slice in reply(frame, me) {
                    stream.write_all(&slice).await?;
                }
            }
            Ok(None) => {
                if stream.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            }
            Err(_) => return Ok(()),
        }
    }
}

fn reply(frame: Bytes, me: &DiscoverResponse) -> Vec<Bytes> {
    let mut input = Decoder::new(frame);
    match decode_request_header(&mut input) {
        Ok(header) if header.api == ApiKey::Discover.code() => {
            encode_response(me, DiscoverRequest::API.versions().1, header.correlation)
        }
        Ok(header) => {
            let message = "the broker does not belong to a cluster yet; try again";
            encode_error_response(ErrorCode::Busy, message, header.correlation)
        }
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
#[path = "formation_tests.rs"]
mod tests;
