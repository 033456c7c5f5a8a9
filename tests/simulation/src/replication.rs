//! Between a leader and its followers, and between a leader and the controller: what
//! `broker/src/replica_fetcher/`, `broker/src/api/fetch/follower.rs` and `broker/src/isr_proposer.rs` do,
//! in order; and the disk.

use std::collections::BTreeMap;

use highwater_coordination::partition_leader::{AlterOutcome, FollowerFetch, PartitionLeader};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Timestamp, TopicId};
use highwater_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, AlterPartitionTopic, IsrProposal,
};

use crate::cluster::Cluster;
use crate::message::{Envelope, Key, Message};
use crate::node::{Altering, Fetching, Hosted, node_id, number_of};
use crate::schedule::Timer;

/// A fetch that is not answered is given up after this long, in ms.
const FETCH_MS: u64 = 120;
/// A leader that has nothing new waits up to this long for it, in ms.
const LONG_POLL_MS: u64 = 30;
/// Proposals that are not answered are asked again after this long, in ms.
const ALTER_MS: u64 = 80;

impl Cluster {
    // ---- following ----

    /// Fetches everything that is followed at a leader.
    pub(crate) fn fetch(&mut self, node: usize, leader: usize) {
        let wants = self.wants(node, leader, false);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if wants.is_empty() || process.fetching.contains_key(&leader) {
            return;
        }
        let mut asked = Vec::with_capacity(wants.len());
        for (key, _) in &wants {
            if let Some((ask, _)) = process.online(*key).and_then(|replica| replica.ask()) {
                asked.push((*key, ask));
            }
        }
        let call = self.ask(node, leader, Message::Fetch { wants }, FETCH_MS);
        if let Some(process) = &mut self.nodes[node].process {
            process.fetching.insert(leader, Fetching { call, asked });
        }
    }

    /// What is told of every log that is followed at a leader.
    fn wants(&mut self, node: usize, leader: usize, is_report: bool) -> Vec<(Key, FollowerFetch)> {
        let Some(process) = &self.nodes[node].process else {
            return Vec::new();
        };
        let Some(broker_epoch) = process.broker_epoch else {
            return Vec::new();
        };
        let mut wants = Vec::new();
        for (key, hosted) in &process.replicas {
            let Hosted::Online(replica) = hosted else {
                continue;
            };
            let Some((ask, durable_end)) = replica.ask() else {
                continue;
            };
            if number_of(ask.leader) != leader {
                continue;
            }
            let fetch = FollowerFetch {
                follower: node_id(node),
                broker_epoch,
                leader_epoch: ask.epoch,
                offset: ask.position.log_end,
                last_epoch: ask.position.last_epoch,
                durable_end,
                is_report,
            };
            wants.push((*key, fetch));
        }
        for (key, fetch) in &wants {
            self.oracle.on_told(node, *key, fetch);
        }
        wants
    }

    pub(crate) fn on_fetched(&mut self, envelope: Envelope) {
        let (node, leader) = (envelope.to, envelope.from);
        let Message::Fetched { results } = envelope.body else {
            return;
        };
        let now = self.wall(node);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if process
            .fetching
            .get(&leader)
            .is_none_or(|one| one.call != envelope.call)
        {
            return;
        }
        let Some(fetching) = process.fetching.remove(&leader) else {
            return;
        };
        let mut is_new = false;
        for (key, result) in results {
            let Some((_, ask)) = fetching.asked.iter().find(|(asked, _)| *asked == key) else {
                continue;
            };
            let Some(replica) = process.online(key) else {
                continue;
            };
            let followed = replica.on_followed(ask, &result, now);
            self.trace.note(
                self.now,
                format_args!(
                    "{node} {} {:?} {followed:?} end {}",
                    crate::reconcile::Name(key),
                    result.error,
                    replica.log.end()
                ),
            );
            is_new |= matches!(
                followed,
                crate::replica::Followed::Took { records: true } | crate::replica::Followed::Cut
            );
            self.touched.push((node, key));
        }
        self.use_disk(node);
        let again = if is_new { 1 } else { 3 + self.dice.below(10) };
        self.plan_timer(node, again, Timer::Fetch(leader));
    }

    // ---- leading ----

    /// A follower fetches. With nothing new for it, it waits here once.
    pub(crate) fn on_fetch(&mut self, envelope: Envelope, is_first: bool) {
        let node = envelope.to;
        let now = self.nodes[node].clock.moment(self.now);
        let bytes_max = 200 + self.dice.below(4000) as usize;
        let Message::Fetch { wants } = &envelope.body else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let mut results = Vec::with_capacity(wants.len());
        let mut is_report = false;
        for (key, fetch) in wants {
            is_report = fetch.is_report;
            if let Some(replica) = process.online(*key).filter(|replica| !replica.is_offline()) {
                let result = replica.on_fetch(key.1, fetch, is_first, bytes_max, now);
                results.push((*key, result));
                self.touched.push((node, *key));
            }
        }
        for (key, _) in &results {
            self.announce_proposal(node, *key);
        }
        if is_report {
            return;
        }
        let is_empty = results.iter().all(|(_, result)| {
            result.error == ErrorCode::None
                && result.diverging.is_none()
                && result.records.is_empty()
        });
        if is_first && is_empty && self.dice.one_in(2) {
            let wait = 1 + self.dice.below(LONG_POLL_MS);
            self.plan_timer(node, wait, Timer::Parked(envelope));
            return;
        }
        self.answer(
            node,
            envelope.from,
            envelope.from_life,
            envelope.call,
            Message::Fetched { results },
        );
    }

    pub(crate) fn tick_isr(&mut self, node: usize) {
        self.plan_timer(node, 1 + self.plan.lag_ms / 4, Timer::IsrTick);
        let now = self.nodes[node].clock.moment(self.now);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let mut ticked = Vec::new();
        for (key, hosted) in &mut process.replicas {
            if let Hosted::Online(replica) = hosted
                && let Some(leader) = replica.leader_mut()
                && leader.has_followers()
            {
                leader.on_tick(now);
                replica.publish();
                ticked.push(*key);
            }
        }
        for key in ticked {
            self.touched.push((node, key));
            self.announce_proposal(node, key);
        }
    }

    /// If the leader of a partition has something to propose, it is sent soon.
    pub(crate) fn announce_proposal(&mut self, node: usize, key: Key) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let proposes = process
            .online(key)
            .and_then(|replica| replica.leader())
            .is_some_and(PartitionLeader::has_proposal);
        if proposes && process.proposals.insert(key) {
            self.plan_timer(node, 1, Timer::Propose);
        }
    }

    /// Sends what there is to propose; one request is on its way at a time.
    pub(crate) fn propose(&mut self, node: usize) {
        let controller = self.believed_controller(node);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let Some(broker_epoch) = process.broker_epoch else {
            return;
        };
        if process.altering.is_some() {
            return;
        }
        let mut sent = Vec::new();
        for key in std::mem::take(&mut process.proposals) {
            let leader = process.online(key).and_then(|replica| replica.leader_mut());
            if let Some(proposal) = leader.and_then(|leader| leader.take_proposal(key.1)) {
                sent.push((key, proposal));
            }
        }
        if sent.is_empty() {
            return;
        }
        for (key, proposal) in &sent {
            self.trace.note(
                self.now,
                format_args!(
                    "{node} proposes for {} {:?} at {}",
                    crate::reconcile::Name(*key),
                    proposal
                        .isr
                        .iter()
                        .map(|one| one.node_id.get())
                        .collect::<Vec<_>>(),
                    proposal.partition_epoch
                ),
            );
            self.oracle.on_proposed(*key, proposal);
        }
        let request = AlterPartitionRequest {
            node_id: node_id(node),
            broker_epoch,
            topics: by_topic(&sent),
        };
        let call = self.ask(node, controller, Message::Alter(request.clone()), ALTER_MS);
        if let Some(process) = &mut self.nodes[node].process {
            process.altering = Some(Altering {
                call,
                request,
                sent,
            });
        }
    }

    pub(crate) fn on_altered(&mut self, envelope: Envelope) {
        let node = envelope.to;
        let Message::Altered(answer) = envelope.body else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let Some(altering) = process.altering.take_if(|one| one.call == envelope.call) else {
            return;
        };
        self.resolve(node, altering, answer.ok().as_ref());
    }

    fn resolve(
        &mut self,
        node: usize,
        altering: Altering,
        answer: Option<&AlterPartitionResponse>,
    ) {
        let now = self.nodes[node].clock.moment(self.now);
        for (key, proposal) in altering.sent {
            let decision = answer.and_then(|answer| {
                let topic = answer.topics.iter().find(|topic| topic.topic_id == key.0)?;
                topic.partitions.iter().find(|one| one.partition == key.1)
            });
            let outcome = decision.map_or(AlterOutcome::Unknown, AlterOutcome::of);
            self.trace.note(
                self.now,
                format_args!(
                    "{node} hears for {} {outcome:?}",
                    crate::reconcile::Name(key)
                ),
            );
            let Some(process) = &mut self.nodes[node].process else {
                return;
            };
            if let Some(replica) = process.online(key)
                && let Some(leader) = replica.leader_mut()
            {
                leader.on_alter_outcome(&proposal, outcome, now);
                replica.publish();
                self.touched.push((node, key));
            }
            self.announce_proposal(node, key);
        }
        self.plan_timer(node, 1, Timer::Propose);
    }

    /// An answer did not come in time.
    pub(crate) fn on_overdue(&mut self, node: usize, call: u64) {
        let controller = self.believed_controller(node);
        let asks_again = self.dice.one_in(2);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        process
            .heartbeat
            .take_if(|(waits_for, _)| *waits_for == call);
        if process.registered_at.is_none()
            && process
                .registering
                .as_ref()
                .is_some_and(|(waits_for, _)| *waits_for == call)
        {
            self.plan_timer(node, 1, Timer::Register);
            return;
        }
        let leader = process.fetching.iter().find(|(_, one)| one.call == call);
        if let Some((leader, _)) = leader {
            let leader = *leader;
            process.fetching.remove(&leader);
            self.plan_timer(node, 5, Timer::Fetch(leader));
            return;
        }
        let Some(altering) = process.altering.take_if(|one| one.call == call) else {
            return;
        };
        if asks_again {
            // The same request once more, within the same call.
            let request = altering.request.clone();
            let call = self.ask(node, controller, Message::Alter(request), ALTER_MS);
            if let Some(process) = &mut self.nodes[node].process {
                process.altering = Some(Altering { call, ..altering });
            }
        } else {
            self.resolve(node, altering, None);
        }
    }

    // ---- the disk ----

    /// What was asked of the disk is done after a while.
    pub(crate) fn use_disk(&mut self, node: usize) {
        let wait = 1 + self.dice.below(if self.is_faulty {
            self.plan.faults.sync_ms
        } else {
            3
        });
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if !process.is_disk_busy {
            process.is_disk_busy = true;
            self.plan_timer(node, wait, Timer::Disk);
        }
    }

    pub(crate) fn disk_done(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        process.is_disk_busy = false;
        process.engine.run_pending();
        let mut leaders = Vec::new();
        let mut moved = Vec::new();
        for (key, hosted) in &mut process.replicas {
            if let Hosted::Online(replica) = hosted {
                let reports = replica.look_at_disk();
                moved.push(*key);
                if reports && let Some((ask, _)) = replica.ask() {
                    leaders.push(number_of(ask.leader));
                }
            }
        }
        for key in moved {
            self.touched.push((node, key));
        }
        leaders.sort_unstable();
        leaders.dedup();
        for leader in leaders {
            // Beside the fetch that waits for records, and nobody waits for the answer.
            let wants = self.wants(node, leader, true);
            let call = self.next_call();
            self.ask_again(node, leader, call, Message::Fetch { wants });
        }
    }

    /// The time that records are stamped with.
    pub(crate) fn wall(&self, node: usize) -> Timestamp {
        Timestamp::from_millis(self.local_ms(node) as i64)
    }
}

fn by_topic(sent: &[(Key, IsrProposal)]) -> Vec<AlterPartitionTopic> {
    let mut topics: BTreeMap<TopicId, Vec<IsrProposal>> = BTreeMap::new();
    for (key, proposal) in sent {
        topics.entry(key.0).or_default().push(proposal.clone());
    }
    let topics = topics.into_iter();
    topics
        .map(|(topic_id, partitions)| AlterPartitionTopic {
            topic_id,
            partitions,
        })
        .collect()
}
