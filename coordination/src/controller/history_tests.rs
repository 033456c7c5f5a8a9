//! Random histories of decisions. After every one: the rules of partitions and epochs (checked by the
//! test cluster), and that whoever is in sync or eligible has everything that was committed, by a model
//! that knows nothing of ISR and ELR except when things commit.

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ids::{NodeId, PartitionId, TopicId};
use highwater_protocol::messages::{
    AllocateProducerIdsRequest, DrainNodeRequest, RemoveNodeRequest, ReplicaMove, SessionEnd,
    TopicPartition,
};
use proptest::prelude::*;

use super::test_cluster::{TestCluster, is_synced, join, node};
use super::*;

const TOPICS: [&str; 4] = ["fast-a", "fast-b", "synced-a", "synced-b"];

#[derive(Debug, Clone)]
enum Step {
    Join,
    Register {
        node: u32,
        end: u8,
        is_rolled_back: bool,
        damaged: Option<usize>,
    },
    Unfence(u32),
    Fence(u32),
    Beat {
        node: u32,
        wants_fence: bool,
        wants_shutdown: bool,
        offline: Option<usize>,
    },
    Alter {
        topic: usize,
        members: u32,
        recovered: bool,
    },
    Create {
        topic: usize,
        replicas: u16,
        isr_min: u16,
    },
    Delete(usize),
    AddPartition(usize),
    IsrMin(usize, u16),
    Move {
        topic: usize,
        target: Option<Vec<u32>>,
    },
    Drain(u32, bool),
    Remove {
        node: u32,
        force: bool,
    },
    Elect(u32),
    Unclean(usize),
    ProducerIds(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 1..7u32;
    let topic = || 0..TOPICS.len();
    let target = proptest::sample::subsequence(vec![1, 2, 3, 4, 5, 6], 1..4).prop_shuffle();
    prop_oneof![
        1 => Just(Step::Join),
        3 => (node(), 0..3u8, proptest::bool::weighted(0.2), proptest::option::weighted(0.2, topic()))
            .prop_map(|(node, end, is_rolled_back, damaged)| Step::Register {
                node, end, is_rolled_back, damaged,
            }),
        6 => node().prop_map(Step::Unfence),
        4 => node().prop_map(Step::Fence),
        4 => (
            node(),
            proptest::bool::weighted(0.1),
            proptest::bool::weighted(0.3),
            proptest::option::weighted(0.2, topic()),
        )
            .prop_map(|(node, wants_fence, wants_shutdown, offline)| Step::Beat {
                node, wants_fence, wants_shutdown, offline,
            }),
        8 => (topic(), prop_oneof![Just(u32::MAX), any::<u32>()], any::<bool>())
            .prop_map(|(topic, members, recovered)| Step::Alter { topic, members, recovered }),
        3 => (topic(), 1..4u16, 1..4u16)
            .prop_map(|(topic, replicas, isr_min)| Step::Create { topic, replicas, isr_min }),
        1 => topic().prop_map(Step::Delete),
        1 => topic().prop_map(Step::AddPartition),
        1 => (topic(), 1..4u16).prop_map(|(topic, min)| Step::IsrMin(topic, min)),
        4 => (topic(), proptest::option::weighted(0.7, target))
            .prop_map(|(topic, target)| Step::Move { topic, target }),
        1 => (node(), any::<bool>()).prop_map(|(node, drain)| Step::Drain(node, drain)),
        1 => (node(), any::<bool>()).prop_map(|(node, force)| Step::Remove { node, force }),
        2 => (0..7u32).prop_map(Step::Elect),
        2 => topic().prop_map(Step::Unclean),
        1 => node().prop_map(Step::ProducerIds),
    ]
}

type Key = (TopicId, PartitionId);

/// What one step did besides changing the image.
#[derive(Debug, Default)]
struct Effects {
    /// Who caught up: the members of a proposal that was taken.
    caught_up: BTreeSet<NodeId>,
    /// Who lost data, if it was not synced, and in which partitions whatever it was.
    lost_memory: Option<NodeId>,
    lost_log: BTreeSet<(Key, NodeId)>,
    /// Partitions for which nothing is promised any more about what is left.
    is_declared: bool,
    /// The step asked for an unclean election.
    is_unclean: bool,
}

#[derive(Debug)]
struct History {
    cluster: TestCluster,
    created: u8,
    /// Who has everything that was committed.
    complete: BTreeMap<Key, BTreeSet<NodeId>>,
    /// Partitions that lost replicas by force or by an unclean election, or got another minimum.
    tainted: BTreeSet<Key>,
}

impl History {
    fn topic(&self, index: usize) -> Option<&TopicImage> {
        self.cluster.image.topic(TOPICS[index]).map(AsRef::as_ref)
    }

    /// The first partition of each of these topics, as far as they exist.
    fn named(&self, topic: Option<usize>) -> Vec<(&'static str, u32)> {
        topic
            .filter(|index| self.topic(*index).is_some())
            .map(|index| (TOPICS[index], 0))
            .into_iter()
            .collect()
    }

    fn has_life(&self, id: u32) -> bool {
        self.cluster
            .image
            .broker(node(id))
            .is_some_and(|broker| broker.registration.is_some())
    }

    fn run(&mut self, step: &Step) {
        let before = self.cluster.image.clone();
        let mut effects = Effects::default();
        self.take(step, &mut effects);
        self.follow(&before, &effects);
        self.check();
    }

    fn take(&mut self, step: &Step, effects: &mut Effects) {
        match step {
            Step::Register {
                node: id,
                end,
                is_rolled_back,
                damaged,
            } => self.register(*id, *end, *is_rolled_back, *damaged, effects),
            Step::Unfence(id) if self.has_life(*id) => self.cluster.unfence(*id),
            Step::Fence(id) if self.has_life(*id) => self.cluster.fence(*id),
            Step::Beat { node: id, .. } if self.has_life(*id) => self.beat(step, effects),
            Step::Alter {
                topic,
                members,
                recovered,
            } => self.alter(*topic, *members, *recovered, effects),
            Step::Unclean(topic) => self.unclean(*topic, effects),
            Step::Create {
                topic,
                replicas,
                isr_min,
            } => {
                self.created += 1;
                let command = CreateTopic {
                    id: TopicId::from_bytes([self.created; 16]),
                    name: TOPICS[*topic],
                    partitions: 1,
                    replicas: *replicas,
                    isr_min: *isr_min,
                    configs: Vec::new(),
                };
                let decision = create_topic(&self.cluster.image, &command);
                self.apply(decision);
            }
            Step::Move { topic, target } => {
                let wanted = ReplicaMove {
                    topic: TOPICS[*topic].to_owned(),
                    partition: PartitionId::ZERO,
                    replicas: target
                        .as_ref()
                        .map(|ids| ids.iter().copied().map(NodeId::new).collect()),
                };
                let decision = move_replicas(&self.cluster.image, &[wanted]);
                self.apply(Ok(decision));
            }
            Step::Elect(id) => {
                let elect = match id {
                    0 => Elect::Preferred,
                    id => Elect::Node(node(*id)),
                };
                let decision = elect_leaders(&self.cluster.image, elect, None);
                self.apply(decision);
            }
            _ => self.take_other(step, effects),
        }
    }

    fn take_other(&mut self, step: &Step, effects: &mut Effects) {
        let image = &self.cluster.image;
        match step {
            Step::Join => {
                let id = image.node_id_next().get();
                if id <= 6 {
                    let decision = join_cluster(image, &join(id, None));
                    self.apply(decision);
                }
            }
            Step::Delete(topic) => {
                let decision = delete_topic(image, TOPICS[*topic]);
                self.apply(decision);
            }
            Step::AddPartition(topic) => {
                let now = self.topic(*topic).map_or(0, |topic| topic.partitions.len());
                let decision = add_partitions(image, TOPICS[*topic], now as u32 + 1);
                self.apply(decision);
            }
            Step::IsrMin(topic, isr_min) => {
                let decision = alter_topic_config(image, TOPICS[*topic], *isr_min, Vec::new());
                effects.is_declared = true;
                self.apply(decision);
            }
            Step::Drain(id, drain) => {
                let request = DrainNodeRequest {
                    node_id: node(*id),
                    drain: *drain,
                };
                let decision = drain_node(image, &request);
                self.apply(decision);
            }
            Step::Remove { node: id, force } => {
                let request = RemoveNodeRequest {
                    node_id: node(*id),
                    force: *force,
                };
                let decision = remove_node(image, &request, false);
                effects.is_declared = *force;
                self.apply(decision);
            }
            Step::ProducerIds(id) if self.has_life(*id) => {
                let request = AllocateProducerIdsRequest {
                    node_id: node(*id),
                    broker_epoch: self.cluster.epoch(*id),
                };
                let decision = allocate_producer_ids(image, &request);
                self.apply(decision);
            }
            _ => {}
        }
    }

    /// A refusal changes nothing.
    fn apply<R>(&mut self, decision: Result<Decision<R>, ControllerError>) -> Option<R> {
        let decision = decision.ok()?;
        Some(self.cluster.apply(Ok(decision)))
    }

    fn register(
        &mut self,
        id: u32,
        end: u8,
        is_rolled_back: bool,
        damaged: Option<usize>,
        effects: &mut Effects,
    ) {
        let end = [
            SessionEnd::Clean,
            SessionEnd::ProcessCrash,
            SessionEnd::Unclean,
        ][usize::from(end)];
        let damaged = self.named(damaged);
        let mut request = self.cluster.register_request(id, end, &damaged);
        if is_rolled_back {
            request.last_broker_epoch = None;
        }
        let is_proven = end != SessionEnd::Unclean && !is_rolled_back;
        let epoch = self.cluster.new_epoch();
        let decision = register_broker(&self.cluster.image, &request, epoch, false, &is_synced);
        if self.apply(decision).is_some() {
            effects.lost_memory = (!is_proven).then_some(node(id));
            for (topic, index) in damaged {
                let key = (self.cluster.id(topic), PartitionId::new(index));
                effects.lost_log.insert((key, node(id)));
            }
        }
    }

    fn beat(&mut self, step: &Step, effects: &mut Effects) {
        let Step::Beat {
            node: id,
            wants_fence,
            wants_shutdown,
            offline,
        } = step
        else {
            return;
        };
        let offline = self.named(*offline);
        let mut beat = self.cluster.beat(*id);
        beat.wants_fence = *wants_fence;
        beat.wants_shutdown = *wants_shutdown;
        beat.offline = self.cluster.partitions(&offline);
        for (topic, index) in offline {
            let key = (self.cluster.id(topic), PartitionId::new(index));
            effects.lost_log.insert((key, node(*id)));
        }
        let decision = heartbeat(&self.cluster.image, &beat);
        let outcome = self.apply(decision).unwrap();
        let broker = self.cluster.image.broker(node(*id)).unwrap();
        assert_eq!(outcome.fenced, broker.fenced);
        if broker.shutting_down {
            let led = self
                .cluster
                .image
                .topics()
                .flat_map(|topic| &topic.partitions)
                .filter(|partition| partition.leader == Some(node(*id)))
                .count();
            assert_eq!(outcome.leads as usize, led);
            assert!(led > 0 || outcome.may_shut_down);
        }
    }

    fn alter(&mut self, topic: usize, members: u32, recovered: bool, effects: &mut Effects) {
        let Some(partition) = self.topic(topic).map(|topic| &topic.partitions[0]) else {
            return;
        };
        let Some(leader) = partition.leader else {
            return;
        };
        let isr: Vec<u32> = partition
            .replicas
            .iter()
            .filter(|id| **id == leader || members & (1 << id.get()) != 0)
            // Half of all proposals would name somebody who is away.
            .filter(|id| {
                members.is_multiple_of(8)
                    || self
                        .cluster
                        .image
                        .broker(**id)
                        .is_some_and(BrokerImage::is_active)
                    || **id == leader
            })
            .map(|id| id.get())
            .collect();
        let mut proposal = self.cluster.proposal(TOPICS[topic], &isr);
        proposal.topics[0].partitions[0].recovered = recovered;
        if self.cluster.send(&proposal).error == highwater_protocol::error_code::ErrorCode::None {
            effects.caught_up = isr.into_iter().map(NodeId::new).collect();
        }
    }

    fn unclean(&mut self, topic: usize, effects: &mut Effects) {
        let Some(image) = self.topic(topic) else {
            return;
        };
        let active = |id: &&NodeId| {
            self.cluster
                .image
                .broker(**id)
                .is_some_and(BrokerImage::is_active)
        };
        let Some(winner) = image.partitions[0].replicas.iter().find(active).copied() else {
            return;
        };
        let winners = BTreeMap::from([((image.id, PartitionId::ZERO), winner)]);
        let asked = [TopicPartition {
            topic: TOPICS[topic].to_owned(),
            partition: PartitionId::ZERO,
        }];
        let elect = Elect::Unclean(&winners);
        let decision = elect_leaders(&self.cluster.image, elect, Some(&asked));
        effects.is_declared = true;
        effects.is_unclean = true;
        self.apply(decision);
    }

    /// Brings the model up to date with what a step did.
    fn follow(&mut self, before: &ClusterImage, effects: &Effects) {
        let image = &self.cluster.image;
        self.complete
            .retain(|(id, _), _| image.topic_by_id(*id).is_some());
        for topic in image.topics() {
            for (partition, index) in topic.partitions.iter().zip(0u32..) {
                let key = (topic.id, PartitionId::new(index));
                let old = before
                    .topic_by_id(topic.id)
                    .and_then(|topic| topic.partition(key.1));
                let Some(old) = old else {
                    let all = partition.isr.iter().copied().collect();
                    self.complete.insert(key, all);
                    continue;
                };
                let complete = self.complete.get_mut(&key).unwrap();
                let changed = old != partition;
                if changed && effects.is_declared {
                    self.tainted.insert(key);
                }
                if changed {
                    let joined = effects.caught_up.iter();
                    complete.extend(joined.filter(|id| partition.isr.contains(id)));
                }
                let is_unclean = effects.is_unclean
                    && partition
                        .leader
                        .is_some_and(|leader| changed && !old.elr.contains(&leader));
                if is_unclean {
                    *complete = partition.isr.iter().copied().collect();
                }
                if let Some(lost) = effects.lost_memory.filter(|_| !is_synced(topic)) {
                    complete.remove(&lost);
                }
                for (_, lost) in effects.lost_log.iter().filter(|(of, _)| *of == key) {
                    complete.remove(lost);
                }
                complete.retain(|id| partition.replicas.contains(id));
                let has_left = |id: &NodeId| !partition.replicas.contains(id);
                if old.last_known_elr.iter().any(has_left) {
                    self.tainted.insert(key);
                }
                only_copy(partition, complete);
            }
        }
    }

    fn check(&self) {
        for topic in self.cluster.image.topics() {
            for (partition, index) in topic.partitions.iter().zip(0u32..) {
                let key = (topic.id, PartitionId::new(index));
                let complete = &self.complete[&key];
                for id in partition.isr.iter().chain(&partition.elr) {
                    assert!(complete.contains(id), "{id} of {complete:?}: {partition:?}");
                }
                // What was committed is somewhere, or was until a broker lost it.
                let known =
                    partition.isr.len() + partition.elr.len() + partition.last_known_elr.len();
                assert!(
                    known >= usize::from(topic.isr_min) || self.tainted.contains(&key),
                    "{partition:?}"
                );
            }
        }
    }

    /// Everywhere as much is committed as may be: nobody but the ISR has it.
    fn commit(&mut self) {
        for topic in self.cluster.image.topics() {
            for (partition, index) in topic.partitions.iter().zip(0u32..) {
                let may = partition.isr.len() >= usize::from(topic.isr_min);
                if may && partition.leader.is_some() {
                    let key = (topic.id, PartitionId::new(index));
                    let all = partition.isr.iter().copied().collect();
                    self.complete.insert(key, all);
                }
            }
        }
    }
}

/// The rule about the only copy: it counts as complete, because there is no better one.
fn only_copy(partition: &PartitionImage, complete: &mut BTreeSet<NodeId>) {
    if let ([], [only]) = (&partition.isr[..], &partition.elr[..]) {
        let is_only = partition
            .replicas
            .iter()
            .all(|id| id == only || partition.adding.contains(id));
        if is_only && !complete.contains(only) {
            assert!(partition.leader.is_none());
            *complete = BTreeSet::from([*only]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What was decided can always be applied, and applied twice; every rule holds after every step; a
    /// replay and a snapshot give the same image, and so does any part of a snapshot over it.
    #[test]
    fn every_history_keeps_the_rules(
        brokers in 3..7u32,
        topics in proptest::collection::vec((1..4u16, 1..4u16), TOPICS.len()),
        steps in proptest::collection::vec((step(), any::<bool>()), 0..120),
    ) {
        let mut history = History {
            cluster: TestCluster::of(brokers),
            created: 0,
            complete: BTreeMap::new(),
            tainted: BTreeSet::new(),
        };
        for (topic, (replicas, isr_min)) in topics.into_iter().enumerate() {
            let isr_min = isr_min.min(replicas);
            history.run(&Step::Create { topic, replicas, isr_min });
        }
        for (step, commits) in &steps {
            history.run(step);
            if *commits {
                history.commit();
            }
        }
        let image = &history.cluster.image;
        let mut replayed = ClusterImage::default();
        for record in &history.cluster.log {
            replayed.apply(record).unwrap();
            let once = replayed.clone();
            replayed.apply(record).unwrap();
            prop_assert_eq!(&replayed, &once);
        }
        prop_assert_eq!(&replayed, image);

        let mut restored = ClusterImage::default();
        for record in image.snapshot() {
            restored.apply(&record).unwrap();
        }
        prop_assert_eq!(&restored, image);
        for record in image.snapshot() {
            restored.apply(&record).unwrap();
            prop_assert_eq!(&restored, image);
        }
    }
}
