//! Ctrl-C: the first one ends the work in order, the second one at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Failure;

/// The status of a process that a second Ctrl-C has ended.
const KILLED: i32 = 130;

/// Tells whether the user wants to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    stopped: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens from now on, to Ctrl-C and to SIGTERM.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Self::listen_and(|| {})
    }

    /// The same, and does this before a second signal ends the process.
    pub(crate) fn listen_and(last: impl Fn() + Send + 'static) -> Result<Self, Failure> {
        let failed = |error| Failure::error(format!("cannot handle signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let (sender, stopped) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if sender.send_replace(true) {
                    // Whoever asks twice has no patience for a full pipe or a broker that is gone.
                    last();
                    std::process::exit(KILLED);
                }
            }
        });
        Ok(Self { stopped })
    }

    /// Whether it has happened.
    pub(crate) fn is_set(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits for it. Cancel safe.
    pub(crate) async fn wait(&mut self) {
        if self.stopped.wait_for(|stopped| *stopped).await.is_err() {
            // The listener never ends, except with the runtime.
            std::future::pending::<()>().await;
        }
    }
}
