//! Fetching from one leader.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::LeaderEpoch;
use highwater_protocol::messages::FetchPartitionResult;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::Shared;
use super::following::{Followed as FollowedPartition, Source};
use super::request::{Asked, Draft, PARTITION_BYTES_MAX, PARTITIONS_MAX, paired};
use super::session::Session;
use crate::partition::Followed;
use crate::partitions::Key;

/// How long an answer may take beyond the time that the leader was asked to wait.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
/// An answer without anything new that comes sooner than this is no reason to ask again at once: a
/// leader that stops answers everything without waiting.
const EMPTY_ROUND_MIN: Duration = Duration::from_millis(5);
/// What one partition that is not in sync gets at least, however many share what the throttle allows.
const CATCHUP_BYTES_MIN: u64 = 64 << 10;
/// First pause after a failure; doubles up to the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Changes of what is followed come many at a time; so long they are waited for.
const GATHER: Duration = Duration::from_millis(2);
/// How long to look away while this broker is not registered.
const UNREGISTERED: Duration = Duration::from_millis(50);

/// Fetches until the broker stops.
pub(super) async fn run(shared: Arc<Shared>, source: Arc<Source>) {
    let mut task = Task {
        first: None,
        pauses: BTreeMap::new(),
        session: None,
        is_in_order: true,
        failures: 0,
        shared: &shared,
        source: &source,
    };
    loop {
        let seen = source.changes();
        let wait = tokio::select! {
            () = shared.stop.cancelled() => return,
            wait = task.round(seen) => wait,
        };
        if let Some(wait) = wait {
            let seen = if wait == GATHER {
                source.changes()
            } else {
                seen
            };
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = source.changed(seen) => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

struct Task<'a> {
    shared: &'a Arc<Shared>,
    source: &'a Arc<Source>,
    /// Where the next request begins, so that all partitions get their turn.
    first: Option<Key>,
    /// Partitions that had an error, and when they are asked for again.
    pauses: BTreeMap<Key, Pause>,
    /// What the leader remembers, while all is in order.
    session: Option<Session>,
    /// Whether the last answer was taken in whole.
    is_in_order: bool,
    /// Requests that failed one after the other.
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    epoch: LeaderEpoch,
    failures: u32,
    until: Instant,
}

impl Task<'_> {
    /// One request and its answer. Returns how long to wait before the next.
    async fn round(&mut self, seen: usize) -> Option<Duration> {
        let deps = &self.shared.deps;
        let Some(broker_epoch) = (deps.broker_epoch)() else {
            return Some(UNREGISTERED);
        };
        let wait = deps.replication.fetch_wait_max;
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let draft = Draft::new(
            deps.node,
            broker_epoch,
            wait_ms,
            deps.replication.fetch_bytes_max,
        );
        let (draft, mut session, later) = self.plan(draft);
        if draft.is_empty() && session.is_none() {
            return Some(later.unwrap_or(BACKOFF_MAX));
        }
        let (request, asked) = draft.into_parts();
        let began = Instant::now();
        let call = (self.shared.call)(self.source.leader(), request, wait + ANSWER_GRACE);
        let answer = tokio::select! {
            answer = call => answer,
            // What is followed here has changed: the leader is asked again, for that as well.
            () = self.source.changed(seen) => return Some(GATHER),
        };
        let paired = match (answer, &mut session) {
            (Ok(response), Some(session)) => session.paired(response),
            (Ok(response), None) => paired(asked, response),
            (Err(error), _) => {
                debug!(leader = %self.source.leader(), %error, "fetch from leader failed");
                return Some(self.failed());
            }
        };
        let Some(answers) = paired else {
            error!(leader = %self.source.leader(), "a leader answered what it was not asked");
            return Some(self.failed());
        };
        self.failures = 0;
        self.is_in_order = true;
        let brought_something = self.take_in(answers).await;
        self.session = session.filter(|_| self.is_in_order);
        (!brought_something).then(|| EMPTY_ROUND_MIN.saturating_sub(began.elapsed()))
    }

    /// What to ask for: what changed, where the leader remembers the rest, and otherwise all.
    fn plan(&mut self, draft: Draft) -> (Draft, Option<Session>, Option<Duration>) {
        let revision = self.source.revision();
        if let Some(session) = self.session.take() {
            let mut draft = draft.clone();
            let leader = self.source.leader();
            if let Some(session) = session.go_on(&mut draft, leader, revision) {
                return (draft, Some(session), None);
            }
        }
        let (mut draft, later) = self.fill(draft);
        let has_nothing_else = later.is_none() && self.pauses.is_empty();
        let is_in_order = has_nothing_else && !draft.is_empty() && draft.is_all_in_sync();
        let session = is_in_order.then(|| Session::begin(&mut draft, revision));
        (draft, session, later)
    }

    /// Puts into the request what is to be asked for now. Also says when there is more to ask for, if
    /// something has to wait.
    fn fill(&mut self, mut draft: Draft) -> (Draft, Option<Duration>) {
        let now = Instant::now();
        let followed = self.source.partitions();
        self.pauses
            .retain(|key, _| followed.binary_search_by_key(key, |(key, _)| *key).is_ok());
        let start = self
            .first
            .map_or(0, |first| followed.partition_point(|(key, _)| *key < first));
        let (behind, ahead) = followed.split_at(start);
        let mut later: Option<Duration> = None;
        let mut wait_for = |wait: Duration| {
            later = Some(later.map_or(wait, |other| other.min(wait)));
        };
        let catchup = self.shared.throttle.available();
        let behind_count = followed.iter().filter(|(_, one)| !one.in_sync).count() as u64;
        let share = (catchup / behind_count.max(1)).max(CATCHUP_BYTES_MIN);
        let catchup_bytes_max = PARTITION_BYTES_MAX.min(u32::try_from(share).unwrap_or(u32::MAX));
        let mut left_out = false;
        for (key, followed) in ahead.iter().chain(behind) {
            let FollowedPartition {
                partition, in_sync, ..
            } = followed;
            if draft.len() >= PARTITIONS_MAX {
                wait_for(Duration::ZERO);
                break;
            }
            if !in_sync && catchup == 0 {
                left_out = true;
                wait_for(self.shared.throttle.wait());
                continue;
            }
            let Some((ask, durable_end)) = partition.ask() else {
                continue;
            };
            if ask.leader != self.source.leader() {
                continue;
            }
            if let Some(pause) = self
                .pauses
                .get(key)
                .filter(|pause| pause.epoch == ask.epoch)
                && pause.until > now
            {
                wait_for(pause.until - now);
                continue;
            }
            let bytes_max = if *in_sync {
                PARTITION_BYTES_MAX
            } else {
                catchup_bytes_max
            };
            let asked = Asked {
                partition: Arc::clone(partition),
                ask,
                in_sync: *in_sync,
            };
            draft.push(asked, durable_end, bytes_max);
        }
        if left_out {
            self.shared.deps.counters.catchup_waits();
        }
        if let Some(later) = later {
            draft.wait_at_most(u32::try_from(later.as_millis()).unwrap_or(u32::MAX).max(1));
        }
        (draft, later)
    }

    /// Takes the answers in: at once, and on a thread that may block where the disk has to be waited
    /// for. Returns whether they brought any log further.
    async fn take_in(&mut self, answers: Vec<(Asked, FetchPartitionResult)>) -> bool {
        let mut slow = Vec::new();
        let mut outcomes = Vec::new();
        let mut last_with_records = None;
        let now = self.shared.deps.clock.now();
        for (asked, result) in answers {
            if !result.records.is_empty() {
                last_with_records = Some(asked.partition.key());
                self.shared.deps.counters.received(result.records.len());
                if !asked.in_sync {
                    self.shared.throttle.used(result.records.len());
                }
            }
            if asked.partition.waits_for_disk(&result) {
                slow.push((asked, result));
                continue;
            }
            let outcome = asked.partition.on_followed(&asked.ask, &result, now);
            outcomes.push((asked.partition.key(), asked.ask.epoch, outcome));
        }
        if !slow.is_empty() {
            let work = tokio::task::spawn_blocking(move || {
                let done = slow.into_iter().map(|(asked, result)| {
                    let outcome = asked.partition.on_followed(&asked.ask, &result, now);
                    (asked.partition.key(), asked.ask.epoch, outcome)
                });
                done.collect::<Vec<_>>()
            });
            match work.await {
                Ok(done) => outcomes.extend(done),
                Err(error) => error!(%error, "following a leader failed"),
            }
        }
        // Whoever got records goes behind those that did not, should there have been no room for them.
        if let Some((topic, partition)) = last_with_records {
            let next = highwater_protocol::ids::PartitionId::new(partition.get().saturating_add(1));
            self.first = Some((topic, next));
        }
        let mut brought_something = last_with_records.is_some();
        for (key, epoch, outcome) in outcomes {
            brought_something |= matches!(outcome, Followed::Cut);
            self.note(key, epoch, &outcome);
        }
        brought_something
    }

    fn note(&mut self, key: Key, epoch: LeaderEpoch, outcome: &Followed) {
        let before = self.pauses.get(&key).filter(|pause| pause.epoch == epoch);
        let failures = before.map_or(0, |pause| pause.failures.saturating_add(1));
        self.is_in_order &= matches!(outcome, Followed::Took | Followed::Cut);
        match outcome {
            Followed::Took | Followed::Cut | Followed::Dropped | Followed::Quarantined => {
                self.pauses.remove(&key);
                return;
            }
            Followed::Refused(
                ErrorCode::NotLeader
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownTopicId
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::StaleBrokerEpoch,
            ) => {
                // One of the two has not heard of the latest metadata.
                debug!(topic = %key.0, partition = %key.1, ?outcome, "leader does not serve this follower yet");
            }
            Followed::Refused(code) => {
                warn!(topic = %key.0, partition = %key.1, leader = %self.source.leader(), %code, "leader refuses a follower");
            }
            // Told once, and then for as long as it lasts by the partition's lag.
            Followed::Failed(error) if failures == 0 => {
                error!(topic = %key.0, partition = %key.1, leader = %self.source.leader(), %error, "records of the leader cannot be taken in");
            }
            Followed::Failed(error) => {
                debug!(topic = %key.0, partition = %key.1, %error, "records of the leader still cannot be taken in");
            }
        }
        let pause = Pause {
            epoch,
            failures,
            until: Instant::now() + pause(failures),
        };
        self.pauses.insert(key, pause);
    }

    fn failed(&mut self) -> Duration {
        let wait = pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// Tells the leader how far logs are durable as soon as that changes, beside the fetch that waits for
/// records: whoever waits for an acknowledgement waits for one sync and one round trip only.
pub(super) async fn report(shared: Arc<Shared>, source: Arc<Source>) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = source.reports().marked() => {}
        }
        let keys = source.reports().take();
        let Some(broker_epoch) = (shared.deps.broker_epoch)() else {
            continue;
        };
        // Neither waiting nor records.
        let mut draft = Draft::new(shared.deps.node, broker_epoch, 0, 0);
        for key in keys {
            let Some(partition) = source.partition(key) else {
                continue;
            };
            if let Some((ask, durable_end)) = partition.ask()
                && ask.leader == source.leader()
            {
                let asked = Asked {
                    partition,
                    ask,
                    in_sync: true,
                };
                draft.push(asked, durable_end, 0);
            }
        }
        if draft.is_empty() {
            continue;
        }
        let (request, _) = draft.into_parts();
        let call = (shared.call)(source.leader(), request, ANSWER_GRACE);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            // One that is lost is made up for by the next fetch, which tells the same.
            answer = call => if let Err(error) = answer {
                debug!(leader = %source.leader(), %error, "report to leader failed");
                tokio::time::sleep(BACKOFF_MIN).await;
            },
        }
    }
}

/// A pause that grows with the failures before it, and differs between brokers that failed together.
fn pause(failures: u32) -> Duration {
    let longest = BACKOFF_MIN
        .saturating_mul(2u32.saturating_pow(failures.min(10)))
        .min(BACKOFF_MAX);
    let jitter = RandomState::new().build_hasher().finish() % 1000;
    longest.mul_f64(0.5 + jitter as f64 / 2000.0)
}
