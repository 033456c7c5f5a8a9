//! The connections of a client, one per broker, made when first needed and made anew when lost.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use highwater_protocol::ids::{ClusterId, NodeId};
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::connection::{Connection, Introduction, open};
use crate::error::ConnectError;
use crate::retry::Backoff;

/// How long one address may take to answer before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long others may take to be connected to while there is somebody who could be asked again.
const ELSEWHERE_PATIENCE: Duration = Duration::from_millis(500);

/// One connection per broker.
#[derive(Debug)]
pub(crate) struct Brokers {
    seeds: Vec<Arc<str>>,
    introduction: Introduction,
    backoff: Backoff,
    /// Learned from the first broker that answered, then demanded of all.
    cluster: RwLock<Option<ClusterId>>,
    slots: Mutex<HashMap<NodeId, Arc<Slot>>>,
    /// Who answered last where several would do. Staying with one broker, a client sees its own
    /// changes.
    favourite: Mutex<Option<NodeId>>,
    asked_in_vain: Mutex<AskedInVain>,
}

/// Who had nothing new to say about leaders when they had to be asked for anew. It may be that there is
/// nothing new yet; or that these brokers are cut off from the others, do not know who has taken over,
/// and never will as long as only they are asked.
#[derive(Debug, Default)]
struct AskedInVain {
    nodes: Vec<NodeId>,
}

impl AskedInVain {
    /// With news the search is over; when everyone had a turn it begins anew.
    fn note(&mut self, from: NodeId, was_news: bool) {
        if was_news || self.nodes.contains(&from) {
            self.nodes.clear();
        }
        if !was_news {
            self.nodes.push(from);
        }
    }
}

/// The place of one broker's connection.
#[derive(Debug, Default)]
struct Slot {
    current: RwLock<Option<Arc<Connection>>>,
    /// Where metadata says that the broker listens.
    address: Mutex<Option<Arc<str>>>,
    /// Held while connecting, so that everyone waits for the same attempt.
    attempts: tokio::sync::Mutex<Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    not_before: Option<Instant>,
}

impl Slot {
    fn live(&self) -> Option<Arc<Connection>> {
        let current = self.current.read();
        current
            .as_ref()
            .filter(|connection| connection.is_live())
            .cloned()
    }
}

impl Brokers {
    pub(crate) fn new(seeds: Vec<Arc<str>>, introduction: Introduction, backoff: Backoff) -> Self {
        let cluster = RwLock::new(introduction.cluster_id);
        Self {
            seeds,
            introduction,
            backoff,
            cluster,
            slots: Mutex::default(),
            favourite: Mutex::default(),
            asked_in_vain: Mutex::default(),
        }
    }

    /// A broker answered a question about leaders that had to be asked anew.
    pub(crate) fn note_answer(&self, from: NodeId, was_news: bool) {
        self.asked_in_vain.lock().note(from, was_news);
    }

    /// Who should be asked about leaders after all others.
    pub(crate) fn asked_in_vain(&self) -> Vec<NodeId> {
        self.asked_in_vain.lock().nodes.clone()
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.read()
    }

    fn slot(&self, node: NodeId) -> Arc<Slot> {
        Arc::clone(self.slots.lock().entry(node).or_default())
    }

    /// The broker's connection, if there is one and it works.
    pub(crate) fn live(&self, node: NodeId) -> Option<Arc<Connection>> {
        let slot = self.slots.lock().get(&node).cloned()?;
        slot.live()
    }

    /// Whether any connection works.
    pub(crate) fn has_live(&self) -> bool {
        self.slots.lock().values().any(|slot| slot.live().is_some())
    }

    /// Whether more than one broker is known.
    pub(crate) fn has_several(&self) -> bool {
        self.slots.lock().len() > 1
    }

    /// A connection that works, to none of `avoid`.
    fn live_besides(&self, avoid: &[NodeId]) -> Option<Arc<Connection>> {
        let favourite = *self.favourite.lock();
        let slots = self.slots.lock();
        let first = favourite.and_then(|node| slots.get_key_value(&node));
        first
            .into_iter()
            .chain(slots.iter())
            .filter(|(node, _)| !avoid.contains(node))
            .find_map(|(_, slot)| slot.live())
    }

    /// Takes over where brokers listen. Those that are not among them any more are forgotten, once
    /// their connection has ended.
    pub(crate) fn set_addresses(&self, brokers: impl Iterator<Item = (NodeId, Arc<str>)>) {
        let mut named = HashSet::new();
        for (node, address) in brokers {
            *self.slot(node).address.lock() = Some(address);
            named.insert(node);
        }
        if named.is_empty() {
            // A broker that knows of none, not even of itself, has nothing to say.
            return;
        }
        self.slots
            .lock()
            .retain(|node, slot| named.contains(node) || slot.live().is_some());
    }

    /// The broker's connection, made if there is none. Waits out the backoff after failed attempts.
    ///
    /// Cancel safe: an attempt under way is given up.
    pub(crate) async fn connection(&self, node: NodeId) -> Result<Arc<Connection>, ConnectError> {
        let slot = self.slot(node);
        if let Some(connection) = slot.live() {
            return Ok(connection);
        }
        let mut attempts = slot.attempts.lock().await;
        if let Some(connection) = slot.live() {
            return Ok(connection);
        }
        if let Some(not_before) = attempts.not_before {
            sleep_until(not_before).await;
        }
        let result = self.connect_to(node, &slot).await;
        match &result {
            Ok(_) => *attempts = Attempts::default(),
            Err(error) => {
                attempts.failures += 1;
                let wait = self.backoff.wait(attempts.failures);
                attempts.not_before = Some(Instant::now() + wait);
                debug!(%node, %error, failures = attempts.failures, "cannot connect");
            }
        }
        result
    }

    /// Tries where the broker is said to listen, then the seeds: one of them may be the same broker
    /// under an address that can be reached from here.
    async fn connect_to(&self, node: NodeId, slot: &Slot) -> Result<Arc<Connection>, ConnectError> {
        let advertised = slot.address.lock().clone();
        let mut first_error = None;
        let others = self.seeds_besides(advertised.as_ref());
        for address in advertised.into_iter().chain(others) {
            match self.open(&address).await {
                Ok(connection) if connection.node_id() == node => return Ok(self.keep(connection)),
                Ok(connection) => {
                    // Another broker than expected: good to have all the same.
                    self.keep(connection);
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(ConnectError::UnknownBroker { node_id: node }))
    }

    /// The seeds behind which nobody is connected already, without `besides`.
    fn seeds_besides(&self, besides: Option<&Arc<str>>) -> Vec<Arc<str>> {
        let taken: HashSet<Arc<str>> = {
            let slots = self.slots.lock();
            let live = slots.values().filter_map(|slot| slot.live());
            live.map(|connection| connection.address()).collect()
        };
        let seeds = self.seeds.iter();
        seeds
            .filter(|seed| Some(*seed) != besides && !taken.contains(*seed))
            .cloned()
            .collect()
    }

    /// Any connection: a live one, otherwise to the first seed or known broker that answers. Brokers
    /// in `avoid` come last.
    ///
    /// Cancel safe: an attempt under way is given up.
    pub(crate) async fn any(&self, avoid: &[NodeId]) -> Result<Arc<Connection>, ConnectError> {
        if let Some(connection) = self.live_besides(avoid) {
            return Ok(self.prefer(connection));
        }
        let mut addresses = self.seeds_besides(None);
        {
            let slots = self.slots.lock();
            for (node, slot) in slots.iter() {
                let address = slot.address.lock().clone();
                if let Some(address) = address
                    && slot.live().is_none()
                    && !avoid.contains(node)
                    && !addresses.contains(&address)
                {
                    addresses.push(address);
                }
            }
        }
        let opening = self.open_first(addresses);
        let Some(avoided) = self.live_besides(&[]) else {
            let connection = self.keep(opening.await?);
            return Ok(self.prefer(connection));
        };
        match timeout(ELSEWHERE_PATIENCE, opening).await {
            Ok(Ok(connection)) => {
                let connection = self.keep(connection);
                Ok(self.prefer(connection))
            }
            Ok(Err(_)) | Err(_) => Ok(avoided),
        }
    }

    fn prefer(&self, connection: Arc<Connection>) -> Arc<Connection> {
        *self.favourite.lock() = Some(connection.node_id());
        connection
    }

    /// Opens a connection to the first address that answers. The next one is tried as soon as one
    /// fails, and beside those that are slow.
    async fn open_first(&self, addresses: Vec<Arc<str>>) -> Result<Connection, ConnectError> {
        type Attempt<'a> =
            Pin<Box<dyn Future<Output = (usize, Result<Connection, ConnectError>)> + Send + 'a>>;
        let mut waiting: VecDeque<(usize, Arc<str>)> = addresses.into_iter().enumerate().collect();
        let mut running: Vec<Attempt<'_>> = Vec::new();
        let mut errors: Vec<(usize, ConnectError)> = Vec::new();
        loop {
            if let Some((place, address)) = waiting.pop_front() {
                running.push(Box::pin(async move { (place, self.open(&address).await) }));
            } else if running.is_empty() {
                errors.sort_by_key(|(place, _)| *place);
                let first = errors.into_iter().next();
                return Err(first.map_or(ConnectError::NoSeeds, |(_, error)| error));
            }
            let any_done = poll_fn(|cx| {
                for (index, attempt) in running.iter_mut().enumerate() {
                    if let Poll::Ready(done) = attempt.as_mut().poll(cx) {
                        return Poll::Ready((index, done));
                    }
                }
                Poll::Pending
            });
            let done = if waiting.is_empty() {
                Some(any_done.await)
            } else {
                timeout(HEAD_START, any_done).await.ok()
            };
            match done {
                Some((_, (_, Ok(connection)))) => return Ok(connection),
                Some((index, (place, Err(error)))) => {
                    drop(running.swap_remove(index));
                    errors.push((place, error));
                }
                None => {}
            }
        }
    }

    async fn open(&self, address: &Arc<str>) -> Result<Connection, ConnectError> {
        let mut introduction = self.introduction.clone();
        introduction.cluster_id = self.cluster();
        let connection = open(address, &introduction).await?;
        let mut cluster = self.cluster.write();
        let expected = *cluster.get_or_insert(connection.cluster_id());
        if expected != connection.cluster_id() {
            return Err(ConnectError::WrongCluster {
                address: Arc::clone(address),
                expected,
            });
        }
        Ok(connection)
    }

    /// Files a new connection under its broker; one that is already there and works is preferred.
    fn keep(&self, connection: Connection) -> Arc<Connection> {
        let slot = self.slot(connection.node_id());
        let mut current = slot.current.write();
        match current.as_ref().filter(|there| there.is_live()) {
            Some(there) => Arc::clone(there),
            None => Arc::clone(current.insert(Arc::new(connection))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two that know nothing newer do not keep a client between them.
    #[test]
    fn who_was_asked_in_vain_is_asked_again_after_all_others() {
        let [a, b, c] = [1, 2, 3].map(NodeId::new);
        let mut asked = AskedInVain::default();
        asked.note(a, false);
        asked.note(b, false);
        assert_eq!(asked.nodes, [a, b]);
        asked.note(c, true);
        assert_eq!(asked.nodes, []);
        asked.note(c, false);
        asked.note(b, false);
        asked.note(a, false);
        // Nobody else could be reached.
        asked.note(c, false);
        assert_eq!(asked.nodes, [c]);
    }
}
