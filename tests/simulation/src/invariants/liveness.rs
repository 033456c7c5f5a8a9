//! When everything works again.
//!
//! - R17: no broker stays fenced; every partition has a leader (after an operator has given up what nobody
//!   has); all replicas are in sync; no proposal is left open.
//! - R18: every move has ended.
//! - R19: every batch of a producer that waits for all is acknowledged.
//! - R3: the logs of all replicas are the same, byte for byte, and committed to their end.
//! - R1: everything that was ever acknowledged can be read, at the offset that was told.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use highwater_protocol::ids::{NodeId, Offset};
use highwater_storage::Log;

use super::Oracle;
use crate::cluster::{Cluster, partitions};
use crate::message::Key;
use crate::node::{Hosted, number_of};
use crate::reconcile::Name;

impl Cluster {
    /// Whether everything has come together.
    pub(crate) fn has_converged(&mut self) -> bool {
        self.give_up_what_is_lost();
        let image = Arc::clone(self.quorum.image());
        let all_active = image.brokers().all(|(_, broker)| broker.is_active());
        all_active
            && self.all_acknowledged()
            && partitions(&image).into_iter().all(|(key, topic, index)| {
                let partition = &topic.partitions[index];
                let isr: BTreeSet<NodeId> = partition.isr.iter().copied().collect();
                let replicas: BTreeSet<NodeId> = partition.replicas.iter().copied().collect();
                partition.leader.is_some()
                    && !partition.is_moving()
                    && isr == replicas
                    && self.agree(key, &partition.replicas)
            })
    }

    fn agree(&self, key: Key, replicas: &[NodeId]) -> bool {
        let mut ends = BTreeSet::new();
        for node in replicas {
            let Some(process) = &self.nodes[number_of(*node)].process else {
                return false;
            };
            let Some(Hosted::Online(replica)) = process.replicas.get(&key) else {
                return false;
            };
            if replica.is_offline()
                || process.altering.is_some()
                || replica.high_watermark != replica.log.end()
            {
                return false;
            }
            ends.insert(replica.log.end());
        }
        ends.len() == 1
    }

    /// Compares the bytes of all logs, and looks for everything that was acknowledged.
    pub(crate) fn check_converged(&mut self) {
        let image = Arc::clone(self.quorum.image());
        for (key, topic, index) in partitions(&image) {
            let mut logs = Vec::new();
            for node in &topic.partitions[index].replicas {
                let process = self.nodes[number_of(*node)].process.as_ref();
                let hosted = process.and_then(|process| process.replicas.get(&key));
                if let Some(Hosted::Online(replica)) = hosted {
                    logs.push((*node, Arc::clone(&replica.log)));
                }
            }
            let from = logs.iter().map(|(_, log)| log.log_start()).max();
            let from = from.unwrap_or(Offset::ZERO);
            let mut first: Option<(NodeId, Vec<u8>)> = None;
            for (node, log) in &logs {
                let bytes = match read_bytes(log, from) {
                    Ok(bytes) => bytes,
                    Err(error) => return self.oracle.broken("R3", error),
                };
                match &first {
                    None => first = Some((*node, bytes)),
                    Some((other, same)) if *same != bytes => {
                        let what =
                            format!("the logs of {} at {other} and {node} differ", Name(key));
                        return self.oracle.broken("R3", what);
                    }
                    Some(_) => {}
                }
            }
            let leader = Self::leader_in(&image, key);
            if let Some(leader) = leader {
                self.oracle.check_acknowledged(leader, key);
            }
        }
    }

    /// How it stands, in a few words.
    pub(crate) fn describe(&self) -> String {
        let image = self.quorum.image();
        let mut text = String::new();
        for (node, broker) in image.brokers() {
            let machine = &self.nodes[number_of(node)];
            let process = machine.process.as_ref();
            let _ = write!(
                text,
                "{node}: up {} fenced {} stopping {} registered {:?} index {:?} of {}; ",
                process.is_some(),
                broker.fenced,
                broker.shutting_down,
                machine.broker_epoch(),
                process.map(|process| process.index),
                self.quorum.index()
            );
        }
        for (key, topic, index) in partitions(image) {
            let partition = &topic.partitions[index];
            let _ = write!(text, "{}: {partition:?} min {}; ", Name(key), topic.isr_min);
            for node in &partition.replicas {
                let process = self.nodes[number_of(*node)].process.as_ref();
                match process.and_then(|process| process.replicas.get(&key)) {
                    Some(Hosted::Online(replica)) => {
                        let _ = write!(
                            text,
                            "{node} {:?} hw {} {:?} aside {:?}; ",
                            replica.log, replica.high_watermark, replica.role, replica.put_aside
                        );
                    }
                    other => {
                        let _ = write!(
                            text,
                            "{node} {}; ",
                            if other.is_some() { "offline" } else { "none" }
                        );
                    }
                }
            }
        }
        let _ = write!(text, "all acknowledged: {}", self.all_acknowledged());
        text
    }
}

impl Oracle {
    /// Everything that was acknowledged is in the leader's log where it was told to be.
    fn check_acknowledged(&mut self, leader: usize, key: Key) {
        let Some(truth) = self.truths.get(&key) else {
            return;
        };
        let Some(shadow) = self.shadows.get(&(leader, key)) else {
            return;
        };
        if truth.is_unclean {
            return;
        }
        let lost = truth.acknowledged.iter().find(|((id, sequence), offset)| {
            let has = |fact: &super::Fact| {
                fact.producer
                    .is_some_and(|(of, first, _)| (of, first) == (*id, *sequence))
            };
            match offset {
                Some(offset) if offset.get() < shadow.start => false,
                Some(offset) => !shadow.starting_at(offset.get()).is_some_and(has),
                None => shadow.start == 0 && !shadow.batches.iter().any(has),
            }
        });
        if let Some(((id, sequence), offset)) = lost {
            let what = format!(
                "{} {sequence} of {id} was acknowledged at {offset:?} and is gone",
                Name(key)
            );
            self.broken("R1", what);
        }
    }
}

fn read_bytes(log: &Log, from: Offset) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut at = from;
    while at < log.end() {
        let slice = log
            .read(at, log.end(), 1 << 20)
            .map_err(|error| format!("{log:?} cannot be read at {at}: {error}"))?;
        if slice.next <= at {
            return Err(format!("{log:?} has nothing at {at}"));
        }
        bytes.extend_from_slice(&slice.records);
        at = slice.next;
    }
    Ok(bytes)
}
