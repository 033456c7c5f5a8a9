//! The producer's one task: what is not done by the tasks that send and the answers that come.
//!
//! It sleeps while all goes well. It sends batches whose linger time is over; where something is
//! wrong (no leader, no connection, a refusal that asks for a pause) it has metadata refreshed and
//! connections made, lets the partition go on afterwards, and gives up batches whose delivery
//! timeout is over.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use highwater_protocol::ids::{NodeId, TopicName};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::core::{ProducerCore, lookup_failed};
use super::identity;
use super::topic::Partition;
use crate::error::{RequestError, SendError};

/// What the task has to look after.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    wake: Notify,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    lingering: Vec<(Arc<Partition>, Instant)>,
    troubled: Vec<Arc<Partition>>,
    /// Brokers that are being connected to.
    connecting: HashSet<NodeId>,
    /// Topics that are being asked for.
    asking: HashSet<TopicName>,
}

impl Upkeep {
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Sends the partition's open batch at this time.
    pub(super) fn linger(&self, partition: &Arc<Partition>, due: Instant) {
        if std::mem::replace(&mut partition.queue.lock().lingering, true) {
            return;
        }
        self.lists
            .lock()
            .lingering
            .push((Arc::clone(partition), due));
        self.wake();
    }

    /// Looks after a partition that cannot send.
    pub(super) fn trouble(&self, partition: &Arc<Partition>) {
        {
            let mut queue = partition.queue.lock();
            if std::mem::replace(&mut queue.troubled, true) {
                return;
            }
            partition.unwell.store(true, Ordering::Relaxed);
        }
        self.lists.lock().troubled.push(Arc::clone(partition));
        self.wake();
    }
}

/// What becomes of a troubled partition.
enum Verdict {
    /// It can go on, or has nothing left.
    Well,
    /// It waits, and is looked at again at this time at the latest.
    Wait(Option<Instant>),
}

/// Leaves nobody waiting however the task ends, also when its runtime is torn down.
struct Guard(Arc<ProducerCore>);

impl Drop for Guard {
    fn drop(&mut self) {
        let core = &self.0;
        core.closed.store(true, Ordering::Release);
        core.close_buffer();
        for partition in core.all_partitions() {
            let finished = partition.queue.lock().abandon();
            core.finish(&partition, finished);
        }
    }
}

/// Runs until all handles are gone and every record is resolved.
pub(super) async fn run(core: Arc<ProducerCore>) {
    let guard = Guard(core);
    let core = &guard.0;
    loop {
        let next = pass(core);
        if core.handles.load(Ordering::Acquire) == 0 && !core.has_unresolved() {
            return;
        }
        match next {
            Some(due) => tokio::select! {
                () = core.upkeep.wake.notified() => {}
                () = sleep_until(due) => {}
            },
            None => core.upkeep.wake.notified().await,
        }
    }
}

/// Looks at everything once; returns when to look again.
fn pass(core: &Arc<ProducerCore>) -> Option<Instant> {
    let now = Instant::now();
    let lingering = send_lingering(core, now);
    let troubled = std::mem::take(&mut core.upkeep.lists.lock().troubled);
    let mut next = lingering;
    let mut still = Vec::new();
    for partition in troubled {
        match look_at(core, &partition, now) {
            Verdict::Well => {
                partition.queue.lock().troubled = false;
                partition.unwell.store(false, Ordering::Relaxed);
                let readiness = partition
                    .queue
                    .lock()
                    .readiness(&core.options, core.hurries());
                core.act_on(&partition, readiness);
            }
            Verdict::Wait(due) => {
                next = earlier(next, due);
                still.push(partition);
            }
        }
    }
    core.upkeep.lists.lock().troubled.append(&mut still);
    next
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Sends what has lingered long enough; returns when the next has.
fn send_lingering(core: &Arc<ProducerCore>, now: Instant) -> Option<Instant> {
    let mut due = Vec::new();
    let mut next = None;
    let hurry = core.hurries();
    core.upkeep
        .lists
        .lock()
        .lingering
        .retain(|(partition, at)| {
            if *at <= now || hurry {
                due.push(Arc::clone(partition));
                return false;
            }
            next = earlier(next, Some(*at));
            true
        });
    for partition in due {
        let readiness = {
            let mut queue = partition.queue.lock();
            queue.lingering = false;
            queue.readiness(&core.options, hurry)
        };
        core.act_on(&partition, readiness);
    }
    // Those that have to linger on woke the task again.
    next
}

/// Finds out what a partition needs and has it done.
fn look_at(core: &Arc<ProducerCore>, partition: &Arc<Partition>, now: Instant) -> Verdict {
    let (expired, waiting, hold_until, needs_newer, deadline, nameless) = {
        let mut queue = partition.queue.lock();
        let nameless = queue.lacks_identity() && !core.identify(&mut queue);
        let expired = queue.expire(now, &core.options);
        let deadline = queue.next_deadline(&core.options);
        (
            expired,
            queue.has_waiting(),
            queue.hold_until(),
            queue.needs_newer(),
            deadline,
            nameless,
        )
    };
    core.finish(partition, expired);
    if !waiting {
        return Verdict::Well;
    }
    if let Some(until) = hold_until
        && until > now
    {
        return Verdict::Wait(earlier(Some(until), deadline));
    }
    let topic = core.client.metadata.topic(partition.topic.as_str());
    let stale = topic
        .as_ref()
        .is_none_or(|t| needs_newer.is_some_and(|seen| t.generation <= seen));
    let leader = topic.as_ref().and_then(|topic| topic.leader(partition.id));
    let Some(node) = leader.and_then(|leader| leader.node).filter(|_| !stale) else {
        ask(core, partition);
        return Verdict::Wait(deadline);
    };
    if core.client.brokers.live(node).is_none() {
        connect(core, partition, node);
        return Verdict::Wait(deadline);
    }
    if nameless {
        identity::ask(core);
        return Verdict::Wait(deadline);
    }
    let mut queue = partition.queue.lock();
    if hold_until.is_some() || needs_newer.is_some() {
        queue.release();
    }
    Verdict::Well
}

/// Has the partition's topic asked for, once at a time.
pub(super) fn ask(core: &Arc<ProducerCore>, partition: &Arc<Partition>) {
    let name = partition.topic.clone();
    if !core.upkeep.lists.lock().asking.insert(name.clone()) {
        return;
    }
    let runtime = core.client.runtime.clone();
    let core = Arc::clone(core);
    runtime.spawn(async move {
        refresh(&core, &name).await;
        core.upkeep.lists.lock().asking.remove(&name);
        core.upkeep.wake();
    });
}

/// Asks for a topic anew; fails what waits for one that is gone for good.
async fn refresh(core: &Arc<ProducerCore>, name: &TopicName) {
    let seen = core
        .client
        .metadata
        .topic(name.as_str())
        .map(|topic| topic.generation);
    match core.client.refresh(name, seen).await {
        Ok(topic) => {
            core.adopt(name, topic.partition_count());
            let leaderless = |p: &Arc<Partition>| {
                topic
                    .leader(p.id)
                    .is_some_and(|leader| leader.node.is_none())
            };
            for partition in troubled_of(core, name) {
                if topic.leader(partition.id).is_none() {
                    let error = SendError::UnknownPartition {
                        topic: name.clone(),
                        partition: partition.id,
                        partitions: topic.partition_count(),
                    };
                    fail(core, &partition, &error);
                }
            }
            if troubled_of(core, name).iter().any(leaderless) {
                // Elections take a moment: do not ask in a tight loop.
                tokio::time::sleep(core.options.backoff.wait(2)).await;
            }
        }
        Err(error) => {
            let error = lookup_failed(name, error);
            debug!(topic = %name, %error, "no metadata");
            if error.is_retriable() {
                tokio::time::sleep(core.options.backoff.wait(2)).await;
            } else {
                troubled_of(core, name)
                    .iter()
                    .for_each(|partition| fail(core, partition, &error));
            }
        }
    }
}

fn troubled_of(core: &ProducerCore, name: &TopicName) -> Vec<Arc<Partition>> {
    let lists = core.upkeep.lists.lock();
    lists
        .troubled
        .iter()
        .filter(|partition| partition.topic == *name)
        .cloned()
        .collect()
}

fn fail(core: &ProducerCore, partition: &Partition, error: &SendError) {
    let finished = partition.queue.lock().fail_waiting(error);
    core.finish(partition, finished);
}

/// Fails what waits for a producer id that the cluster will not give.
pub(super) fn fail_without_identity(core: &ProducerCore, source: &RequestError) {
    let troubled = core.upkeep.lists.lock().troubled.clone();
    for partition in troubled {
        if partition.queue.lock().lacks_identity() {
            let error = SendError::NoProducerId {
                topic: partition.topic.clone(),
                source: source.clone(),
            };
            fail(core, &partition, &error);
        }
    }
}

/// Has the broker connected to, once at a time.
fn connect(core: &Arc<ProducerCore>, partition: &Arc<Partition>, node: NodeId) {
    if !core.upkeep.lists.lock().connecting.insert(node) {
        return;
    }
    let name = partition.topic.clone();
    let runtime = core.client.runtime.clone();
    let core = Arc::clone(core);
    runtime.spawn(async move {
        let told = || core.upkeep.wake();
        if let Err(error) = core.client.connect_or_learn(node, &name, told).await {
            if error.is_retriable() {
                // The leader may have moved away from a broker that is gone.
                ask_elsewhere(&core, &name).await;
            } else {
                warn!(%node, %error, "the broker cannot be used");
                fail_all_of(&core, node, &error.into());
            }
        }
        core.upkeep.lists.lock().connecting.remove(&node);
        core.upkeep.wake();
    });
}

/// Refreshes the topic if another broker can be asked.
async fn ask_elsewhere(core: &Arc<ProducerCore>, name: &TopicName) {
    if core.client.brokers.has_live() {
        refresh(core, name).await;
    }
}

/// Fails what waits for a broker that can never be used.
fn fail_all_of(core: &ProducerCore, node: NodeId, source: &RequestError) {
    let troubled = core.upkeep.lists.lock().troubled.clone();
    for partition in troubled {
        let topic = core.client.metadata.topic(partition.topic.as_str());
        let leader = topic.and_then(|topic| topic.leader(partition.id)?.node);
        if leader == Some(node) {
            let error = SendError::Request {
                topic: partition.topic.clone(),
                partition: partition.id,
                source: source.clone(),
            };
            fail(core, &partition, &error);
        }
    }
}
