//! The life of a broker: start, registration, heartbeats, lease, its end. What
//! `broker/src/cluster_tasks.rs`, `broker/src/life.rs` and `broker/src/replication.rs` do, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, PartitionId, TopicId};
use highwater_protocol::messages::{
    BrokerHeartbeatRequest, PartitionsOfTopic, RegisterBrokerRequest, ReplicaToRebuild, SessionEnd,
};
use highwater_storage::{Engine, LifeEnd, OpenedLog, PartitionMeta};

use crate::cluster::{Cluster, directory};
use crate::message::{Envelope, Key, Message};
use crate::node::{Hosted, Node, Opened, Process, Renewal, Wish, incarnation, node_id};
use crate::schedule::{Event, Timer};

/// Between two attempts to register, in ms.
const REGISTER_PAUSE_MS: u64 = 30;
/// An orderly stop may take this long, in ms.
const STOP_MS: u64 = 800;
/// How much of the metadata a start may not know yet that the life before it knew.
const FORGOTTEN_ENTRIES: u64 = 4;

impl Cluster {
    // ---- beginning ----

    /// The machine is on: the logs are opened, and the broker registers.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            return;
        }
        let forgotten = self.dice.below(FORGOTTEN_ENTRIES) as usize;
        let machine = &mut self.nodes[node];
        machine.life += 1;
        machine.paused_until = 0;
        let life = machine.life;
        let index = machine.index.saturating_sub(forgotten);
        let image = Arc::clone(self.quorum.image_at(index));
        let engine = match Engine::open(Node::data(), self.nodes[node].engine_options()) {
            Ok(engine) => engine,
            Err(error) => {
                // The process ends, and is started again.
                self.trace.note(
                    self.now,
                    format_args!("{node} cannot open its directory: {error}"),
                );
                self.nodes[node].disk.restart();
                self.come_back(node);
                return;
            }
        };
        let options_for = |meta: &PartitionMeta| Some(self.log_options(meta.topic_id));
        let found = engine.open_logs(&options_for, &|_| {});
        let mut process = Process::new(life, Arc::clone(&engine), index, image);
        let opened: Vec<_> = found.into_iter().filter_map(opened).collect();
        self.trace.note(
            self.now,
            format_args!("{node} starts life {life} with metadata {index}"),
        );
        for one in &opened {
            let key = (one.meta.topic_id, one.meta.partition);
            self.oracle.on_opened(node, key, one.log.as_deref());
        }
        self.oracle.on_all_opened(node);
        let evidence = engine.session_evidence();
        let request = RegisterBrokerRequest {
            node_id: node_id(node),
            directory: directory(node),
            incarnation: incarnation(node, life),
            host: format!("host{node}"),
            port: 7171,
            rack: None,
            version: "1".to_owned(),
            session_end: match evidence.end {
                LifeEnd::Clean => SessionEnd::Clean,
                LifeEnd::ProcessCrash => SessionEnd::ProcessCrash,
                LifeEnd::Unclean => SessionEnd::Unclean,
            },
            last_broker_epoch: evidence.last_broker_epoch,
            damaged: by_topic(damaged(&opened)),
        };
        self.trace.note(
            self.now,
            format_args!("{node} found {:?} {:?}", evidence.end, evidence.doubt),
        );
        process.opened = Some(opened);
        process.registering = Some((0, request));
        self.nodes[node].process = Some(process);
        self.plan_timer(node, 1, Timer::Register);
        self.plan_timer(node, 1, Timer::Metadata);
    }

    pub(crate) fn register(&mut self, node: usize) {
        let controller = self.believed_controller(node);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if process.registered_at.is_some() {
            return;
        }
        let Some((_, request)) = &process.registering else {
            return;
        };
        let request = request.clone();
        let call = self.ask(
            node,
            controller,
            Message::Register(request),
            3 * REGISTER_PAUSE_MS,
        );
        if let Some(process) = &mut self.nodes[node].process
            && let Some((waits_for, _)) = &mut process.registering
        {
            *waits_for = call;
        }
    }

    pub(crate) fn on_registered(&mut self, envelope: Envelope) {
        let node = envelope.to;
        let Message::Registered(answer) = envelope.body else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if process.registered_at.is_some()
            || process
                .registering
                .as_ref()
                .is_none_or(|(call, _)| *call != envelope.call)
        {
            return;
        }
        match answer {
            Ok(answer) => {
                process.registered_at = Some((answer.broker_epoch, answer.metadata_index as usize));
                self.begin_serving(node);
            }
            Err(_) => self.plan_timer(node, REGISTER_PAUSE_MS, Timer::Register),
        }
    }

    /// Once the registration is applied here: the life is made durable, and roles are taken.
    fn begin_serving(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let Some((epoch, index)) = process.registered_at else {
            return;
        };
        if process.index < index || process.broker_epoch.is_some() {
            return;
        }
        if process.engine.begin_life(epoch).is_err() {
            // The start has failed.
            self.crash(node);
            return;
        }
        process.broker_epoch = Some(epoch);
        let opened = process.opened.take().unwrap_or_default();
        self.take_in_opened(node, opened);
        self.plan_timer(node, 1, Timer::Heartbeat);
        self.plan_timer(node, 1 + self.plan.lag_ms / 4, Timer::IsrTick);
        self.plan_timer(node, 20, Timer::Housekeeping);
    }

    // ---- metadata ----

    /// The metadata log brings something new, or nothing.
    pub(crate) fn learn(&mut self, node: usize) {
        let slowest = if self.is_faulty {
            self.plan.faults.metadata_ms
        } else {
            10
        };
        let again = 1 + self.dice.below(slowest);
        self.plan_timer(node, again, Timer::Metadata);
        let leader = self
            .quorum
            .leader
            .map_or(self.quorum.last_leader, |leader| leader.node);
        if !self.network.is_open(leader, node) || !self.is_running(leader) {
            return;
        }
        let newest = self.quorum.index();
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        if newest > process.index {
            let steps = newest - process.index;
            let step = if self.dice.one_in(3) {
                1 + self.dice.below(steps as u64) as usize
            } else {
                steps
            };
            self.apply_up_to(node, process_index(&self.nodes[node]) + step);
        }
        self.rebuild_all(node);
    }

    fn apply_up_to(&mut self, node: usize, index: usize) {
        let after = Arc::clone(self.quorum.image_at(index));
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if index < process.index {
            self.oracle.broken(
                "R16",
                format!("broker {node} goes back to metadata {index}"),
            );
            return;
        }
        let before = std::mem::replace(&mut process.image, Arc::clone(&after));
        process.index = index;
        let is_serving = process.broker_epoch.is_some();
        self.nodes[node].index = index;
        self.trace
            .note(self.now, format_args!("{node} applies metadata {index}"));
        if is_serving {
            self.reconcile(node, &before, &after);
        } else {
            self.begin_serving(node);
        }
        self.renew_lease(node);
    }

    // ---- heartbeats ----

    pub(crate) fn beat(&mut self, node: usize) {
        self.plan_timer(node, self.plan.session_ms / 6, Timer::Heartbeat);
        let controller = self.believed_controller(node);
        let now_ms = self.local_ms(node);
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let Some(broker_epoch) = process.broker_epoch else {
            return;
        };
        if process.is_over || process.heartbeat.is_some() {
            return;
        }
        let request = BrokerHeartbeatRequest {
            node_id: node_id(node),
            broker_epoch,
            metadata_index: process.index as u64,
            wants_fence: false,
            wants_shutdown: process.wish == Wish::Stop,
            offline: by_topic(process.offline()),
            to_rebuild: to_rebuild(&process.unused),
            log_bytes: 0,
            disk_free: 1,
            disk_total: 1,
        };
        let within = self.plan.session_ms / 3;
        let call = self.ask(node, controller, Message::Heartbeat(request), within);
        if let Some(process) = &mut self.nodes[node].process {
            process.heartbeat = Some((call, now_ms));
        }
    }

    pub(crate) fn on_heard(&mut self, envelope: Envelope) {
        let node = envelope.to;
        let Message::Heard(answer) = envelope.body else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let Some((_, sent_ms)) = process
            .heartbeat
            .take_if(|(call, _)| *call == envelope.call)
        else {
            return;
        };
        match answer {
            Ok(answer) => {
                process.may_stop = answer.may_shut_down;
                process.renewal = Some(Renewal { sent_ms, answer });
                self.renew_lease(node);
                self.stop_if_allowed(node);
            }
            Err(ErrorCode::StaleBrokerEpoch | ErrorCode::UnknownNode) => {
                process.is_over = true;
                process.lease_until_ms = 0;
            }
            Err(_) => {}
        }
    }

    /// An answer to a heartbeat counts once the metadata is applied that the controller had.
    fn renew_lease(&mut self, node: usize) {
        let now_ms = self.local_ms(node);
        let session_ms = self.plan.session_ms;
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let index = process.index as u64;
        let Some(renewal) = process
            .renewal
            .take_if(|one| one.answer.metadata_index <= index)
        else {
            return;
        };
        if now_ms.saturating_sub(renewal.sent_ms) > session_ms {
            return;
        }
        if renewal.answer.fenced {
            process.lease_until_ms = 0;
        } else {
            let until = renewal.sent_ms + session_ms * 5 / 6;
            process.lease_until_ms = process.lease_until_ms.max(until);
        }
    }

    /// Whether clients may be answered.
    pub(crate) fn has_lease(&self, node: usize) -> bool {
        let now_ms = self.local_ms(node);
        let process = self.nodes[node].process.as_ref();
        process.is_some_and(|process| now_ms < process.lease_until_ms)
    }

    // ---- the end ----

    /// The process dies; what it had written to files is there.
    pub(crate) fn crash(&mut self, node: usize) {
        if self.nodes[node].process.take().is_some() {
            self.trace.note(self.now, format_args!("{node} dies"));
            self.nodes[node].disk.restart();
            self.come_back(node);
        }
    }

    /// The machine goes off; what was not synced is there in part.
    pub(crate) fn lose_power(&mut self, node: usize) {
        if self.nodes[node].process.take().is_some() {
            self.trace
                .note(self.now, format_args!("{node} loses power"));
            self.nodes[node].disk.crash(&mut self.dice);
            let life = self.nodes[node].life;
            self.oracle.on_power_loss(node, life);
            self.come_back(node);
        }
    }

    fn come_back(&mut self, node: usize) {
        let after = 5 + self.dice.below(self.plan.faults.down_ms);
        self.schedule.at(self.now + after, Event::Start(node));
    }

    /// The broker is told to stop in order.
    pub(crate) fn ask_to_stop(&mut self, node: usize) {
        if let Some(process) = &mut self.nodes[node].process
            && process.broker_epoch.is_some()
            && process.wish == Wish::Serve
        {
            process.wish = Wish::Stop;
            self.trace
                .note(self.now, format_args!("{node} wants to stop"));
            self.plan_timer(node, STOP_MS, Timer::StopAnyway);
        }
    }

    fn stop_if_allowed(&mut self, node: usize) {
        let process = self.nodes[node].process.as_ref();
        if process.is_some_and(|process| process.wish == Wish::Stop && process.may_stop) {
            self.stop_now(node);
        }
    }

    pub(crate) fn stop_now(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        checkpoint_high_watermarks(process);
        process.lease_until_ms = 0;
        let closed = process.engine.close();
        self.trace
            .note(self.now, format_args!("{node} stops: {:?}", closed.is_ok()));
        self.nodes[node].process = None;
        self.nodes[node].disk.restart();
        self.come_back(node);
    }

    /// What waits for the disk is synced by itself after a while, and the high watermarks are kept.
    pub(crate) fn keep_house(&mut self, node: usize) {
        let again = 20 + self.dice.below(150);
        self.plan_timer(node, again, Timer::Housekeeping);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        checkpoint_high_watermarks(process);
        for hosted in process.replicas.values() {
            if let Hosted::Online(replica) = hosted {
                replica.log.request_flush();
            }
        }
        self.use_disk(node);
    }
}

fn process_index(node: &Node) -> usize {
    node.process.as_ref().map_or(0, |process| process.index)
}

fn checkpoint_high_watermarks(process: &mut Process) {
    for hosted in process.replicas.values() {
        if let Hosted::Online(replica) = hosted {
            replica
                .log
                .checkpoint_high_watermark(replica.high_watermark);
        }
    }
}

fn opened(found: OpenedLog) -> Option<Opened> {
    let meta = found.meta?;
    let log = found.result.ok().map(|(log, _)| log);
    Some(Opened { meta, log })
}

/// Partitions that were found and cannot be used.
fn damaged(opened: &[Opened]) -> Vec<Key> {
    let unusable = opened.iter().filter(|one| one.log.is_none());
    unusable
        .map(|one| (one.meta.topic_id, one.meta.partition))
        .collect()
}

fn by_topic(keys: Vec<Key>) -> Vec<PartitionsOfTopic> {
    let mut topics: BTreeMap<TopicId, Vec<PartitionId>> = BTreeMap::new();
    for (topic, partition) in keys {
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter();
    topics
        .map(|(topic_id, partitions)| PartitionsOfTopic {
            topic_id,
            partitions,
        })
        .collect()
}

fn to_rebuild(unused: &BTreeMap<Key, LeaderEpoch>) -> Vec<ReplicaToRebuild> {
    let replicas = unused.iter().map(|(key, leader_epoch)| ReplicaToRebuild {
        topic_id: key.0,
        partition: key.1,
        leader_epoch: *leader_epoch,
    });
    replicas.collect()
}
