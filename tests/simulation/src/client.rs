//! Clients: idempotent producers that retry until they are told that a batch is safe, and readers. And
//! what a leader does for them.

use std::collections::VecDeque;

use bytes::Bytes;
use highwater_coordination::partition_leader::AckState;
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use highwater_protocol::messages::Acks;
use highwater_protocol::record_batch::{Batches, ProducerStamp};

use crate::cluster::{Cluster, partitions};
use crate::message::{CLIENTS, Envelope, Key, Message};
use crate::replica::Waiting;
use crate::schedule::Event;

/// Batches that a producer has under way in one partition.
const IN_FLIGHT: usize = 4;
/// A client that hears nothing asks again after this long, in ms.
const PATIENCE_MS: u64 = 250;

/// A batch that is not known to be safe.
#[derive(Debug, Clone)]
struct Unacked {
    sequence: u32,
    batch: Bytes,
    /// The call that is under way, and since when.
    call: Option<(u64, u64)>,
}

/// What a producer does in one partition.
#[derive(Debug)]
pub(crate) struct Lane {
    key: Key,
    next_sequence: u32,
    /// A first batch is safe: until then there is one at a time, because a log takes any first one.
    has_begun: bool,
    unacked: VecDeque<Unacked>,
}

/// A client.
#[derive(Debug)]
pub(crate) enum Client {
    Producer {
        id: ProducerId,
        lanes: Vec<Lane>,
        acks: Acks,
    },
    Reader {
        key: Key,
        position: Offset,
        call: Option<(u64, u64)>,
    },
}

impl Cluster {
    pub(crate) fn begin_clients(&mut self) {
        let image = std::sync::Arc::clone(self.quorum.image());
        let keys: Vec<Key> = partitions(&image)
            .into_iter()
            .map(|(key, ..)| key)
            .collect();
        for number in 0..self.plan.producers {
            let lanes = keys.iter().map(|key| Lane {
                key: *key,
                next_sequence: 0,
                has_begun: false,
                unacked: VecDeque::new(),
            });
            let id = ProducerId::new(number as u64 + 1);
            // The first waits for everybody; some others only for the leader.
            let acks = if number > 0 && self.dice.one_in(4) {
                Acks::Leader
            } else {
                Acks::All
            };
            self.clients.push(Client::Producer {
                id,
                lanes: lanes.collect(),
                acks,
            });
        }
        for _ in 0..self.plan.readers {
            let key = keys[self.dice.below(keys.len() as u64) as usize];
            self.clients.push(Client::Reader {
                key,
                position: Offset::ZERO,
                call: None,
            });
        }
        for number in 0..self.clients.len() {
            self.schedule
                .at(self.now + 1 + number as u64, Event::Client(number));
        }
    }

    /// Whom a client takes for the leader: what some broker last knew.
    fn leader_for_client(&mut self, key: Key) -> Option<usize> {
        let some = self.dice.below(self.nodes.len() as u64) as usize;
        let image = match &self.nodes[some].process {
            Some(process) => std::sync::Arc::clone(&process.image),
            None => std::sync::Arc::clone(self.quorum.image()),
        };
        Self::leader_in(&image, key)
    }

    pub(crate) fn client_acts(&mut self, number: usize) {
        let pause = match self.clients[number] {
            Client::Producer { .. } => 1 + self.dice.below(self.plan.produce_pause_ms),
            Client::Reader { .. } => 10 + self.dice.below(60),
        };
        self.schedule.at(self.now + pause, Event::Client(number));
        match &self.clients[number] {
            Client::Producer { lanes, .. } => {
                let lane = self.dice.below(lanes.len() as u64) as usize;
                self.produce(number, lane);
            }
            Client::Reader { .. } => self.read(number),
        }
    }

    /// Sends what is to be sent, in order; a new batch if there is room and faults are not over.
    fn produce(&mut self, number: usize, lane: usize) {
        let records = 1 + self.dice.below(3);
        let bytes = 10 + self.dice.below(500);
        let is_healing = self.is_healing;
        let now = self.now;
        let mut to_send = Vec::new();
        let (key, acks) = {
            let Client::Producer { id, lanes, acks } = &mut self.clients[number] else {
                return;
            };
            let lane = &mut lanes[lane];
            let most = if lane.has_begun { IN_FLIGHT } else { 1 };
            if lane.unacked.len() < most && !is_healing {
                let batch = new_batch(*id, lane.next_sequence, records, bytes);
                lane.unacked.push_back(Unacked {
                    sequence: lane.next_sequence,
                    batch,
                    call: None,
                });
                lane.next_sequence += records as u32;
            }
            for one in &mut lane.unacked {
                if one.call.is_none_or(|(_, since)| now - since > PATIENCE_MS) {
                    one.call = None;
                    to_send.push((one.sequence, one.batch.clone()));
                }
            }
            (lane.key, *acks)
        };
        if to_send.is_empty() {
            return;
        }
        let Some(leader) = self.leader_for_client(key) else {
            return;
        };
        for (sequence, batch) in to_send {
            let call = self.next_call();
            if let Client::Producer { lanes, .. } = &mut self.clients[number]
                && let Some(one) = lanes[lane]
                    .unacked
                    .iter_mut()
                    .find(|one| one.sequence == sequence)
            {
                one.call = Some((call, now));
            }
            self.ask_again(
                CLIENTS + number,
                leader,
                call,
                Message::Produce { key, acks, batch },
            );
        }
    }

    fn read(&mut self, number: usize) {
        let begins_anew = self.dice.one_in(10);
        let now = self.now;
        let Client::Reader {
            key,
            position,
            call,
        } = &mut self.clients[number]
        else {
            return;
        };
        if call.is_some_and(|(_, since)| now - since <= PATIENCE_MS) {
            return;
        }
        if begins_anew {
            *position = Offset::ZERO;
        }
        let (key, offset) = (*key, *position);
        let Some(leader) = self.leader_for_client(key) else {
            return;
        };
        let call = self.next_call();
        if let Client::Reader {
            call: waits_for, ..
        } = &mut self.clients[number]
        {
            *waits_for = Some((call, now));
        }
        self.ask_again(
            CLIENTS + number,
            leader,
            call,
            Message::Read { key, offset },
        );
    }

    pub(crate) fn client_hears(&mut self, envelope: Envelope) {
        let number = envelope.to - CLIENTS;
        match (&mut self.clients[number], envelope.body) {
            (Client::Producer { id, lanes, acks }, Message::Produced(answer)) => {
                for lane in lanes {
                    let found = lane
                        .unacked
                        .iter()
                        .position(|one| one.call.is_some_and(|(call, _)| call == envelope.call));
                    let Some(at) = found else { continue };
                    match answer {
                        Ok(offset) => {
                            lane.has_begun = true;
                            let done = lane.unacked.remove(at);
                            if let Some(done) = done
                                && *acks == Acks::All
                            {
                                self.oracle
                                    .on_acknowledged(lane.key, *id, done.sequence, offset);
                            }
                        }
                        // It goes again, and what is behind it.
                        Err(_) => {
                            for one in lane.unacked.range_mut(at..) {
                                one.call = None;
                            }
                        }
                    }
                }
            }
            (Client::Reader { position, call, .. }, Message::Records(answer))
                if call.is_some_and(|(waits_for, _)| waits_for == envelope.call) =>
            {
                *call = None;
                match answer {
                    Ok((records, start)) => {
                        *position = (*position).max(start);
                        for (header, _) in Batches::new(&records).flatten() {
                            *position = (*position).max(header.next_offset());
                        }
                    }
                    Err(ErrorCode::OffsetOutOfRange) => *position = Offset::ZERO,
                    Err(_) => {}
                }
            }
            _ => {}
        }
    }

    // ---- what a leader does for them ----

    pub(crate) fn on_produce(&mut self, envelope: Envelope) {
        let node = envelope.to;
        let now = self.wall(node);
        let Envelope {
            from,
            call,
            body: Message::Produce { key, acks, batch },
            ..
        } = envelope
        else {
            return;
        };
        let known = self.oracle.verdict(node, key, &batch);
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let outcome = match process.online(key) {
            Some(replica) if !replica.is_offline() => replica.append(&batch, acks, now),
            _ => Err(ErrorCode::NotLeader),
        };
        self.touched.push((node, key));
        match outcome {
            Err(code) => {
                self.oracle.on_verdict(key, &batch, known, Err(code));
                self.answer(node, from, 0, call, Message::Produced(Err(code)));
            }
            Ok((appended, when, epoch)) => {
                self.oracle.on_verdict(key, &batch, known, Ok(appended));
                let waiting = Waiting {
                    client: from,
                    call,
                    epoch,
                    when,
                    base_offset: appended.base_offset(),
                    end_offset: appended.end_offset(),
                    acks,
                };
                if let Some(replica) = self.nodes[node]
                    .process
                    .as_mut()
                    .and_then(|one| one.online(key))
                {
                    replica.waiting.push(waiting);
                }
                self.use_disk(node);
            }
        }
    }

    /// Answers whoever waited here for what has happened.
    pub(crate) fn acknowledge(&mut self, node: usize, key: Key) {
        let has_lease = self.has_lease(node);
        let Some(replica) = self.nodes[node]
            .process
            .as_mut()
            .and_then(|one| one.online(key))
        else {
            return;
        };
        let mut answers = Vec::new();
        for waiting in std::mem::take(&mut replica.waiting) {
            let answer = match replica.ack_state(waiting.epoch, waiting.when) {
                None => Err(ErrorCode::NotLeader),
                Some(AckState::Waiting) => {
                    replica.waiting.push(waiting);
                    continue;
                }
                Some(AckState::NotEnoughReplicas) => Err(ErrorCode::NotEnoughReplicasAfterAppend),
                // The lease is looked at last.
                Some(AckState::Done) if !has_lease => Err(ErrorCode::NotLeader),
                Some(AckState::Done) => Ok(waiting.base_offset),
            };
            answers.push((waiting, answer));
        }
        let high_watermark = replica.high_watermark;
        for (waiting, answer) in answers {
            if answer.is_ok() && waiting.acks == Acks::All {
                self.oracle.on_ack(key, &waiting, high_watermark);
            }
            self.answer(
                node,
                waiting.client,
                0,
                waiting.call,
                Message::Produced(answer),
            );
        }
    }

    pub(crate) fn on_read(&mut self, envelope: &Envelope) {
        let node = envelope.to;
        let bytes_max = 200 + self.dice.below(2000) as usize;
        let Message::Read { key, offset } = envelope.body else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let answer = match process.online(key) {
            Some(replica) if replica.leader().is_some() && !replica.is_offline() => {
                let bound = replica.high_watermark;
                let start = replica.log.log_start();
                if offset < start {
                    Err(ErrorCode::OffsetOutOfRange)
                } else if offset > bound {
                    Err(ErrorCode::OffsetNotAvailable)
                } else {
                    match replica.log.read(offset, bound, bytes_max) {
                        Ok(slice) => Ok((Bytes::copy_from_slice(&slice.records), start)),
                        Err(_) => Err(ErrorCode::PartitionOffline),
                    }
                }
            }
            _ => Err(ErrorCode::NotLeader),
        };
        // After the read and before the answer.
        let answer = if self.has_lease(node) {
            answer
        } else {
            Err(ErrorCode::NotLeader)
        };
        if let Ok((records, _)) = &answer {
            self.oracle.on_shown(key, records);
        }
        self.answer(
            node,
            envelope.from,
            0,
            envelope.call,
            Message::Records(answer),
        );
    }

    /// Whether producers know of all their batches that they are safe.
    pub(crate) fn all_acknowledged(&self) -> bool {
        self.clients.iter().all(|client| match client {
            // What only its leader had may be lost, and what follows it is refused then.
            Client::Producer { lanes, acks, .. } => {
                *acks != Acks::All
                    || lanes
                        .iter()
                        .all(|lane| lane.unacked.is_empty() || self.oracle.is_unclean(lane.key))
            }
            Client::Reader { .. } => true,
        })
    }
}

fn new_batch(id: ProducerId, sequence: u32, records: u64, bytes: u64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.set_producer(Some(ProducerStamp {
        id,
        epoch: ProducerEpoch::new(0),
        base_sequence: Some(Sequence::new(sequence)),
    }));
    for number in 0..records {
        let mut value = format!("{id}:{}:", u64::from(sequence) + number).into_bytes();
        value.resize(value.len() + bytes as usize, b'x');
        builder.push(Timestamp::from_millis(1), None, Some(&value), &[]);
    }
    builder.build()
}
