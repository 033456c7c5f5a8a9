//! The connections of a client, one per broker, made when first needed and made anew when lost.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_protocol::ids::{ClusterId, NodeId};
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::connection::{Connection, Introduction, open};
use crate::error::ConnectError;
use crate::retry::Backoff;

/// One connection per broker.
#[derive(Debug)]
pub(crate) struct Brokers {
    seeds: Vec<Arc<str>>,
    introduction: Introduction,
    backoff: Backoff,
    /// Learned from the first broker that answered, then demanded of all.
    cluster: RwLock<Option<ClusterId>>,
    slots: Mutex<HashMap<NodeId, Arc<Slot>>>,
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
        }
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

    /// Any connection that works.
    pub(crate) fn any_live(&self) -> Option<Arc<Connection>> {
        self.slots.lock().values().find_map(|slot| slot.live())
    }

    /// Takes over where brokers listen.
    pub(crate) fn set_addresses(&self, brokers: impl Iterator<Item = (NodeId, Arc<str>)>) {
        for (node, address) in brokers {
            *self.slot(node).address.lock() = Some(address);
        }
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
        let others = self
            .seeds
            .iter()
            .filter(|seed| Some(*seed) != advertised.as_ref())
            .cloned();
        for address in advertised.clone().into_iter().chain(others) {
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

    /// Any connection: a live one, otherwise to the first known broker or seed that answers.
    ///
    /// Cancel safe: an attempt under way is given up.
    pub(crate) async fn any(&self) -> Result<Arc<Connection>, ConnectError> {
        if let Some(connection) = self.any_live() {
            return Ok(connection);
        }
        let known: Vec<Arc<str>> = {
            let slots = self.slots.lock();
            slots
                .values()
                .filter_map(|slot| slot.address.lock().clone())
                .collect()
        };
        let mut first_error = None;
        let fresh = known.iter().filter(|address| !self.seeds.contains(address));
        for address in self.seeds.iter().chain(fresh) {
            match self.open(address).await {
                Ok(connection) => return Ok(self.keep(connection)),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(ConnectError::NoSeeds))
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
