//! Fetch sessions: a follower tells only what changed since its last fetch, and hears only news.
//!
//! A follower of thousands of partitions would otherwise list all of them several times a second, idle or
//! not, and be answered for each. The leader remembers what was asked, has the partitions that get
//! somewhere marked, and looks only at those; what was not told anew counts as told again, because the
//! follower tells whatever changed. Now and then it looks at all: a follower that asks has proved that it
//! is there, and high watermarks moved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::cluster_image::BrokerImage;
use highwater_coordination::moment::Moment;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, NodeId, Offset};
use highwater_protocol::messages::{
    FetchPartition, FetchPartitionResult, FetchReplica, FetchRequest, FetchSession, FetchTopic,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Look, PARTITION_BYTES, Pass, WAIT_MS_MAX, bytes_max};
use crate::api::{Answer, Reply, Response};
use crate::dirty_keys::DirtyKeys;
use crate::lease;
use crate::partitions::Key;
use crate::progress::Watch;
use crate::shared::Shared;

/// All partitions of a session are looked at this often at least, and several times within the time in
/// which a follower must have been heard of.
const LOOK_AT_ALL_MS: u64 = 1000;
const LOOKS_PER_LAG_TIME: u64 = 4;

/// Most partitions of a session: more than a follower asks for.
const PARTITIONS_MAX: usize = 100_000;

/// The session of each follower.
#[derive(Debug, Default)]
pub(crate) struct FetchSessions {
    of: Mutex<BTreeMap<NodeId, Slot>>,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    /// `None` while a fetch of it is under way.
    session: Option<Session>,
}

/// What a follower asked so far.
#[derive(Debug)]
struct Session {
    follower: NodeId,
    broker_epoch: BrokerEpoch,
    id: u64,
    round: u32,
    entries: BTreeMap<Key, Entry>,
    /// Partitions whose logs grew or whose roles changed.
    marks: Arc<DirtyKeys>,
    /// Partitions for which there was no room in the last answer.
    waiting: VecDeque<Key>,
    looked_at_all: Moment,
}

#[derive(Debug)]
struct Entry {
    asked: FetchPartition,
    /// High watermark and start of the log, as they were told last.
    told: Option<(Offset, Offset)>,
    /// `None`: it was not held here when it was asked for.
    watch: Option<Watch>,
}

/// Whether a follower's broker is one of the cluster, in the life that it says. Others have no session:
/// anybody could fill the memory with them.
pub(super) fn is_for(shared: &Shared, replica: &FetchReplica) -> bool {
    let image = shared.metadata.image();
    let broker = image.broker(replica.node_id);
    broker.and_then(BrokerImage::epoch) == Some(replica.broker_epoch)
}

impl FetchSessions {
    /// Begins a session, in place of any that the follower had.
    fn begin(&self, replica: &FetchReplica, id: u64, now: Moment) -> Session {
        let slot = Slot { id, session: None };
        self.of.lock().insert(replica.node_id, slot);
        Session {
            follower: replica.node_id,
            broker_epoch: replica.broker_epoch,
            id,
            round: 0,
            entries: BTreeMap::new(),
            marks: Arc::default(),
            waiting: VecDeque::new(),
            looked_at_all: now,
        }
    }

    /// The session that this request goes on with, if it is the next one of it.
    fn resume(&self, replica: &FetchReplica, asked: &FetchSession) -> Option<Session> {
        let mut of = self.of.lock();
        let slot = of.get_mut(&replica.node_id)?;
        let is_next = slot.session.as_ref().is_some_and(|session| {
            session.id == asked.id
                && session.round.checked_add(1) == Some(asked.round)
                && session.broker_epoch == replica.broker_epoch
        });
        slot.session.take_if(|_| is_next)
    }

    /// Keeps a session for the next request, unless the follower began another meanwhile.
    fn keep(&self, session: Session) {
        let mut of = self.of.lock();
        if let Some(slot) = of.get_mut(&session.follower)
            && slot.id == session.id
        {
            slot.session = Some(session);
        }
    }
}

impl Session {
    /// Remembers what is asked; returns which partitions that is about.
    fn take_over(&mut self, shared: &Shared, topics: Vec<FetchTopic>) -> BTreeSet<Key> {
        let mut told = BTreeSet::new();
        for topic in topics {
            for asked in topic.partitions {
                let key = (topic.topic_id, asked.partition);
                told.insert(key);
                match self.entries.get_mut(&key) {
                    Some(entry) if entry.watch.is_some() => entry.asked = asked,
                    _ => {
                        let partition = shared.partitions.online_one(key);
                        let watch = partition.map(|found| found.mark_log_end(&self.marks));
                        let entry = Entry {
                            asked,
                            told: None,
                            watch,
                        };
                        self.entries.insert(key, entry);
                    }
                }
            }
        }
        told
    }

    /// Whether the follower does not know this yet.
    fn is_news(&self, key: &Key, result: &FetchPartitionResult) -> bool {
        let known = self.entries.get(key).and_then(|entry| entry.told);
        result.error != ErrorCode::None
            || result.diverging.is_some()
            || !result.records.is_empty()
            || known != Some((result.high_watermark, result.log_start))
    }
}

/// A fetch of a session.
pub(super) fn handle(
    shared: &Arc<Shared>,
    mut request: FetchRequest,
    replica: &FetchReplica,
    asked: &FetchSession,
    reply: Reply,
) -> Answer {
    let now = lease::now();
    let sessions = &shared.fetch_sessions;
    let resumed = match asked.round {
        0 => Some(sessions.begin(replica, asked.id, now)),
        _ => sessions.resume(replica, asked),
    };
    let Some(mut session) = resumed else {
        let message = "this is not the next fetch of the follower's session; it begins another";
        return Answer::Now(reply.error(shared, ErrorCode::PreconditionFailed, message));
    };
    let told = session.take_over(shared, std::mem::take(&mut request.topics));
    if session.entries.len() > PARTITIONS_MAX {
        let message = "no follower has that many partitions";
        return Answer::Now(reply.error(shared, ErrorCode::InvalidRequest, message));
    }
    session.round = asked.round;
    let every = u64::try_from(shared.config.replication.lag_time_max.as_millis())
        .map_or(LOOK_AT_ALL_MS, |lag| {
            (lag / LOOKS_PER_LAG_TIME).min(LOOK_AT_ALL_MS)
        });
    let mut round = Round {
        request,
        looked_at: Vec::new(),
        known: BTreeSet::new(),
    };
    round.look_at(std::mem::take(&mut session.waiting));
    round.look_at(told.iter().copied());
    round.look_at(session.marks.take());
    let looks_at_all = now.millis_since(session.looked_at_all) >= every;
    if looks_at_all {
        session.looked_at_all = now;
        round.look_at(session.entries.keys().copied());
    }
    // What is told again with the request is noted again: the follower is where it was.
    let look = |key: &Key| match looks_at_all || told.contains(key) {
        true => Look::First,
        false => Look::Again,
    };
    let pass = round.pass(shared, &session, look);
    match round.is_enough(shared, &pass) {
        true if pass.all_resident() => {
            return Answer::Now(round.respond(shared, session, pass, reply));
        }
        true => {}
        false => round.keep_news(&session, &pass, told),
    }
    let held = session.entries.len() * PARTITION_BYTES;
    let shared = Arc::clone(shared);
    let answer = async move {
        let pass = round.wait(&shared, &session).await;
        match pass.with_cold_data().await {
            Ok(pass) => round.respond(&shared, session, pass, reply),
            Err(error) => error.respond(&shared, reply),
        }
    };
    Answer::Later(Box::pin(answer), held)
}

/// The partitions that are looked at for one request, in the order in which they are served.
struct Round {
    /// Without topics.
    request: FetchRequest,
    looked_at: Vec<Key>,
    known: BTreeSet<Key>,
}

impl Round {
    fn look_at(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if self.known.insert(key) {
                self.looked_at.push(key);
            }
        }
    }

    fn pass(&self, shared: &Shared, session: &Session, look: impl Fn(&Key) -> Look) -> Pass {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for key in &self.looked_at {
            let Some(entry) = session.entries.get(key) else {
                continue;
            };
            let asked = entry.asked.clone();
            match topics.last_mut() {
                Some(topic) if topic.topic_id == key.0 => topic.partitions.push(asked),
                _ => topics.push(FetchTopic {
                    topic_id: key.0,
                    partitions: vec![asked],
                }),
            }
        }
        let request = FetchRequest {
            topics,
            ..self.request.clone()
        };
        Pass::run(shared, &request, look)
    }

    fn is_enough(&self, shared: &Shared, pass: &Pass) -> bool {
        let wanted = (self.request.bytes_min as usize).min(bytes_max(shared, &self.request));
        self.request.wait_ms_max == 0 || pass.has_errors || pass.bytes >= wanted
    }

    /// While it waits, it looks again at what it may have to tell in the end: what is news now, and what
    /// becomes committed by what was `told`.
    fn keep_news(&mut self, session: &Session, pass: &Pass, told: BTreeSet<Key>) {
        let mut kept = told;
        for topic in &pass.topics {
            let keyed = topic.partitions.iter().map(|result| {
                let key = (topic.topic_id, result.partition);
                (key, result)
            });
            let news = keyed.filter(|(key, result)| session.is_news(key, result));
            kept.extend(news.map(|(key, _)| key));
        }
        kept.extend(pass.cold_keys());
        self.looked_at.retain(|key| kept.contains(key));
        self.known = self.looked_at.iter().copied().collect();
    }

    /// Waits until a partition has something to tell, or the time is over.
    async fn wait(&mut self, shared: &Shared, session: &Session) -> Pass {
        let wait = Duration::from_millis(self.request.wait_ms_max.min(WAIT_MS_MAX).into());
        let deadline = Instant::now() + wait;
        loop {
            // Taken before looking: what gets somewhere afterwards is marked again.
            self.look_at(session.marks.take());
            let pass = self.pass(shared, session, |_| Look::Again);
            if self.is_enough(shared, &pass) {
                return pass;
            }
            tokio::select! {
                () = session.marks.marked() => {}
                () = shared.draining.cancelled() => return pass,
                () = tokio::time::sleep_until(deadline) => {
                    return self.pass(shared, session, |_| Look::Again);
                }
            }
        }
    }

    /// Answers with what is news, and keeps the session for the next request.
    fn respond(
        &self,
        shared: &Shared,
        mut session: Session,
        mut pass: Pass,
        reply: Reply,
    ) -> Response {
        let had_room = pass.bytes < bytes_max(shared, &self.request);
        for topic in &mut pass.topics {
            let topic_id = topic.topic_id;
            topic.partitions.retain(|result| {
                let key = (topic_id, result.partition);
                if !had_room && result.error == ErrorCode::None && result.records.is_empty() {
                    session.waiting.push_back(key);
                }
                let is_news = session.is_news(&key, result);
                if is_news && let Some(entry) = session.entries.get_mut(&key) {
                    entry.told = Some((result.high_watermark, result.log_start));
                }
                is_news
            });
        }
        pass.topics.retain(|topic| !topic.partitions.is_empty());
        shared.fetch_sessions.keep(session);
        pass.respond(shared, reply)
    }
}
