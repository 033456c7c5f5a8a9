//! How a cluster is, seen by a client: who leads, who is in sync.

use std::time::{Duration, Instant};

use highwater_client::{Client, NewTopic, PartitionDescription, TopicDescription};
use highwater_protocol::ids::NodeId;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A cluster under observation.
#[derive(Debug)]
pub struct Health {
    client: Client,
    within: Duration,
}

impl Health {
    /// Looks through a client of these seeds; whatever is waited for must come within a time.
    ///
    /// # Panics
    /// When no seed answers in that time.
    pub async fn of(seeds: &[String], within: Duration) -> Self {
        let began = Instant::now();
        loop {
            let client = Client::builder()
                .seeds(seeds.to_vec())
                .client_name("health")
                .request_timeout(Duration::from_secs(5))
                .connect()
                .await;
            match client {
                Ok(client) => return Self { client, within },
                Err(error) => assert!(began.elapsed() < within, "no seed answers: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Creates a topic with three replicas of each partition and waits until they are in sync, and until
    /// three nodes vote: the first node of a young cluster may be its whole quorum.
    ///
    /// # Panics
    /// When it is not done in time.
    pub async fn create(&self, topic: &str, partitions: u32, configs: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic).partitions(partitions).replicas(3);
        for (key, value) in configs {
            new = new.config(*key, *value);
        }
        let admin = self.client.admin();
        admin.create_topic(new).await.expect("a topic is created");
        self.whole(topic).await;
        self.voters(3).await;
    }

    /// Waits until so many nodes vote.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn voters(&self, count: usize) {
        let began = Instant::now();
        loop {
            let quorum = self.client.admin().describe_quorum().await;
            let voters = quorum.as_ref().map_or(0, |quorum| {
                quorum.members.iter().filter(|member| member.voter).count()
            });
            if voters >= count {
                return;
            }
            assert!(began.elapsed() < self.within, "no quorum: {quorum:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until all replicas of a topic are in sync, three each, under a leader.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn whole(&self, topic: &str) {
        self.whole_now(topic).await;
    }

    /// The same, and says how it is then.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn whole_now(&self, topic: &str) -> TopicDescription {
        let is_whole = |topic: &TopicDescription| {
            topic.partitions.iter().all(|partition| {
                partition.isr.len() == 3
                    && partition.replicas.len() == 3
                    && partition.leader.is_some()
            })
        };
        self.until(topic, "all replicas are in sync", is_whole)
            .await
    }

    /// Waits until a topic is as it should be.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn until(
        &self,
        topic: &str,
        what: &str,
        is_so: impl Fn(&TopicDescription) -> bool,
    ) -> TopicDescription {
        let began = Instant::now();
        loop {
            let described = self.client.admin().describe_topic(topic).await;
            match described {
                Ok(described) if is_so(&described) => return described,
                described => assert!(
                    began.elapsed() < self.within,
                    "not in {:?}: {what}: {described:?}",
                    self.within
                ),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A partition that has a leader.
    ///
    /// # Panics
    /// When it gets none in time.
    pub async fn led(&self, topic: &str, partition: u32) -> PartitionDescription {
        let partition = partition as usize;
        let described = self
            .until(topic, "somebody leads", |topic| {
                topic.partitions[partition].leader.is_some()
            })
            .await;
        described.partitions[partition].clone()
    }

    /// The number of the broker that leads a partition: one less than its node id.
    ///
    /// # Panics
    /// When none does in time.
    pub async fn leader(&self, topic: &str, partition: u32) -> usize {
        let led = self.led(topic, partition).await;
        index(led.leader.expect("it is led"))
    }

    /// The number of the broker that is the active controller.
    ///
    /// # Panics
    /// When none is in time.
    pub async fn controller(&self) -> usize {
        let began = Instant::now();
        loop {
            match self.client.admin().describe_quorum().await {
                Ok(quorum) => return index(quorum.leader),
                Err(error) => assert!(began.elapsed() < self.within, "no controller: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The number of a broker in its cluster.
#[must_use]
pub fn index(node: NodeId) -> usize {
    node.get() as usize - 1
}

/// The id of a broker by its number.
#[must_use]
pub fn node(index: usize) -> NodeId {
    NodeId::new(u32::try_from(index).expect("few brokers") + 1)
}
