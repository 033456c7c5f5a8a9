//! Reading a topic back while it is written, and comparing every record with what was sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use highwater_client::{Client, ReadError, Start};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::demo::chain::fingerprint;
use crate::demo::track::Track;

/// How long the reader waits for a broker that is away before it gives up.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Once all is sent, how long the last records may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// A moment longer, so that a record too many at the very end would be seen.
const AFTERTHOUGHT: Duration = Duration::from_millis(300);

/// Reads a topic from its beginning until everything was sent and nothing more comes.
pub(crate) async fn follow(
    client: Client,
    track: Arc<Track>,
    mut all_sent: watch::Receiver<bool>,
) -> Result<()> {
    let mut reader = client
        .reader(track.name())
        .start(Start::Beginning)
        .build()
        .await?;
    let mut failing_since: Option<Instant> = None;
    loop {
        let batch = tokio::select! {
            batch = reader.next_batch() => batch,
            // Dropped senders mean that the demo is over, too.
            _ = all_sent.wait_for(|sent| *sent) => break,
        };
        match batch {
            Ok(batch) => {
                failing_since = None;
                check(&track, &batch.context("a topic without end ended")?)?;
            }
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                wait_out(error, since).await?;
            }
        }
    }
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    while Instant::now() < deadline {
        let patience = if track.counts().outstanding > 0 {
            DRAIN_TIMEOUT
        } else {
            AFTERTHOUGHT
        };
        match timeout(patience, reader.next_batch()).await {
            Err(_nothing_came) => break,
            Ok(batch) => check(&track, &batch?.context("a topic without end ended")?)?,
        }
    }
    Ok(())
}

async fn wait_out(error: ReadError, since: Instant) -> Result<()> {
    if !error.is_retriable() || since.elapsed() > OUTAGE_MAX {
        return Err(error).context("reading back");
    }
    sleep(RETRY_PAUSE).await;
    Ok(())
}

fn check(track: &Track, batch: &highwater_client::ReadBatch) -> Result<()> {
    let now = Instant::now();
    let mut bytes = 0;
    let mut due = Vec::new();
    {
        let mut chain = track.chain(batch.partition().get());
        for record in batch {
            let record = record?;
            let (key, value) = (
                record.key.unwrap_or_default(),
                record.value.unwrap_or_default(),
            );
            bytes += key.len() + value.len();
            due.extend(chain.receive(record.offset.get(), fingerprint(key, value)));
        }
    }
    track.received_bytes(bytes as u64);
    track.latencies(now, due.into_iter());
    Ok(())
}
