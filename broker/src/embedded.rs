//! A broker inside of another program: for tests, ours and those of our users.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use highwater_config::BrokerConfig;
use tempfile::TempDir;
use thiserror::Error;

use crate::server::{Broker, RunningBroker, ShutdownError, StartError};

/// A broker on free ports of the loopback interface with a temporary data directory, which is removed
/// when this is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use highwater_broker::EmbeddedBroker;
///
/// let broker = EmbeddedBroker::start().await?;
/// println!("clients connect to {}", broker.address());
/// broker.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EmbeddedBroker {
    running: Option<RunningBroker>,
    config: BrokerConfig,
    data_dir: TempDir,
}

/// Why an embedded broker did not start.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// No temporary directory could be made.
    #[error("cannot make a temporary directory: {0}")]
    TempDir(#[from] std::io::Error),
    /// The broker did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The brokers of a cluster run, and too few of them vote.
    #[error("after {waited:?} not all brokers know of {wanted} voters of the metadata quorum")]
    Quorum {
        /// How many should vote.
        wanted: usize,
        /// For how long that was waited for.
        waited: Duration,
    },
    /// The broker did not stop cleanly.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
}

impl EmbeddedBroker {
    /// Starts a broker with default settings.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn start() -> Result<Self, EmbeddedError> {
        Self::start_with(|_| {}).await
    }

    /// Starts a broker with other settings. Addresses and data directory are set already.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn start_with(change: impl FnOnce(&mut BrokerConfig)) -> Result<Self, EmbeddedError> {
        Self::start_in(
            tempfile::Builder::new().prefix("highwater-").tempdir()?,
            change,
        )
        .await
    }

    /// Starts a broker in a temporary directory of the caller's choice.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn start_in(
        data_dir: TempDir,
        change: impl FnOnce(&mut BrokerConfig),
    ) -> Result<Self, EmbeddedError> {
        let mut config = BrokerConfig {
            data_dir: data_dir.path().to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            ..BrokerConfig::default()
        };
        config.admin.listen = Some("127.0.0.1:0".to_owned());
        change(&mut config);
        let running = Broker::start(config.clone()).await?;
        Ok(Self {
            running: Some(running),
            config,
            data_dir,
        })
    }

    /// Where clients connect.
    ///
    /// # Panics
    /// While the broker is down, between [`Self::stop`] or [`Self::kill`] and [`Self::restart`].
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.running().address()
    }

    /// Where the admin endpoint listens.
    ///
    /// # Panics
    /// While the broker is down, or if it was started without one.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.running()
            .admin_address()
            .expect("the embedded broker has an admin endpoint")
    }

    /// Whether the broker runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// The running broker.
    ///
    /// # Panics
    /// While the broker is down.
    #[must_use]
    pub fn running(&self) -> &RunningBroker {
        self.running.as_ref().expect("the broker is running")
    }

    /// How it was configured.
    pub(crate) fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// Stops the broker in order; it can be restarted.
    ///
    /// # Errors
    /// [`ShutdownError`].
    pub async fn stop(&mut self) -> Result<(), ShutdownError> {
        match self.take_running() {
            Some(running) => running.shutdown().await,
            None => Ok(()),
        }
    }

    /// Ends the broker as `kill -9` would; it can be restarted.
    ///
    /// # Errors
    /// [`ShutdownError`].
    pub async fn kill(&mut self) -> Result<(), ShutdownError> {
        match self.take_running() {
            Some(running) => running.kill().await,
            None => Ok(()),
        }
    }

    /// Starts the broker again on its data directory and its old port; stops it first if it still
    /// runs.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub async fn restart(&mut self) -> Result<(), EmbeddedError> {
        self.stop().await?;
        self.running = Some(Broker::start(self.config.clone()).await?);
        Ok(())
    }

    /// Stops the broker in order and removes its data.
    ///
    /// # Errors
    /// [`ShutdownError`].
    pub async fn shutdown(mut self) -> Result<(), ShutdownError> {
        self.stop().await
    }

    /// Stops the broker in order and leaves its data where it is. Returns the directory.
    ///
    /// # Errors
    /// [`ShutdownError`].
    pub async fn shutdown_and_keep(mut self) -> Result<std::path::PathBuf, ShutdownError> {
        self.stop().await?;
        Ok(self.data_dir.keep())
    }

    /// The running broker, whose port is kept for the next start.
    fn take_running(&mut self) -> Option<RunningBroker> {
        let running = self.running.take()?;
        self.config.listen = running.address().to_string();
        Some(running)
    }
}
