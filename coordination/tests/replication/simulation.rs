//! A partition with three replicas in a cluster where messages are lost and overtake each other,
//! processes stop for a while, and machines lose power with everything that was not synced. After
//! every step, what must never happen is looked for; when everything works again, everything must
//! come together.

use std::collections::BTreeMap;

use highwater_coordination::moment::Moment;
use highwater_coordination::partition_follower::{
    Ask, FollowedAnswer, FollowerStep, PartitionFollower,
};
use highwater_coordination::partition_leader::{
    AckState, AckWhen, AlterOutcome, FetchAnswer, FetchRefusal, FollowerFetch, PartitionLeader,
    TakeOver, WrittenMeans,
};
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionId};
use highwater_protocol::messages::{Acks, IsrDecision, IsrProposal};

use crate::model_controller::ModelController;
use crate::model_log::{ModelLog, Record};

const LAG_MS: u64 = 1000;
const ISR_MIN: usize = 2;
const STEPS: usize = 1000;

/// SplitMix64: the same run for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[derive(Debug, Clone)]
enum Role {
    Idle,
    Leader(Box<PartitionLeader>),
    Follower {
        machine: PartitionFollower,
        asked: Option<(u64, Ask)>,
    },
}

#[derive(Debug, Clone)]
struct Node {
    id: NodeId,
    log: ModelLog,
    high_watermark: Offset,
    role: Role,
    epoch: u32,
    broker_epoch: BrokerEpoch,
    is_up: bool,
    paused_until: u64,
    /// Appends that wait: leader epoch, what for, offset.
    waiting: Vec<(u32, AckWhen, u64)>,
    altering: Option<IsrProposal>,
}

#[derive(Debug, Clone)]
enum Message {
    Fetch {
        from: usize,
        to: usize,
        number: Option<u64>,
        fetch: FollowerFetch,
    },
    Answer {
        to: usize,
        number: u64,
        answer: FollowedAnswer,
        records: Vec<Record>,
        high_watermark: Offset,
    },
    Alter {
        from: usize,
        broker_epoch: BrokerEpoch,
        asked: IsrProposal,
    },
    Altered {
        to: usize,
        asked: IsrProposal,
        decision: IsrDecision,
    },
}

struct Cluster {
    dice: Dice,
    means: WrittenMeans,
    now: u64,
    nodes: Vec<Node>,
    controller: ModelController,
    network: Vec<Message>,
    next_number: u64,
    next_value: u64,
    /// Every offset that was ever below a high watermark.
    committed: BTreeMap<u64, Record>,
    acknowledged: usize,
    leaders: BTreeMap<u32, usize>,
}

fn node_id(index: usize) -> NodeId {
    NodeId::new(index as u32 + 1)
}

fn index_of(node: NodeId) -> usize {
    node.get() as usize - 1
}

impl Cluster {
    fn new(seed: u64, means: WrittenMeans) -> Self {
        let ids: Vec<_> = (0..3).map(node_id).collect();
        let controller = ModelController::new(&ids, ISR_MIN);
        let nodes = ids.iter().map(|id| Node {
            id: *id,
            log: ModelLog::default(),
            high_watermark: Offset::ZERO,
            role: Role::Idle,
            epoch: 0,
            broker_epoch: controller.brokers[id].epoch.unwrap(),
            is_up: true,
            paused_until: 0,
            waiting: Vec::new(),
            altering: None,
        });
        Self {
            dice: Dice(seed),
            means,
            now: 1000,
            nodes: nodes.collect(),
            controller,
            network: Vec::new(),
            next_number: 0,
            next_value: 0,
            committed: BTreeMap::new(),
            acknowledged: 0,
            leaders: BTreeMap::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment::from_millis(self.now)
    }

    fn runs(&self, node: usize) -> bool {
        self.nodes[node].is_up && self.nodes[node].paused_until <= self.now
    }

    fn written(&self, node: usize) -> usize {
        match self.means {
            WrittenMeans::Durable => self.nodes[node].log.durable,
            WrittenMeans::Appended => self.nodes[node].log.records.len(),
        }
    }

    // ---- what happens ----

    fn step(&mut self) {
        let node = self.dice.below(3);
        match self.dice.below(1000) {
            0..120 if self.runs(node) => self.produce(node),
            120..320 if self.runs(node) => self.ask(node),
            320..420 if self.runs(node) => self.flush(node),
            420..780 => {
                for _ in 0..3 {
                    self.deliver();
                }
            }
            780..840 => {
                self.now += self.dice.below(LAG_MS as usize / 4) as u64;
                for node in 0..3 {
                    self.tick(node);
                }
            }
            840..910 if self.runs(node) => self.learn(node),
            910..930 if self.runs(node) => self.forget_answer(node),
            930..936 => {
                let length = self.dice.below(3 * LAG_MS as usize) as u64;
                self.nodes[node].paused_until = self.now + length;
            }
            936..941 => self.crash(node),
            941..951 if !self.nodes[node].is_up => self.start(node),
            951..954 => self.controller.fence(node_id(node)),
            954..957 => self.controller.move_lead(node_id(node)),
            957..980 => {
                // A broker that was fenced only because it was slow is active again.
                let id = node_id(node);
                if self.nodes[node].is_up
                    && self.controller.brokers[&id].epoch == Some(self.nodes[node].broker_epoch)
                {
                    self.controller.brokers.get_mut(&id).unwrap().is_active = true;
                    self.controller.elect();
                }
            }
            980..1000 if !self.network.is_empty() => {
                let at = self.dice.below(self.network.len());
                self.network.swap_remove(at);
            }
            _ => {}
        }
        for node in 0..3 {
            self.after(node);
        }
        self.check();
    }

    fn produce(&mut self, node: usize) {
        let Role::Leader(leader) = &mut self.nodes[node].role else {
            return;
        };
        if leader.admit(Acks::All).is_err() {
            return;
        }
        let epoch = leader.epoch().get();
        self.next_value += 1;
        let record = Record {
            epoch,
            value: self.next_value,
        };
        let node = &mut self.nodes[node];
        let offset = node.log.end().get();
        node.log.append(record);
        let Role::Leader(leader) = &mut node.role else {
            unreachable!()
        };
        let when = leader.on_appended(node.log.end(), Acks::All);
        node.waiting.push((epoch, when, offset));
    }

    fn fetch_of(&self, node: usize) -> Option<(Ask, FollowerFetch)> {
        let node = &self.nodes[node];
        let Role::Follower { machine, .. } = &node.role else {
            return None;
        };
        let ask = machine.ask(node.log.position());
        let fetch = FollowerFetch {
            follower: node.id,
            broker_epoch: node.broker_epoch,
            leader_epoch: ask.epoch,
            offset: ask.position.log_end,
            last_epoch: ask.position.last_epoch,
            durable_end: node.log.durable_end(),
            is_report: false,
        };
        Some((ask, fetch))
    }

    /// Asks for records, or only tells how far it is.
    fn ask(&mut self, node: usize) {
        let Some((ask, fetch)) = self.fetch_of(node) else {
            return;
        };
        let Role::Follower { asked, .. } = &mut self.nodes[node].role else {
            return;
        };
        let number = if asked.is_none() {
            self.next_number += 1;
            *asked = Some((self.next_number, ask));
            Some(self.next_number)
        } else {
            None
        };
        self.network.push(Message::Fetch {
            from: node,
            to: index_of(ask.leader),
            number,
            fetch,
        });
    }

    fn forget_answer(&mut self, node: usize) {
        let now = self.moment();
        let node = &mut self.nodes[node];
        match &mut node.role {
            Role::Follower { asked, .. } => *asked = None,
            Role::Leader(leader) => {
                if let Some(asked) = node.altering.take() {
                    leader.on_alter_outcome(&asked, AlterOutcome::Unknown, now);
                }
            }
            Role::Idle => {}
        }
    }

    fn flush(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.log.durable = node.log.records.len();
        if let Role::Leader(leader) = &mut node.role {
            leader.on_durable(node.log.durable_end());
        }
    }

    fn tick(&mut self, node: usize) {
        let now = self.moment();
        if self.runs(node)
            && let Role::Leader(leader) = &mut self.nodes[node].role
        {
            leader.on_tick(now);
        }
    }

    fn crash(&mut self, node: usize) {
        let extra = self.dice.below(4);
        let means = self.means;
        let lower = self.dice.below(4) as u64;
        let node = &mut self.nodes[node];
        if !node.is_up {
            return;
        }
        node.is_up = false;
        // Without syncs only the process may die: the page cache stays.
        if means == WrittenMeans::Durable {
            let kept = node.log.durable + extra;
            node.log.lose_power(kept);
        }
        node.role = Role::Idle;
        node.waiting.clear();
        node.altering = None;
        // The high watermark is checkpointed now and then.
        let known = node.high_watermark.get().saturating_sub(lower);
        node.high_watermark = Offset::new(known).min(node.log.end());
    }

    fn start(&mut self, node: usize) {
        let epoch = self.controller.register(node_id(node));
        let node = &mut self.nodes[node];
        node.is_up = true;
        node.paused_until = 0;
        node.epoch = 0;
        node.broker_epoch = epoch;
    }

    /// The latest metadata arrives.
    fn learn(&mut self, index: usize) {
        let now = self.moment();
        let controller = &self.controller;
        let node = &mut self.nodes[index];
        // A broker learns of its own registration before anything else.
        let epoch = controller.leader_epoch;
        if let Role::Leader(leader) = &mut node.role
            && node.epoch == epoch
            && controller.leader == Some(node.id)
        {
            leader.on_image(&controller.view(), now);
            return;
        }
        let is_same = matches!(&node.role, Role::Follower { machine, .. }
            if Some(machine.leader()) == controller.leader && node.epoch == epoch);
        if is_same {
            return;
        }
        node.epoch = epoch;
        node.altering = None;
        match controller.leader {
            None => node.role = Role::Idle,
            Some(leader) if leader == node.id => {
                node.log.assign(epoch);
                let leader = PartitionLeader::new(TakeOver {
                    node: node.id,
                    epoch: LeaderEpoch::new(epoch),
                    view: controller.view(),
                    isr_min: ISR_MIN,
                    written_means: self.means,
                    lag_ms_max: LAG_MS,
                    log_end: node.log.end(),
                    durable_end: node.log.durable_end(),
                    high_watermark: node.high_watermark,
                    now,
                });
                node.role = Role::Leader(Box::new(leader));
                let other = self.leaders.insert(epoch, index);
                // Told once more after a restart in the same epoch would be another life: not so here.
                assert!(
                    other.is_none_or(|other| other == index),
                    "two leaders of epoch {epoch}"
                );
                for (offset, record) in &self.committed {
                    let found = self.nodes[index].log.records.get(*offset as usize);
                    assert_eq!(
                        found,
                        Some(record),
                        "the leader of epoch {epoch} lacks offset {offset}"
                    );
                }
            }
            Some(leader) => {
                let machine = PartitionFollower::new(
                    leader,
                    LeaderEpoch::new(epoch),
                    false,
                    node.high_watermark,
                );
                node.role = Role::Follower {
                    machine,
                    asked: None,
                };
            }
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.dice.below(self.network.len());
        let message = self.network.swap_remove(at);
        match message {
            Message::Fetch {
                from,
                to,
                number,
                fetch,
            } if self.runs(to) => self.answer(from, to, number, &fetch),
            Message::Answer {
                to,
                number,
                answer,
                records,
                high_watermark,
            } if self.runs(to) => self.take_in(to, number, answer, &records, high_watermark),
            Message::Alter {
                from,
                broker_epoch,
                asked,
            } => {
                let decision = self.controller.alter(node_id(from), broker_epoch, &asked);
                self.network.push(Message::Altered {
                    to: from,
                    asked,
                    decision,
                });
            }
            Message::Altered {
                to,
                asked,
                decision,
            } if self.runs(to) => {
                let now = self.moment();
                let node = &mut self.nodes[to];
                // An answer that came after it was given up is not heard.
                if node.altering.as_ref() == Some(&asked)
                    && let Role::Leader(leader) = &mut node.role
                {
                    node.altering = None;
                    leader.on_alter_outcome(&asked, AlterOutcome::of(&decision), now);
                }
            }
            // Lost with the process that should have got it.
            _ => {}
        }
    }

    fn answer(&mut self, from: usize, to: usize, number: Option<u64>, fetch: &FollowerFetch) {
        let now = self.moment();
        let most = self.dice.below(4);
        let node = &mut self.nodes[to];
        let Role::Leader(leader) = &mut node.role else {
            return;
        };
        let log = &node.log;
        let answer = leader.on_fetch(fetch, Offset::ZERO, |epoch| log.epoch_end(epoch), now);
        let mut records = Vec::new();
        let answer = match answer {
            Ok(FetchAnswer::Records) => {
                let rest = &log.records[fetch.offset.get() as usize..];
                records.extend(rest.iter().take(most));
                FollowedAnswer::Agrees
            }
            Ok(FetchAnswer::Diverging(end)) => FollowedAnswer::Diverges(end),
            Err(FetchRefusal::OutOfRange) => FollowedAnswer::OutOfRange {
                log_start: Offset::ZERO,
            },
            Err(FetchRefusal::EpochAhead) => FollowedAnswer::EpochAhead,
            Err(_) => return,
        };
        if let Some(number) = number {
            self.network.push(Message::Answer {
                to: from,
                number,
                answer,
                records,
                high_watermark: leader.high_watermark(),
            });
        }
    }

    fn take_in(
        &mut self,
        to: usize,
        number: u64,
        answer: FollowedAnswer,
        records: &[Record],
        high_watermark: Offset,
    ) {
        let node = &mut self.nodes[to];
        let Role::Follower { machine, asked } = &mut node.role else {
            return;
        };
        let Some((_, ask)) = asked.take_if(|(waits, _)| *waits == number) else {
            return;
        };
        let log = &mut node.log;
        match machine.on_answer(&ask, answer, log.position(), |epoch| log.epoch_end(epoch)) {
            FollowerStep::Drop => {}
            FollowerStep::Append => {
                for record in records {
                    log.append(*record);
                }
                machine.on_appended(log.end(), high_watermark);
            }
            FollowerStep::Truncate { to } => {
                log.truncate(to);
                machine.on_cut(log.end());
            }
            FollowerStep::Restart { at } => {
                log.truncate(at);
                machine.on_restarted(at);
            }
            FollowerStep::Quarantine(why) => panic!("replica {to} is put aside: {why}"),
        }
    }

    // ---- what must hold ----

    /// Sends proposals, takes note of acknowledgements and of what is committed.
    fn after(&mut self, index: usize) {
        let written: Vec<_> = (0..3).map(|node| self.written(node)).collect();
        let logs: Vec<_> = self.nodes.iter().map(|node| node.log.clone()).collect();
        let node = &mut self.nodes[index];
        let now = match &mut node.role {
            Role::Idle => return,
            Role::Follower { machine, .. } => machine.high_watermark(),
            Role::Leader(leader) => {
                if node.altering.is_none()
                    && let Some(asked) = leader.take_proposal(PartitionId::new(0))
                {
                    node.altering = Some(asked.clone());
                    self.network.push(Message::Alter {
                        from: index,
                        broker_epoch: node.broker_epoch,
                        asked,
                    });
                }
                let epoch = leader.epoch().get();
                let mut done = Vec::new();
                node.waiting.retain(|(of, when, offset)| {
                    if *of != epoch {
                        return false;
                    }
                    match leader.ack_state(*when) {
                        AckState::Waiting => true,
                        AckState::Done => {
                            done.push(*offset);
                            false
                        }
                        AckState::NotEnoughReplicas => false,
                    }
                });
                for offset in done {
                    self.acknowledged += 1;
                    let record = node.log.records[offset as usize];
                    let holders = (0..3).filter(|other| {
                        written[*other] > offset as usize
                            && logs[*other].records[offset as usize] == record
                    });
                    assert!(
                        holders.count() >= ISR_MIN,
                        "offset {offset} was acknowledged with too few replicas"
                    );
                }
                leader.high_watermark()
            }
        };
        assert!(
            now >= node.high_watermark,
            "high watermark of replica {index} went back"
        );
        assert!(now <= node.log.end());
        for offset in node.high_watermark.get()..now.get() {
            let record = node.log.records[offset as usize];
            let before = self.committed.insert(offset, record);
            assert!(
                before.is_none_or(|before| before == record),
                "offset {offset} was committed as {before:?} and is {record:?} at replica {index}"
            );
        }
        node.high_watermark = now;
    }

    fn check(&self) {
        for a in &self.nodes {
            for b in &self.nodes {
                let both = a.high_watermark.min(b.high_watermark).get() as usize;
                assert_eq!(
                    a.log.records[..both],
                    b.log.records[..both],
                    "committed records differ"
                );
            }
        }
        // Whoever may be elected has everything that is committed.
        let end = self.committed.keys().next_back().map_or(0, |last| last + 1);
        for node in self.controller.isr.union(&self.controller.elr) {
            let written = self.written(index_of(*node));
            assert!(
                written as u64 >= end,
                "replica {node} may lead with {written} of {end} committed records"
            );
        }
    }

    /// Everything works from now on.
    fn heal(&mut self) {
        for node in 0..3 {
            self.nodes[node].paused_until = 0;
            if !self.nodes[node].is_up {
                self.start(node);
            }
            self.controller
                .brokers
                .get_mut(&node_id(node))
                .unwrap()
                .is_active = true;
        }
        self.controller.elect();
        for _ in 0..400 {
            self.now += LAG_MS / 10;
            for node in 0..3 {
                self.learn(node);
                self.forget_answer(node);
                self.ask(node);
            }
            while !self.network.is_empty() {
                self.deliver();
                for node in 0..3 {
                    self.flush(node);
                    self.after(node);
                }
            }
            for node in 0..3 {
                self.tick(node);
                self.after(node);
            }
            self.check();
            if self.is_settled() {
                return;
            }
        }
        let states: Vec<_> = self
            .nodes
            .iter()
            .map(|node| (&node.role, &node.log))
            .collect();
        panic!(
            "it never comes together: {:#?}\n{states:#?}",
            self.controller
        );
    }

    fn is_settled(&self) -> bool {
        let first = &self.nodes[0];
        self.controller.isr.len() == 3
            && self.nodes.iter().all(|node| {
                node.log.records == first.log.records && node.high_watermark == node.log.end()
            })
    }
}

fn run(seed: u64, means: WrittenMeans) -> usize {
    let mut cluster = Cluster::new(seed, means);
    for node in 0..3 {
        cluster.learn(node);
    }
    for _ in 0..STEPS {
        cluster.step();
    }
    cluster.heal();
    cluster.acknowledged
}

fn run_many(means: WrittenMeans) {
    let mut acknowledged = 0;
    for seed in 0..300 {
        let outcome = std::panic::catch_unwind(|| run(seed, means));
        match outcome {
            Ok(number) => acknowledged += number,
            Err(_) => panic!("seed {seed} with {means:?}"),
        }
    }
    // A simulation in which nothing ever works would find nothing wrong.
    assert!(
        acknowledged > 1000,
        "only {acknowledged} appends were acknowledged in all runs"
    );
}

#[test]
fn nothing_committed_is_lost_when_machines_lose_power() {
    run_many(WrittenMeans::Durable);
}

#[test]
fn nothing_committed_is_lost_when_processes_die() {
    run_many(WrittenMeans::Appended);
}
