//! The cluster: machines, network, metadata log, clients, and one thing after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_coordination::cluster_image::{BrokerImage, ClusterImage, TopicImage};
use highwater_coordination::controller as decide;
use highwater_protocol::ids::{ClusterId, DirectoryId, TopicId};
use highwater_protocol::messages::JoinClusterRequest;
use highwater_protocol::metadata_record::MetadataRecord;
use highwater_storage::sim_disk::{Dice, SimDisk};
use highwater_storage::{Durability, LogOptions};

use crate::client::Client;
use crate::clock::Clock;
use crate::invariants::Oracle;
use crate::message::{CLIENTS, Envelope, Key, Message};
use crate::network::Network;
use crate::node::{Node, Operation, node_id};
use crate::plan::Plan;
use crate::quorum::Quorum;
use crate::schedule::{Event, Schedule, Timer};
use crate::trace::Trace;

/// How long a cluster may take to form, and to come together when all faults are over, in ms.
const SETTLE_MS: u64 = 20_000;
/// Between two looks at whether it has, in ms.
const LOOK_MS: u64 = 50;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) now: u64,
    pub(crate) schedule: Schedule,
    pub(crate) trace: Trace,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) quorum: Quorum,
    pub(crate) clients: Vec<Client>,
    pub(crate) oracle: Oracle,
    /// Durability of each topic.
    pub(crate) durability: BTreeMap<TopicId, Durability>,
    /// Faults happen.
    pub(crate) is_faulty: bool,
    pub(crate) is_healing: bool,
    next_call: u64,
    outbox: Vec<Envelope>,
    /// Replicas that something happened to.
    pub(crate) touched: Vec<(usize, Key)>,
    /// The metadata log has grown since it was looked at.
    pub(crate) has_new_metadata: bool,
}

impl Cluster {
    pub(crate) fn new(seed: u64, plan: Plan, is_printed: bool) -> Self {
        let mut dice = Dice::new(seed);
        let nodes = (0..plan.nodes).map(|_| Node {
            disk: SimDisk::new(),
            clock: Clock::drawn(&mut dice, plan.faults.drift),
            life: 0,
            process: None,
            paused_until: 0,
            index: 0,
        });
        let nodes = nodes.collect();
        Self {
            dice,
            now: 0,
            schedule: Schedule::default(),
            trace: Trace::new(is_printed),
            nodes,
            network: Network::default(),
            quorum: Quorum::new(),
            clients: Vec::new(),
            oracle: Oracle::default(),
            durability: BTreeMap::new(),
            is_faulty: false,
            is_healing: false,
            next_call: 0,
            outbox: Vec::new(),
            touched: Vec::new(),
            has_new_metadata: false,
            plan,
        }
    }

    // ---- the run ----

    /// Forms the cluster, lets faults happen, heals, and sees whether everything comes together. Ends at
    /// the first broken rule.
    pub(crate) fn run(&mut self) {
        self.found();
        for node in 0..self.nodes.len() {
            self.schedule.at(node as u64, Event::Start(node));
        }
        self.schedule.at(5, Event::Quorum);
        if !self.settle("no broker stays fenced", Self::all_active) {
            return;
        }
        if !self.settle("topics are created", Self::has_topics) {
            return;
        }
        if !self.settle("every partition is led", Self::all_led) {
            return;
        }
        self.begin_clients();
        self.is_faulty = true;
        self.begin_faults();
        self.trace.note(self.now, format_args!("faults begin"));
        self.run_until(self.now + self.plan.faulty_ms);
        if self.oracle.is_broken() {
            return;
        }
        self.is_faulty = false;
        self.is_healing = true;
        self.heal();
        if self.settle("everything comes together", Self::has_converged) {
            self.check_converged();
        }
    }

    fn settle(&mut self, what: &'static str, done: fn(&mut Self) -> bool) -> bool {
        let deadline = self.now + SETTLE_MS;
        while self.now < deadline {
            self.run_until(self.now + LOOK_MS);
            if self.oracle.is_broken() {
                return false;
            }
            if done(self) {
                return true;
            }
        }
        let state = self.describe();
        self.oracle.broken("R17", format!("never: {what}; {state}"));
        false
    }

    fn run_until(&mut self, end: u64) {
        self.schedule.at(end, Event::Mend(0));
        while let Some((time, event)) = self.schedule.pop() {
            self.now = self.now.max(time);
            if matches!(event, Event::Mend(0)) {
                return;
            }
            self.step(event);
            if self.oracle.is_broken() {
                return;
            }
        }
    }

    fn step(&mut self, event: Event) {
        let at = self.node_of(&event);
        if let Some(node) = at {
            let paused = self.nodes[node].paused_until;
            if paused > self.now && self.nodes[node].is_up() {
                // It lies in the queues of a process that stands still.
                self.schedule.at(paused, event);
                return;
            }
        }
        match event {
            Event::Deliver(envelope) => self.deliver(envelope),
            Event::Timer { node, life, timer } => {
                if self.is_life(node, life) {
                    self.on_timer(node, timer);
                }
            }
            Event::Client(number) => self.client_acts(number),
            Event::Start(node) => self.start(node),
            Event::Committed { number } => self.on_committed(number),
            Event::Quorum => self.watch_quorum(),
            Event::Fault(fault) => self.strike(fault),
            Event::Mend(number) => self.network.mend(number),
        }
        if let Some(node) = at {
            self.end_of_power(node);
        }
        self.flush_outbox();
        self.look();
    }

    /// At which broker something happens.
    fn node_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Deliver(envelope) if envelope.to < CLIENTS => Some(envelope.to),
            Event::Timer { node, .. } => Some(*node),
            _ => None,
        }
    }

    pub(crate) fn is_life(&self, node: usize, life: u64) -> bool {
        let process = self.nodes[node].process.as_ref();
        process.is_some_and(|process| process.life == life)
    }

    /// Runs and does not stand still.
    pub(crate) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].is_up() && self.nodes[node].paused_until <= self.now
    }

    // ---- time and messages ----

    pub(crate) fn local_ms(&self, node: usize) -> u64 {
        self.nodes[node].clock.millis(self.now)
    }

    pub(crate) fn plan_timer(&mut self, node: usize, after: u64, timer: Timer) {
        let life = self.nodes[node].life;
        let event = Event::Timer { node, life, timer };
        self.schedule.at(self.now + after, event);
    }

    pub(crate) fn next_call(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    /// Sends a request of a broker, and plans what happens when no answer comes.
    pub(crate) fn ask(&mut self, from: usize, to: usize, body: Message, within: u64) -> u64 {
        let call = self.next_call();
        self.ask_again(from, to, call, body);
        self.plan_timer(from, within, Timer::Overdue(call));
        call
    }

    pub(crate) fn ask_again(&mut self, from: usize, to: usize, call: u64, body: Message) {
        let from_life = self.nodes.get(from).map_or(0, |node| node.life);
        self.outbox.push(Envelope {
            from,
            from_life,
            to,
            to_life: None,
            call,
            body,
        });
    }

    pub(crate) fn answer(&mut self, from: usize, to: usize, life: u64, call: u64, body: Message) {
        self.outbox.push(Envelope {
            from,
            from_life: self.nodes[from].life,
            to,
            to_life: Some(life),
            call,
            body,
        });
    }

    fn flush_outbox(&mut self) {
        let calm = crate::plan::Faults {
            delay_ms: 3,
            ..crate::plan::Faults::default()
        };
        let faults = if self.is_faulty {
            self.plan.faults
        } else {
            calm
        };
        for envelope in std::mem::take(&mut self.outbox) {
            for delay in self.network.delays(&envelope, &faults, &mut self.dice) {
                let event = Event::Deliver(envelope.clone());
                self.schedule.at(self.now + delay, event);
            }
        }
    }

    fn deliver(&mut self, envelope: Envelope) {
        if envelope.to >= CLIENTS {
            self.client_hears(envelope);
            return;
        }
        let node = envelope.to;
        let is_there = self.nodes[node].is_up()
            && envelope.to_life.is_none_or(|life| self.is_life(node, life));
        if !is_there {
            return;
        }
        self.trace.note(
            self.now,
            format_args!(
                "{} <- {} {} #{}",
                node,
                envelope.from,
                envelope.body.name(),
                envelope.call
            ),
        );
        match &envelope.body {
            Message::Fetch { .. } => self.on_fetch(envelope, true),
            Message::Fetched { .. } => self.on_fetched(envelope),
            Message::Register(_) | Message::Heartbeat(_) | Message::Alter(_) => {
                self.on_controller_request(envelope);
            }
            Message::Registered(_) => self.on_registered(envelope),
            Message::Heard(_) => self.on_heard(envelope),
            Message::Altered(_) => self.on_altered(envelope),
            Message::Produce { .. } => self.on_produce(envelope),
            Message::Read { .. } => self.on_read(&envelope),
            Message::Produced(_) | Message::Records(_) => {}
        }
    }

    fn on_timer(&mut self, node: usize, timer: Timer) {
        match timer {
            Timer::Heartbeat => self.beat(node),
            Timer::IsrTick => self.tick_isr(node),
            Timer::Disk => self.disk_done(node),
            Timer::Housekeeping => self.keep_house(node),
            Timer::Metadata => self.learn(node),
            Timer::Fetch(leader) => self.fetch(node, leader),
            Timer::Parked(envelope) => self.on_fetch(envelope, false),
            Timer::Overdue(call) => self.on_overdue(node, call),
            Timer::Propose => self.propose(node),
            Timer::Register => self.register(node),
            Timer::Upkeep => self.keep_up(node),
            Timer::StopAnyway => self.stop_now(node),
        }
    }

    /// A machine whose disk has stopped is off, and what it did since has not happened.
    fn end_of_power(&mut self, node: usize) {
        let ends_at = self.nodes[node]
            .process
            .as_ref()
            .and_then(|one| one.power_ends_at);
        if ends_at.is_some_and(|at| self.nodes[node].disk.operations() >= at) {
            self.outbox.retain(|envelope| envelope.from != node);
            self.touched.retain(|(touched, _)| *touched != node);
            self.oracle.on_cut_off(node);
            self.lose_power(node);
        }
    }

    // ---- the beginning ----

    /// Every broker is a member; none has registered.
    fn found(&mut self) {
        let cluster = ClusterId::from_bytes([1; 16]);
        let join = |node: usize| JoinClusterRequest {
            directory: directory(node),
            node_id: Some(node_id(node)),
            host: format!("host{node}"),
            port: 7171,
        };
        for node in 0..self.nodes.len() {
            let image = Arc::clone(self.quorum.image());
            let decision = if node == 0 {
                decide::create_cluster(&image, cluster, &join(0))
            } else {
                decide::join_cluster(&image, &join(node))
            };
            match decision {
                Ok(decision) => self.commit(&decision.records),
                Err(error) => self.oracle.broken("setup", error.to_string()),
            }
        }
        for node in &mut self.nodes {
            node.index = self.quorum.index();
        }
    }

    /// Asks for the topics that are not there yet.
    fn has_topics(&mut self) -> bool {
        let image = Arc::clone(self.quorum.image());
        for number in 0..self.plan.topics.len() {
            let id = topic_id(number);
            self.durability
                .insert(id, self.plan.topics[number].durability);
            if image.topic_by_id(id).is_none() {
                self.operate(Operation::Create { number });
            }
        }
        image.topics().len() == self.plan.topics.len()
    }

    /// Makes an entry of the metadata log at once.
    pub(crate) fn commit(&mut self, records: &[MetadataRecord]) {
        let before = Arc::clone(self.quorum.image());
        if let Err(error) = self.quorum.append(records) {
            self.oracle.broken("Q3", error);
            return;
        }
        let after = Arc::clone(self.quorum.image());
        self.trace.note(
            self.now,
            format_args!("metadata {}: {}", self.quorum.index(), Summary(records)),
        );
        self.oracle.on_committed(&before, &after, &self.durability);
        self.has_new_metadata = true;
    }

    // ---- how it is ----

    fn all_active(&mut self) -> bool {
        let image = self.quorum.image();
        (0..self.nodes.len()).all(|node| {
            let broker = image.broker(node_id(node));
            broker.is_some_and(BrokerImage::is_active)
        })
    }

    fn all_led(&mut self) -> bool {
        let image = Arc::clone(self.quorum.image());
        partitions(&image)
            .into_iter()
            .all(|(key, topic, partition)| {
                let leader = topic.partitions[partition].leader;
                leader.is_some_and(|leader| {
                    let process = self.nodes[crate::node::number_of(leader)].process.as_mut();
                    process
                        .and_then(|process| process.online(key))
                        .is_some_and(|replica| replica.leader().is_some())
                })
            })
    }

    /// The settings of a topic's logs.
    pub(crate) fn log_options(&self, topic: TopicId) -> LogOptions {
        LogOptions {
            segment_bytes: self.plan.segment_bytes,
            index_interval_bytes: 300,
            durability: self.durability.get(&topic).copied().unwrap_or_default(),
            ..LogOptions::default()
        }
    }

    /// Who leads a partition, as the image says.
    pub(crate) fn leader_in(image: &ClusterImage, key: Key) -> Option<usize> {
        let partition = image.topic_by_id(key.0)?.partition(key.1)?;
        partition.leader.map(crate::node::number_of)
    }
}

/// The directory of a broker.
pub(crate) fn directory(node: usize) -> DirectoryId {
    DirectoryId::from_bytes((node as u128 + 1).to_be_bytes())
}

pub(crate) fn topic_id(number: usize) -> TopicId {
    TopicId::from_bytes([number as u8 + 1; 16])
}

pub(crate) fn topic_name(number: usize) -> String {
    format!("t{number}")
}

/// All partitions of an image.
pub(crate) fn partitions(image: &ClusterImage) -> Vec<(Key, &TopicImage, usize)> {
    let topics = image.topics();
    topics
        .flat_map(|topic| {
            (0..topic.partitions.len()).map(move |index| {
                let key = (
                    topic.id,
                    highwater_protocol::ids::PartitionId::new(index as u32),
                );
                (key, &**topic, index)
            })
        })
        .collect()
}

/// A few words about an entry.
struct Summary<'a>(&'a [MetadataRecord]);

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for record in self.0 {
            match record {
                MetadataRecord::PartitionChanged {
                    topic_id,
                    partition,
                    leader,
                    leader_epoch,
                    partition_epoch,
                    isr,
                    elr,
                    ..
                } => write!(
                    f,
                    "{}/{partition} leader {leader:?} in {leader_epoch} isr {isr:?} elr {elr:?} at {partition_epoch}; ",
                    topic_id.into_bytes()[0],
                )?,
                MetadataRecord::BrokerRegistered {
                    node_id,
                    broker_epoch,
                    ..
                } => write!(f, "{node_id} registered {broker_epoch}; ")?,
                MetadataRecord::BrokerChanged {
                    node_id,
                    fenced,
                    shutting_down,
                    ..
                } => write!(f, "{node_id} fenced {fenced} stopping {shutting_down}; ")?,
                other => write!(f, "{other:?}; ")?,
            }
        }
        Ok(())
    }
}
