//! The controller on a broker: what `broker/src/controller.rs`, `broker/src/controller/brokers.rs` and
//! `broker/src/controller/upkeep.rs` do around the decisions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use highwater_coordination::broker_registry::BrokerRegistry;
use highwater_coordination::cluster_image::{BrokerImage, ClusterImage, TopicImage};
use highwater_coordination::controller::{
    self as decide, CreateTopic, Decision, Elect, HeartbeatOutcome,
};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::BrokerEpoch;
use highwater_protocol::messages::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, RegisterBrokerResponse, ReplicaLog,
    ReplicaLogsResponse, TopicPartition,
};
use highwater_protocol::metadata_record::MetadataRecord;
use highwater_storage::Durability;

use crate::cluster::{Cluster, topic_id, topic_name};
use crate::message::{Envelope, Message};
use crate::node::{ControllerTerm, Hosted, Operation, Reply, Turn, incarnation, node_id};
use crate::quorum::Leadership;
use crate::schedule::{Event, Timer};

/// Between two looks of the voters at their leader, in ms.
const QUORUM_MS: u64 = 20;
/// A leader that a majority does not hear is replaced after this long, in ms.
const ELECTION_MS: u64 = 60;

impl Cluster {
    // ---- who leads ----

    /// Whether a broker can lead the metadata log now.
    fn can_lead(&self, node: usize) -> bool {
        if !self.is_running(node) {
            return false;
        }
        let voters = self.nodes.len() - usize::from(self.nodes.len().is_multiple_of(2));
        let hears = |other: &usize| {
            *other == node
                || (self.is_running(*other) && self.network.is_open_both_ways(node, *other))
        };
        node < voters && (0..voters).filter(hears).count() > voters / 2
    }

    pub(crate) fn watch_quorum(&mut self) {
        self.schedule.at(self.now + QUORUM_MS, Event::Quorum);
        if let Some(leader) = self.quorum.leader {
            if self.is_life(leader.node, leader.life) && self.can_lead(leader.node) {
                self.quorum.unable_since = None;
                return;
            }
            let since = *self.quorum.unable_since.get_or_insert(self.now);
            if self.now - since < ELECTION_MS {
                return;
            }
            self.depose();
        }
        let able: Vec<_> = (0..self.nodes.len())
            .filter(|node| self.can_lead(*node))
            .collect();
        if able.is_empty() {
            return;
        }
        let node = able[self.dice.below(able.len() as u64) as usize];
        self.elect(node);
    }

    /// The leader of the metadata log is none any more. It may not know that.
    pub(crate) fn depose(&mut self) {
        let Some(leader) = self.quorum.leader.take() else {
            return;
        };
        self.quorum.unable_since = None;
        self.quorum.last_leader = leader.node;
        // A majority may have its last entry already, and then the next leader commits it.
        if let Some(proposal) = self.quorum.proposal.take()
            && self.dice.one_in(2)
        {
            self.commit(&proposal.records);
        }
        let index = self.quorum.index();
        if self.is_life(leader.node, leader.life)
            && let Some(process) = &mut self.nodes[leader.node].process
            && let Some(term) = &mut process.controller
        {
            term.ended_at = Some(index);
        }
    }

    fn elect(&mut self, node: usize) {
        self.quorum.term += 1;
        let life = self.nodes[node].life;
        let leadership = Leadership {
            node,
            life,
            term: self.quorum.term,
        };
        // The blank entry of the term.
        self.commit(&[]);
        self.trace.note(
            self.now,
            format_args!("{node} is the controller of term {}", leadership.term),
        );
        self.quorum.leader = Some(leadership);
        let now_ms = self.local_ms(node);
        let image = Arc::clone(self.quorum.image());
        let mut registry = BrokerRegistry::default();
        registry.activate(&image, node_id(node), incarnation(node, life), now_ms);
        if let Some(process) = &mut self.nodes[node].process {
            process.controller = Some(ControllerTerm {
                leadership,
                registry,
                turns: VecDeque::new(),
                busy: None,
                ended_at: None,
                idle_since_ms: now_ms,
            });
        }
        let every = self.plan.session_ms / 12;
        self.plan_timer(node, every, Timer::Upkeep);
    }

    fn controller(&mut self, node: usize) -> Option<&mut ControllerTerm> {
        self.nodes[node].process.as_mut()?.controller.as_mut()
    }

    /// Whom a broker takes for the controller.
    pub(crate) fn believed_controller(&mut self, node: usize) -> usize {
        if self.nodes[node]
            .process
            .as_ref()
            .is_some_and(|one| one.controller.is_some())
        {
            return node;
        }
        match self.quorum.leader {
            Some(leader) if self.is_healing || !self.dice.one_in(10) => leader.node,
            _ => self.quorum.last_leader,
        }
    }

    // ---- requests ----

    pub(crate) fn on_controller_request(&mut self, envelope: Envelope) {
        let node = envelope.to;
        let now_ms = self.local_ms(node);
        let is_leader = self.quorum.leader.is_some_and(|leader| leader.node == node);
        let index = self.quorum.index();
        let image = Arc::clone(self.quorum.image());
        let Some(term) = self.controller(node) else {
            return;
        };
        let Envelope {
            from,
            from_life: life,
            call,
            body,
            ..
        } = envelope;
        let turn = match body {
            Message::Register(request) => Turn::Register {
                from,
                life,
                call,
                request,
            },
            Message::Alter(request) => Turn::Alter {
                from,
                life,
                call,
                request,
            },
            Message::Heartbeat(request) => {
                // The answer renews a lease: only who still leads gives one.
                if !is_leader || term.ended_at.is_some() {
                    return;
                }
                let decided = decide_heartbeat(&image, &mut term.registry, index, &request);
                let decision = match decided {
                    Ok(decision) => decision,
                    Err(code) => {
                        self.answer(node, from, life, call, Message::Heard(Err(code)));
                        return;
                    }
                };
                term.registry.touch(&request, now_ms);
                let is_being_fenced = term.registry.is_being_fenced(request.node_id);
                if decision.records.is_empty() && !is_being_fenced {
                    let reply = decision.reply;
                    self.finish_heartbeat(node, (from, life, call), &request, now_ms, reply, 0);
                    return;
                }
                Turn::Heartbeat {
                    from,
                    life,
                    call,
                    request,
                    heard_ms: now_ms,
                }
            }
            _ => return,
        };
        term.turns.push_back(turn);
        self.take_turns(node);
    }

    pub(crate) fn operate(&mut self, operation: Operation) {
        let Some(leader) = self.quorum.leader else {
            return;
        };
        if let Some(term) = self.controller(leader.node) {
            term.turns.push_back(Turn::Operator(operation));
            self.take_turns(leader.node);
        }
    }

    /// One decision at a time, each on what is committed.
    fn take_turns(&mut self, node: usize) {
        loop {
            let Some(term) = self.controller(node) else {
                return;
            };
            if term.busy.is_some() {
                return;
            }
            let Some(turn) = term.turns.pop_front() else {
                return;
            };
            let ended_at = term.ended_at;
            let leadership = term.leadership;
            let index = ended_at.unwrap_or(self.quorum.index());
            let image = Arc::clone(self.quorum.image_at(index));
            match self.decide(node, &image, index, &turn) {
                Err(code) => self.refuse(node, &turn, code),
                Ok((records, reply)) if records.is_empty() => self.finish(node, turn, reply, 0),
                Ok((records, reply)) => {
                    let number = if ended_at.is_some() {
                        // Nobody follows it: the proposal leads nowhere.
                        0
                    } else {
                        let number = self.quorum.propose(leadership, records);
                        let delay = 1 + self.dice.below(2 + 2 * self.plan.faults.delay_ms);
                        self.schedule
                            .at(self.now + delay, Event::Committed { number });
                        number
                    };
                    if let Some(term) = self.controller(node) {
                        term.busy = Some((number, turn, reply));
                    }
                    return;
                }
            }
        }
    }

    fn decide(
        &mut self,
        node: usize,
        image: &ClusterImage,
        index: usize,
        turn: &Turn,
    ) -> Result<(Vec<MetadataRecord>, Reply), ErrorCode> {
        fn split<R>(
            decision: Decision<R>,
            reply: impl FnOnce(R) -> Reply,
        ) -> (Vec<MetadataRecord>, Reply) {
            (decision.records, reply(decision.reply))
        }
        let now_ms = self.local_ms(node);
        let session_ms = self.plan.session_ms;
        let next_epoch = BrokerEpoch::new(index as u64 + 1);
        let durability = self.durability.clone();
        let synced = |topic: &TopicImage| durability.get(&topic.id) == Some(&Durability::Synced);
        if let Turn::Operator(operation) = turn {
            return Ok((self.decide_operation(image, operation), Reply::Nothing));
        }
        let Some(term) = self.controller(node) else {
            return Err(ErrorCode::NotController);
        };
        match turn {
            Turn::Register { request, .. } => {
                let has_live_session = !decide::proves_end_of_last_life(image, request)
                    && term.registry.has_live_session_of_another(
                        image,
                        request.node_id,
                        request.incarnation,
                        now_ms,
                        session_ms,
                    );
                let decision =
                    decide::register_broker(image, request, next_epoch, has_live_session, &synced)
                        .map_err(|error| error.code())?;
                Ok(split(decision, |broker_epoch| {
                    Reply::Registered(RegisterBrokerResponse {
                        broker_epoch,
                        metadata_index: index as u64,
                    })
                }))
            }
            Turn::Heartbeat { request, .. } => {
                let decision = decide_heartbeat(image, &mut term.registry, index, request)?;
                Ok(split(decision, Reply::Heard))
            }
            Turn::Alter { request, .. } => {
                let decision =
                    decide::alter_partition(image, request).map_err(|error| error.code())?;
                Ok(split(decision, Reply::Altered))
            }
            Turn::Fence(broker) => {
                let is_silent = !term.registry.is_alive(*broker, now_ms, session_ms);
                let found = image.broker(*broker).filter(|broker| !broker.fenced);
                match found.and_then(BrokerImage::epoch) {
                    Some(epoch) if is_silent => {
                        let decision = decide::fence_broker(image, *broker, epoch)
                            .map_err(|error| error.code())?;
                        term.registry.fencing(*broker);
                        Ok(split(decision, |()| Reply::Fenced(true)))
                    }
                    _ => Ok((Vec::new(), Reply::Fenced(false))),
                }
            }
            Turn::Operator(_) => Ok((Vec::new(), Reply::Nothing)),
        }
    }

    fn decide_operation(
        &mut self,
        image: &ClusterImage,
        operation: &Operation,
    ) -> Vec<MetadataRecord> {
        match operation {
            Operation::Create { number } => {
                let topic = &self.plan.topics[*number];
                let command = CreateTopic {
                    id: topic_id(*number),
                    name: &topic_name(*number),
                    partitions: topic.partitions,
                    replicas: topic.replicas,
                    isr_min: topic.isr_min,
                    configs: Vec::new(),
                };
                decide::create_topic(image, &command)
                    .map_or(Vec::new(), |decision| decision.records)
            }
            Operation::Move { key, target } => {
                let decision = match target {
                    Some(target) => decide::set_replicas(image, key.0, key.1, target),
                    None => decide::cancel_move(image, key.0, key.1),
                };
                decision.map_or(Vec::new(), |decision| decision.records)
            }
            Operation::Minimum { topic, isr_min } => {
                decide::alter_topic_config(image, topic, *isr_min, Vec::new())
                    .map_or(Vec::new(), |decision| decision.records)
            }
            Operation::Elect { key, node } => {
                let chosen = BTreeMap::from([(*key, *node)]);
                decide::elect_nodes(image, &chosen).records
            }
            Operation::Drain { node, drain } => {
                let request = highwater_protocol::messages::DrainNodeRequest {
                    node_id: *node,
                    drain: *drain,
                };
                decide::drain_node(image, &request).map_or(Vec::new(), |decision| decision.records)
            }
            Operation::Unclean { key } => self.elect_unclean(image, *key),
        }
    }

    /// What an operator does when nobody is complete: the longest log wins.
    fn elect_unclean(
        &mut self,
        image: &ClusterImage,
        key: crate::message::Key,
    ) -> Vec<MetadataRecord> {
        let Some(topic) = image.topic_by_id(key.0) else {
            return Vec::new();
        };
        let asked = [TopicPartition {
            topic: topic.name.as_str().to_owned(),
            partition: key.1,
        }];
        let mut answers = BTreeMap::new();
        for broker in decide::replicas_to_ask(image, &asked).into_keys() {
            let Some(process) = &self.nodes[crate::node::number_of(broker)].process else {
                continue;
            };
            let (Some(broker_epoch), Some(Hosted::Online(replica))) =
                (process.broker_epoch, process.replicas.get(&key))
            else {
                continue;
            };
            if replica.is_offline() {
                continue;
            }
            let log = ReplicaLog {
                topic_id: key.0,
                partition: key.1,
                error: ErrorCode::None,
                last_epoch: replica.log.latest_epoch(),
                end: replica.log.end(),
                high_watermark: replica.high_watermark,
            };
            answers.insert(
                broker,
                ReplicaLogsResponse {
                    broker_epoch,
                    logs: vec![log],
                },
            );
        }
        let winners = decide::choose_winners(image, &answers);
        let decision = decide::elect_leaders(image, Elect::Unclean(&winners), Some(&asked));
        let records = decision.map_or(Vec::new(), |decision| decision.records);
        if !records.is_empty() {
            self.oracle.declare_unclean(key);
        }
        records
    }

    /// The majority has an entry, if the majority still hears its leader.
    pub(crate) fn on_committed(&mut self, number: u64) {
        let Some(proposal) = self.quorum.proposal.take_if(|one| one.number == number) else {
            return;
        };
        let node = proposal.by.node;
        if !self.is_life(node, proposal.by.life) || !self.can_lead(node) {
            self.quorum.proposal = Some(proposal);
            self.schedule.at(self.now + 10, Event::Committed { number });
            return;
        }
        self.commit(&proposal.records);
        if let Some((_, turn, reply)) = self.controller(node).and_then(|term| term.busy.take()) {
            self.finish(node, turn, reply, self.quorum.index());
        }
        self.take_turns(node);
    }

    fn finish(&mut self, node: usize, turn: Turn, reply: Reply, index: usize) {
        let now_ms = self.local_ms(node);
        let session_ms = self.plan.session_ms;
        match (turn, reply) {
            (
                Turn::Register {
                    from,
                    life,
                    call,
                    request,
                },
                Reply::Registered(mut response),
            ) => {
                if let Some(term) = self.controller(node) {
                    term.registry.registered(request.node_id, now_ms);
                }
                response.metadata_index = response.metadata_index.max(index as u64);
                self.answer(node, from, life, call, Message::Registered(Ok(response)));
            }
            (
                Turn::Heartbeat {
                    from,
                    life,
                    call,
                    request,
                    heard_ms,
                },
                Reply::Heard(outcome),
            ) => {
                self.finish_heartbeat(node, (from, life, call), &request, heard_ms, outcome, index);
            }
            (
                Turn::Alter {
                    from, life, call, ..
                },
                Reply::Altered(response),
            ) => {
                self.answer(node, from, life, call, Message::Altered(Ok(response)));
            }
            (Turn::Fence(broker), Reply::Fenced(true)) => {
                if let Some(term) = self.controller(node) {
                    term.registry.lost(broker, now_ms, session_ms);
                }
            }
            _ => {}
        }
    }

    fn finish_heartbeat(
        &mut self,
        node: usize,
        (from, life, call): (usize, u64, u64),
        request: &BrokerHeartbeatRequest,
        heard_ms: u64,
        outcome: HeartbeatOutcome,
        index: usize,
    ) {
        let image = Arc::clone(self.quorum.image());
        let session_timeout_ms = self.plan.session_ms as u32;
        let metadata_index = self.quorum.index() as u64;
        let Some(term) = self.controller(node) else {
            return;
        };
        let registry = &mut term.registry;
        if !outcome.fenced {
            registry.unfenced(request.node_id, heard_ms);
        }
        let may_shut_down =
            outcome.may_shut_down && registry.have_applied(&image, request.node_id, index as u64);
        if may_shut_down {
            registry.ended(request.node_id);
        }
        let response = BrokerHeartbeatResponse {
            fenced: outcome.fenced,
            may_shut_down,
            session_timeout_ms,
            metadata_index,
        };
        self.answer(node, from, life, call, Message::Heard(Ok(response)));
    }

    fn refuse(&mut self, node: usize, turn: &Turn, code: ErrorCode) {
        let (from, life, call, body) = match turn {
            Turn::Register {
                from, life, call, ..
            } => (from, life, call, Message::Registered(Err(code))),
            Turn::Heartbeat {
                from, life, call, ..
            } => (from, life, call, Message::Heard(Err(code))),
            Turn::Alter {
                from, life, call, ..
            } => (from, life, call, Message::Altered(Err(code))),
            Turn::Fence(_) | Turn::Operator(_) => return,
        };
        self.answer(node, *from, *life, *call, body);
    }

    // ---- upkeep ----

    pub(crate) fn keep_up(&mut self, node: usize) {
        let now_ms = self.local_ms(node);
        let session_ms = self.plan.session_ms;
        let image = Arc::clone(self.quorum.image());
        let is_in_touch = self.can_lead(node);
        let Some(term) = self.controller(node) else {
            return;
        };
        if term.ended_at.is_some() {
            // It hears of the new term as soon as it hears of anybody.
            if is_in_touch || now_ms.saturating_sub(term.idle_since_ms) > 2 * ELECTION_MS {
                if let Some(process) = &mut self.nodes[node].process {
                    process.controller = None;
                }
                return;
            }
        } else {
            let gap = now_ms.saturating_sub(term.idle_since_ms);
            if gap > session_ms / 2 {
                term.registry.stood_still(now_ms);
            }
            let expired = term.registry.expired(&image, now_ms, session_ms);
            for broker in expired {
                let is_queued = term
                    .turns
                    .iter()
                    .any(|turn| matches!(turn, Turn::Fence(one) if *one == broker));
                if !is_queued {
                    term.turns.push_back(Turn::Fence(broker));
                }
            }
            term.idle_since_ms = now_ms;
        }
        self.take_turns(node);
        self.plan_timer(node, session_ms / 12, Timer::Upkeep);
    }
}

fn decide_heartbeat(
    image: &ClusterImage,
    registry: &mut BrokerRegistry,
    index: usize,
    request: &BrokerHeartbeatRequest,
) -> Result<Decision<HeartbeatOutcome>, ErrorCode> {
    let broker = request.node_id;
    let is_fenced = image.broker(broker).is_some_and(|broker| broker.fenced);
    let is_behind =
        is_fenced && !registry.has_applied_fence(broker, request.metadata_index, index as u64);
    let mut request = request.clone();
    request.wants_fence |= is_behind;
    decide::heartbeat(image, &request).map_err(|error| error.code())
}
