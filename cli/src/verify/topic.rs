//! The topic of a run: made for it and, unless it is evidence, removed with it.

use std::time::{Duration, Instant};

use highwater_client::{Admin, NewTopic};

use super::run::RunArgs;
use crate::exit::Failure;

/// How long a cluster that has just begun may take to place the replicas.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes it. The name must be free: what others have written would only be taken for damage.
pub(super) async fn create(admin: &Admin, args: &RunArgs, seed: u64) -> Result<String, Failure> {
    let name = args
        .topic
        .clone()
        .unwrap_or_else(|| format!("verify-{seed:016x}"));
    let brokers = admin.describe_cluster().await?.brokers.len();
    let most = args
        .spawn
        .unwrap_or_else(|| brokers.try_into().unwrap_or(u16::MAX));
    let mut topic = NewTopic::new(name.as_str())
        .partitions(args.partitions)
        .replicas(args.replicas.unwrap_or_else(|| most.clamp(1, 3)));
    for (key, value) in &args.configs {
        topic = topic.config(key, value);
    }
    let began = Instant::now();
    loop {
        match admin.create_topic(topic.clone()).await {
            Ok(_) => return Ok(name),
            // Brokers of ours that are not registered yet.
            Err(_) if args.spawn.is_some() && began.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
