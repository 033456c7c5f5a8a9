//! A broker in memory that misbehaves on demand: it refuses, delays, forgets and hangs up where a
//! test tells it to, and keeps everything it appended for the test to look at.

mod answers;
mod log;
mod producers;
mod server;
mod world;

pub use log::values;
pub use server::{FakeBroker, Held, Verdict};

use std::time::Duration;

use highwater_client::{Backoff, Client, ClientBuilder};

/// Nothing in these tests takes longer unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A client that retries quickly.
pub fn quick(broker: &FakeBroker) -> ClientBuilder {
    Client::builder()
        .seeds([broker.address()])
        .client_name("test")
        .connect_timeout(Duration::from_secs(5))
        .request_timeout(Duration::from_secs(10))
        .backoff(Backoff {
            first: Duration::from_millis(2),
            max: Duration::from_millis(20),
        })
}

/// Fails the test instead of hanging.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("nothing here takes that long")
}

/// Waits until something holds, looking again and again.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok(), "never came about: {what}");
}
