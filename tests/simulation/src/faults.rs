//! What goes wrong, and how all of it is mended.

use highwater_coordination::partition_leader::PartitionLeader;
use highwater_protocol::ids::NodeId;

use crate::cluster::{Cluster, partitions, topic_name};
use crate::message::{CLIENTS, Key};
use crate::node::{Hosted, Operation, node_id, number_of};
use crate::schedule::{Event, Fault};

impl Cluster {
    pub(crate) fn begin_faults(&mut self) {
        for fault in [
            Fault::Crash,
            Fault::Power,
            Fault::Outage,
            Fault::Pause,
            Fault::Cut,
            Fault::Controller,
            Fault::Move,
            Fault::Minimum,
            Fault::Election,
            Fault::Stop,
            Fault::SyncFailure,
            Fault::Trim,
        ] {
            self.plan_fault(fault);
        }
    }

    fn plan_fault(&mut self, fault: Fault) {
        let every = self.every(fault);
        if every > 0 {
            let after = 1 + self.dice.below(2 * every);
            self.schedule.at(self.now + after, Event::Fault(fault));
        }
    }

    fn every(&self, fault: Fault) -> u64 {
        let faults = &self.plan.faults;
        match fault {
            Fault::Crash => faults.crash_every,
            Fault::Power => faults.power_every,
            Fault::Outage => faults.outage_every,
            Fault::Pause => faults.pause_every,
            Fault::Cut => faults.cut_every,
            Fault::Controller => faults.controller_every,
            Fault::Move => faults.move_every,
            Fault::Minimum => faults.minimum_every,
            Fault::Election => faults.election_every,
            Fault::Stop => faults.stop_every,
            Fault::SyncFailure => faults.sync_failure_every,
            Fault::Trim => faults.trim_every,
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        if !self.is_faulty {
            return;
        }
        self.plan_fault(fault);
        let node = self.dice.below(self.nodes.len() as u64) as usize;
        match fault {
            Fault::Crash => self.crash(node),
            Fault::Power => self.strike_power(node),
            Fault::Outage => {
                for node in 0..self.nodes.len() {
                    if !self.dice.one_in(4) {
                        self.lose_power(node);
                    }
                }
            }
            Fault::Pause => {
                let length = 10 + self.dice.below(3 * self.plan.session_ms);
                self.nodes[node].paused_until = self.now + length;
                self.trace
                    .note(self.now, format_args!("{node} stands still for {length}"));
            }
            Fault::Cut => self.strike_links(node),
            Fault::Controller => {
                self.trace
                    .note(self.now, format_args!("the controller is deposed"));
                self.depose();
            }
            Fault::Move => self.strike_move(node),
            Fault::Minimum => {
                let topic = self.dice.below(self.plan.topics.len() as u64) as usize;
                let replicas = u64::from(self.plan.topics[topic].replicas);
                let isr_min = 1 + self.dice.below(replicas) as u16;
                let topic = topic_name(topic);
                self.operate(Operation::Minimum { topic, isr_min });
            }
            Fault::Election => {
                if let Some(key) = self.some_partition() {
                    let node = node_id(node);
                    self.operate(Operation::Elect { key, node });
                }
            }
            Fault::Stop => self.ask_to_stop(node),
            Fault::SyncFailure => {
                let after = self.dice.below(4);
                if self.nodes[node].is_up() {
                    self.trace
                        .note(self.now, format_args!("a sync of {node} fails soon"));
                    self.nodes[node].disk.fail_sync_after(after);
                }
            }
            Fault::Trim => self.strike_trim(node),
        }
    }

    /// At once, or in the middle of what the disk does next.
    fn strike_power(&mut self, node: usize) {
        if self.dice.one_in(2) {
            self.lose_power(node);
            return;
        }
        let operations = self.nodes[node].disk.operations() + 1 + self.dice.below(20);
        if let Some(process) = &mut self.nodes[node].process {
            process.power_ends_at = Some(operations);
            self.nodes[node].disk.lose_power_at(operations);
        }
    }

    fn strike_links(&mut self, node: usize) {
        let ends = self.nodes.len();
        let other = self.dice.below(ends as u64) as usize;
        let mut links = Vec::new();
        let direction = self.dice.below(3);
        let mut cut = |one: usize, other: usize| {
            if one != other && direction != 1 {
                links.push((one, other));
            }
            if one != other && direction != 2 {
                links.push((other, one));
            }
        };
        match self.dice.below(4) {
            // One pair.
            0 => cut(node, other),
            // One from all brokers.
            1 => (0..ends).for_each(|other| cut(node, other)),
            // One from all brokers and clients.
            2 => {
                (0..ends).for_each(|other| cut(node, other));
                (0..self.clients.len()).for_each(|client| cut(node, CLIENTS + client));
            }
            // Two halves.
            _ => {
                for one in 0..ends {
                    for other in 0..ends {
                        if (one + node).is_multiple_of(2) && !(other + node).is_multiple_of(2) {
                            cut(one, other);
                        }
                    }
                }
            }
        }
        let length = 20 + self.dice.below(4 * self.plan.session_ms);
        self.trace
            .note(self.now, format_args!("cut for {length}: {links:?}"));
        let number = self.network.cut(links);
        self.schedule.at(self.now + length, Event::Mend(number));
    }

    fn some_partition(&mut self) -> Option<Key> {
        let image = std::sync::Arc::clone(self.quorum.image());
        let all = partitions(&image);
        if all.is_empty() {
            return None;
        }
        let at = self.dice.below(all.len() as u64) as usize;
        Some(all[at].0)
    }

    fn strike_move(&mut self, node: usize) {
        if self.dice.one_in(6) {
            let drain = self.dice.one_in(2);
            self.operate(Operation::Drain {
                node: node_id(node),
                drain,
            });
            return;
        }
        let Some(key) = self.some_partition() else {
            return;
        };
        let image = std::sync::Arc::clone(self.quorum.image());
        let partition = image
            .topic_by_id(key.0)
            .and_then(|topic| topic.partition(key.1));
        let Some(partition) = partition else { return };
        let target = if partition.is_moving() && self.dice.one_in(2) {
            None
        } else {
            let mut nodes: Vec<NodeId> = (0..self.nodes.len()).map(node_id).collect();
            for at in (1..nodes.len()).rev() {
                nodes.swap(at, self.dice.below(at as u64 + 1) as usize);
            }
            nodes.truncate(partition.target().len());
            Some(nodes)
        };
        self.trace.note(
            self.now,
            format_args!("move {} to {target:?}", crate::reconcile::Name(key)),
        );
        self.operate(Operation::Move { key, target });
    }

    /// A leader deletes old records, below its high watermark.
    fn strike_trim(&mut self, node: usize) {
        let share = self.dice.below(100);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let mut trimmed = Vec::new();
        for (key, hosted) in &mut process.replicas {
            if let Hosted::Online(replica) = hosted
                && !replica.is_offline()
                && replica
                    .leader()
                    .is_some_and(PartitionLeader::high_watermark_is_known)
            {
                let (start, end) = (replica.log.log_start().get(), replica.high_watermark.get());
                let to = start + (end - start.min(end)) * share / 100;
                if replica
                    .log
                    .trim_prefix(highwater_protocol::ids::Offset::new(to))
                    .is_ok()
                {
                    trimmed.push(*key);
                }
            }
        }
        for key in trimmed {
            self.oracle.on_trimmed(key);
            self.touched.push((node, key));
        }
    }

    /// Everything works from now on.
    pub(crate) fn heal(&mut self) {
        self.trace.note(self.now, format_args!("faults are over"));
        self.network.mend_all();
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until = 0;
            self.operate(Operation::Drain {
                node: node_id(node),
                drain: false,
            });
            let was_doomed = self.nodes[node]
                .process
                .as_ref()
                .is_some_and(|process| process.power_ends_at.is_some());
            if was_doomed {
                self.lose_power(node);
            }
            self.nodes[node].disk.fail_sync_after(u64::MAX);
            // An operator starts brokers anew whose logs are offline.
            let has_offline = self.nodes[node]
                .process
                .as_ref()
                .is_some_and(|process| !process.offline().is_empty());
            if has_offline {
                self.crash(node);
            }
            if !self.nodes[node].is_up() {
                self.schedule.at(self.now + 5, Event::Start(node));
            }
        }
    }

    /// Does what an operator does in the end: partitions of which nobody has everything are given up, and
    /// replicas that were put aside because of what happened then are begun anew by the next start.
    pub(crate) fn give_up_what_is_lost(&mut self) {
        let image = std::sync::Arc::clone(self.quorum.image());
        for (key, topic, index) in partitions(&image) {
            let partition = &topic.partitions[index];
            let candidates = partition.isr.iter().chain(&partition.elr);
            if partition.leader.is_none() && candidates.count() == 0 {
                let waits_for = partition
                    .replicas
                    .iter()
                    .any(|node| !self.nodes[number_of(*node)].is_up());
                if !waits_for {
                    self.operate(Operation::Unclean { key });
                }
            }
        }
    }
}
