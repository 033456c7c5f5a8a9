//! Peers that do not speak the protocol: said once, not for every connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use highwater_protocol::frame::FrameError;
use parking_lot::Mutex;
use tracing::warn;

/// One warning in this time; the others are counted.
const QUIET: Duration = Duration::from_secs(30);

/// Counts foreign peers and warns now and then.
#[derive(Debug, Default)]
pub(crate) struct ForeignPeers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_warning: Option<Instant>,
    suppressed: u64,
}

impl ForeignPeers {
    /// Takes note of a peer whose bytes are no frames.
    pub(crate) fn note(&self, address: SocketAddr, error: &FrameError) {
        let mut state = self.state.lock();
        if state
            .last_warning
            .is_some_and(|last| last.elapsed() < QUIET)
        {
            state.suppressed += 1;
            return;
        }
        let suppressed = std::mem::take(&mut state.suppressed);
        state.last_warning = Some(Instant::now());
        drop(state);
        warn!(
            %address, %error, suppressed,
            "a peer does not speak the Highwater protocol; its connection was closed"
        );
    }
}
