//! Several brokers of one cluster inside of another program: for tests and demonstrations.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use highwater_config::BrokerConfig;
use highwater_coordination::quorum_members::voters_of;

use crate::embedded::{EmbeddedBroker, EmbeddedError};
use crate::loopback::free_loopback_addresses;

/// How long voters may take to be agreed upon: far longer than they do on a machine that is busy.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Brokers on the loopback interface that form one cluster.
///
/// Each has a loopback address of its own, so that a broker that was ended gets its port back: nobody
/// else takes ports there.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use highwater_broker::EmbeddedCluster;
///
/// let mut cluster = EmbeddedCluster::start(3).await?;
/// println!("seeds: {:?}", cluster.addresses());
/// cluster.kill(0).await?;
/// cluster.restart(0).await?;
/// cluster.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EmbeddedCluster {
    brokers: Vec<EmbeddedBroker>,
    seeds: Vec<String>,
}

impl EmbeddedCluster {
    /// Starts so many brokers with default settings, and returns once all of them serve and as many vote
    /// in the metadata quorum as will: from then on a majority of the voters outlives any one of them.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn start(brokers: usize) -> Result<Self, EmbeddedError> {
        Self::start_with(brokers, |_, _| {}).await
    }

    /// Starts brokers with other settings; `change` gets the number of the broker, from 0. Addresses, data
    /// directory, seeds and node id (from 1) are set already.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn start_with(
        brokers: usize,
        change: impl Fn(usize, &mut BrokerConfig),
    ) -> Result<Self, EmbeddedError> {
        let addresses = free_loopback_addresses(brokers)?;
        let seeds: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let (known, change) = (&seeds, &change);
        let starting = addresses.iter().enumerate().map(|(index, address)| {
            EmbeddedBroker::start_with(move |config| {
                Self::prepare(config, known, index, address);
                change(index, config);
            })
        });
        let mut started = Vec::with_capacity(brokers);
        for broker in futures_util::future::join_all(starting).await {
            started.push(broker?);
        }
        let cluster = Self {
            brokers: started,
            seeds,
        };
        cluster.until_settled().await?;
        Ok(cluster)
    }

    /// A young cluster is a quorum of one: it would end with its first node.
    async fn until_settled(&self) -> Result<(), EmbeddedError> {
        let Some(first) = self.brokers.first() else {
            return Ok(());
        };
        let wanted = voters_of(self.brokers.len(), first.config().cluster.voters);
        let began = Instant::now();
        loop {
            let mut running = self.brokers.iter().map(EmbeddedBroker::running);
            if running.all(|broker| broker.settled_voters() == Some(wanted)) {
                return Ok(());
            }
            let waited = began.elapsed();
            if waited > SETTLED_WITHIN {
                return Err(EmbeddedError::Quorum { wanted, waited });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn prepare(config: &mut BrokerConfig, seeds: &[String], index: usize, address: &SocketAddr) {
        config.listen = address.to_string();
        config.seeds = if seeds.len() > 1 {
            seeds.to_vec()
        } else {
            Vec::new()
        };
        // Cannot truncate: there are not that many loopback addresses.
        config.node_id = Some(highwater_protocol::ids::NodeId::new(index as u32 + 1));
    }

    /// Starts one more broker, which joins the others. Returns its number.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn add(
        &mut self,
        change: impl FnOnce(&mut BrokerConfig),
    ) -> Result<usize, EmbeddedError> {
        let address = free_loopback_addresses(1)?[0];
        let index = self.brokers.len();
        let seeds = self.seeds.clone();
        let broker = EmbeddedBroker::start_with(|config| {
            Self::prepare(config, &seeds, index, &address);
            config.seeds = seeds.clone();
            change(config);
        })
        .await?;
        self.brokers.push(broker);
        Ok(index)
    }

    /// Where clients connect: the seeds.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.seeds
    }

    /// The broker of this number.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn broker(&self, index: usize) -> &EmbeddedBroker {
        &self.brokers[index]
    }

    /// Number of brokers, those that are down included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.brokers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.brokers.is_empty()
    }

    /// Ends a broker as `kill -9` would.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn kill(&mut self, index: usize) -> Result<(), EmbeddedError> {
        Ok(self.brokers[index].kill().await?)
    }

    /// Stops a broker in order.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn stop(&mut self, index: usize) -> Result<(), EmbeddedError> {
        Ok(self.brokers[index].stop().await?)
    }

    /// Starts a broker again on its data and its address.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn restart(&mut self, index: usize) -> Result<(), EmbeddedError> {
        self.brokers[index].restart().await
    }

    /// Starts all brokers again that are down, at the same time: none can serve before there is a quorum.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn restart_all(&mut self) -> Result<(), EmbeddedError> {
        let starting = self.brokers.iter_mut().filter(|broker| !broker.is_up());
        for started in futures_util::future::join_all(starting.map(EmbeddedBroker::restart)).await {
            started?;
        }
        Ok(())
    }

    /// Stops all brokers in order and leaves their data where it is. Returns the directories, by
    /// number of the broker.
    ///
    /// # Errors
    /// [`EmbeddedError`] of the first that did not stop in order; the others are stopped all the same.
    pub async fn shutdown_and_keep(self) -> Result<Vec<std::path::PathBuf>, EmbeddedError> {
        let stopping = self
            .brokers
            .into_iter()
            .map(EmbeddedBroker::shutdown_and_keep);
        let mut directories = Vec::new();
        for stopped in futures_util::future::join_all(stopping).await {
            directories.push(stopped?);
        }
        Ok(directories)
    }

    /// Stops all brokers in order, one after the other, and removes their data.
    ///
    /// # Errors
    /// [`EmbeddedError`] of the first that did not stop in order; the others are stopped all the same.
    pub async fn shutdown(self) -> Result<(), EmbeddedError> {
        let stopping = self.brokers.into_iter().map(EmbeddedBroker::shutdown);
        for stopped in futures_util::future::join_all(stopping).await {
            stopped?;
        }
        Ok(())
    }
}
