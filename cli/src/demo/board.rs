//! The state of the cluster as clients see it, what changed in it and when, and how that is shown.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::time::Instant;

use highwater_client::{
    ClusterDescription, NodeId, PartitionDescription, QuorumDescription, TopicDescription,
};
use parking_lot::Mutex;

use crate::demo::track::Track;
use crate::output::{Column, Rows, note};

/// What fits below the tables on a screen of 24 lines.
const EVENTS_SHOWN: usize = 6;

/// A partition by topic and number.
pub(crate) type PartitionOf = (&'static str, u32);

/// The state of the demo's cluster.
#[derive(Debug)]
pub(crate) struct Board {
    start: Instant,
    tracks: Vec<Arc<Track>>,
    /// Without a terminal, what happens is printed when it does.
    prints_events: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<PartitionOf, Partition>,
    /// Each broker, and whether the cluster has fenced it.
    brokers: BTreeMap<NodeId, bool>,
    controller: Option<NodeId>,
    term: u64,
    down: Option<NodeId>,
    events: VecDeque<String>,
    changed: bool,
}

#[derive(Debug)]
struct Partition {
    leader: Option<NodeId>,
    epoch: u32,
    replicas: Vec<NodeId>,
    in_sync: Vec<NodeId>,
    /// High watermark and end of the leader's log.
    ends: Option<(u64, u64)>,
}

impl Partition {
    fn new(described: &PartitionDescription) -> Partition {
        let mut in_sync = described.isr.clone();
        in_sync.sort_unstable();
        Partition {
            leader: described.leader,
            epoch: described.leader_epoch.get(),
            replicas: described.replicas.clone(),
            in_sync,
            ends: None,
        }
    }
}

impl Board {
    /// Knows nothing yet.
    pub(crate) fn new(start: Instant, tracks: Vec<Arc<Track>>) -> Board {
        Board {
            start,
            tracks,
            prints_events: !stderr().is_terminal(),
            state: Mutex::default(),
        }
    }

    /// When the demo began.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// The topics.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &'static str> {
        self.tracks.iter().map(|track| track.name())
    }

    /// Each partition.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionOf> {
        self.tracks
            .iter()
            .flat_map(|track| (0..track.partitions()).map(|partition| (track.name(), partition)))
    }

    /// Notes what happened.
    pub(crate) fn note(&self, event: impl AsRef<str>) {
        self.add_event(&mut self.state.lock(), event.as_ref());
    }

    fn add_event(&self, state: &mut State, event: &str) {
        let event = format!("{:5.1} s  {event}", self.start.elapsed().as_secs_f64());
        if self.prints_events {
            note(&event);
        }
        if state.events.len() == EVENTS_SHOWN {
            state.events.pop_front();
        }
        state.events.push_back(event);
        state.changed = true;
    }

    /// A broker was killed.
    pub(crate) fn killed(&self, victim: NodeId, led: &[PartitionOf]) {
        let mut state = self.state.lock();
        state.down = Some(victim);
        let is_controller = state.controller == Some(victim);
        let role = if is_controller {
            ", the controller,"
        } else {
            ""
        };
        let led = names(led.iter().copied());
        self.add_event(
            &mut state,
            &format!("broker {victim}{role} is killed; it leads {led}"),
        );
    }

    /// The broker that was killed runs again.
    pub(crate) fn returned(&self) {
        self.state.lock().down = None;
    }

    /// Takes over what a broker knows about a topic.
    pub(crate) fn take_topic(&self, topic: &'static str, described: &TopicDescription) {
        let mut state = self.state.lock();
        let mut shifts: BTreeMap<Vec<NodeId>, Vec<PartitionOf>> = BTreeMap::new();
        for described in &described.partitions {
            let name = (topic, described.partition.get());
            let mut new = Partition::new(described);
            let Some(old) = state.partitions.get(&name) else {
                state.partitions.insert(name, new);
                state.changed = true;
                continue;
            };
            if new.epoch < old.epoch {
                // Asked a broker that has not heard of it yet.
                continue;
            }
            new.ends = old.ends;
            if new.leader != old.leader {
                let event = format!(
                    "{topic}/{}: leader {} -> {}, epoch {} -> {}, in sync {}",
                    name.1,
                    name_of(old.leader),
                    name_of(new.leader),
                    old.epoch,
                    new.epoch,
                    join(&new.in_sync)
                );
                self.add_event(&mut state, &event);
            } else if new.in_sync != old.in_sync {
                shifts.entry(new.in_sync.clone()).or_default().push(name);
            }
            state.partitions.insert(name, new);
        }
        for (in_sync, partitions) in shifts {
            let event = format!("{}: in sync {}", names(partitions), join(&in_sync));
            self.add_event(&mut state, &event);
        }
    }

    /// Takes over who leads the metadata quorum.
    pub(crate) fn take_quorum(&self, quorum: &QuorumDescription) {
        let mut state = self.state.lock();
        if quorum.term < state.term {
            return;
        }
        let before = state.controller.replace(quorum.leader);
        state.term = quorum.term;
        if let Some(before) = before
            && before != quorum.leader
        {
            let event = format!(
                "controller: broker {before} -> {}, term {}",
                quorum.leader, quorum.term
            );
            self.add_event(&mut state, &event);
        }
    }

    /// Takes over what is known about brokers.
    pub(crate) fn take_brokers(&self, cluster: &ClusterDescription) {
        let mut state = self.state.lock();
        for broker in &cluster.brokers {
            let before = state.brokers.insert(broker.node_id, broker.fenced);
            if before.is_some_and(|fenced| fenced != broker.fenced) {
                let event = if broker.fenced {
                    format!("broker {}: fenced by the controller", broker.node_id)
                } else {
                    format!("broker {}: serves again", broker.node_id)
                };
                self.add_event(&mut state, &event);
            }
        }
    }

    /// Takes over how far a partition is: high watermark and end of the leader's log.
    pub(crate) fn take_ends(&self, name: PartitionOf, high_watermark: u64, log_end: u64) {
        if let Some(partition) = self.state.lock().partitions.get_mut(&name) {
            partition.ends = Some((high_watermark, log_end.max(high_watermark)));
        }
    }

    /// The active controller, as far as known.
    pub(crate) fn controller(&self) -> Option<NodeId> {
        self.state.lock().controller
    }

    /// Who leads the partition with most acknowledged records.
    pub(crate) fn busiest_leader(&self) -> Option<(NodeId, String)> {
        let state = self.state.lock();
        let busiest = self.tracks.iter().flat_map(|track| {
            (0..track.partitions()).map(|number| {
                let name = (track.name(), number);
                (track.acks(number).records(), name)
            })
        });
        let (_, name) = busiest.max()?;
        let leader = state.partitions.get(&name)?.leader?;
        Some((leader, names([name])))
    }

    /// The partitions that a broker leads.
    pub(crate) fn led_by(&self, node: NodeId) -> Vec<PartitionOf> {
        let state = self.state.lock();
        let led = state
            .partitions
            .iter()
            .filter(|(_, partition)| partition.leader == Some(node));
        led.map(|(name, _)| *name).collect()
    }

    /// Whether all is known, every partition has a leader and all of its replicas are in sync.
    pub(crate) fn is_whole(&self) -> bool {
        let state = self.state.lock();
        let whole = |partition: &Partition| {
            partition.leader.is_some() && partition.in_sync.len() == partition.replicas.len()
        };
        self.partitions()
            .all(|name| state.partitions.get(&name).is_some_and(whole))
            && state.controller.is_some()
    }

    /// Whether every partition has a leader and counts on this broker no more.
    pub(crate) fn is_without(&self, node: NodeId) -> bool {
        let state = self.state.lock();
        state.partitions.values().all(|partition| {
            partition.leader.is_some_and(|leader| leader != node)
                && !partition.in_sync.contains(&node)
        })
    }

    /// Whether records were acknowledged since then on every partition that gets any.
    pub(crate) fn flows_since(&self, moment: Instant) -> bool {
        self.tracks.iter().all(|track| {
            (0..track.partitions()).all(|partition| {
                let acks = track.acks(partition);
                acks.records() == 0 || acks.ticked_after(moment)
            })
        })
    }

    /// The tables and what happened last, for a screen that is drawn over and over.
    pub(crate) fn screen(&self) -> String {
        let mut text = format!("\n{}", self.table());
        for event in &self.state.lock().events {
            text.push_str(event);
            text.push('\n');
        }
        text
    }

    /// The tables, if something happened since the last call.
    pub(crate) fn changed(&self) -> Option<String> {
        let changed = std::mem::take(&mut self.state.lock().changed);
        changed.then(|| self.table())
    }

    /// Fits into 80 columns.
    fn table(&self) -> String {
        let now = Instant::now();
        let state = self.state.lock();
        let mut rows = Rows::new(&[
            Column::Text("PARTITION"),
            Column::Text("LEADER"),
            Column::Number("EPOCH"),
            Column::Text("REPLICAS"),
            Column::Text("IN SYNC"),
            Column::Number("HIGH WATERMARK"),
            Column::Number("LAG"),
            Column::Number("NO ACK ms"),
        ]);
        for track in &self.tracks {
            for number in 0..track.partitions() {
                let name = (track.name(), number);
                let Some(partition) = state.partitions.get(&name) else {
                    continue;
                };
                let leader = match partition.leader {
                    Some(leader) if state.down == Some(leader) => format!("{leader} dead"),
                    leader => name_of(leader),
                };
                let (high_watermark, lag) = partition.ends.map_or_else(
                    || ("-".to_owned(), "-".to_owned()),
                    |(high_watermark, end)| {
                        (
                            high_watermark.to_string(),
                            end.saturating_sub(high_watermark).to_string(),
                        )
                    },
                );
                let silence = track.acks(number).silence(now);
                rows.push([
                    names([name]),
                    leader,
                    partition.epoch.to_string(),
                    join(&partition.replicas),
                    join(&partition.in_sync),
                    high_watermark,
                    lag,
                    silence.map_or_else(|| "-".to_owned(), |s| s.as_millis().to_string()),
                ]);
            }
        }
        let brokers = state.brokers.iter().map(|(&node, &fenced)| {
            let what = match (state.down == Some(node), fenced) {
                (true, false) => "killed",
                (true, true) => "killed+fenced",
                (false, true) => "fenced",
                (false, false) => "up",
            };
            format!("{node} {what}")
        });
        let brokers: Vec<_> = brokers.collect();
        format!(
            "{rows}Controller: broker {}, term {}\nBrokers: {}\n",
            name_of(state.controller),
            state.term,
            brokers.join(", ")
        )
    }
}

fn names(partitions: impl IntoIterator<Item = PartitionOf>) -> String {
    let names = partitions.into_iter();
    let names: Vec<_> = names.map(|(topic, n)| format!("{topic}/{n}")).collect();
    names.join(", ")
}

fn name_of(node: Option<NodeId>) -> String {
    node.map_or_else(|| "none".to_owned(), |node| node.to_string())
}

fn join(nodes: &[NodeId]) -> String {
    let names: Vec<_> = nodes.iter().map(ToString::to_string).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use highwater_client::{
        ErrorCode, LeaderEpoch, NodeId, PartitionDescription, PartitionId, QuorumDescription,
        TopicDescription, TopicId,
    };

    use super::Board;
    use crate::demo::track::Track;

    fn nodes(ids: &[u32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId::new).collect()
    }

    /// A topic of one partition with replicas on 1, 2 and 3.
    fn topic(leader: u32, epoch: u32, isr: &[u32]) -> TopicDescription {
        TopicDescription {
            name: "text".to_owned(),
            topic_id: TopicId::random(),
            partitions: vec![PartitionDescription {
                partition: PartitionId::new(0),
                error: ErrorCode::None,
                leader: Some(NodeId::new(leader)),
                leader_epoch: LeaderEpoch::new(epoch),
                replicas: nodes(&[1, 2, 3]),
                isr: nodes(isr),
                elr: Vec::new(),
                adding: Vec::new(),
                removing: Vec::new(),
            }],
        }
    }

    fn quorum(leader: u32, term: u64) -> QuorumDescription {
        QuorumDescription {
            leader: NodeId::new(leader),
            term,
            last_index: 0,
            commit_index: 0,
            snapshot_index: None,
            members: Vec::new(),
        }
    }

    fn board() -> Board {
        let board = Board::new(Instant::now(), vec![Arc::new(Track::new("text", 1))]);
        assert!(!board.is_whole(), "nothing is known");
        board.take_topic("text", &topic(2, 1, &[2, 1, 3]));
        board.take_quorum(&quorum(2, 4));
        assert!(board.is_whole());
        board
    }

    #[test]
    fn a_failover_is_followed_step_by_step() {
        let board = board();
        let dead = NodeId::new(2);
        let led = board.led_by(dead);
        assert_eq!(led, [("text", 0)]);
        board.killed(dead, &led);
        assert!(!board.is_without(dead));
        board.take_topic("text", &topic(3, 2, &[1, 3]));
        assert!(board.is_without(dead));
        assert!(!board.is_whole());
        board.take_topic("text", &topic(3, 2, &[1, 2, 3]));
        assert!(board.is_whole());
        let screen = board.screen();
        for event in [
            "broker 2, the controller, is killed; it leads text/0",
            "text/0: leader 2 -> 3, epoch 1 -> 2, in sync 1,3",
            "text/0: in sync 1,2,3",
        ] {
            assert!(screen.contains(event), "{event:?} is not in {screen}");
        }
    }

    #[test]
    fn news_from_a_broker_that_lags_behind_are_none() {
        let board = board();
        board.take_topic("text", &topic(3, 2, &[1, 3]));
        board.take_topic("text", &topic(2, 1, &[1, 2, 3]));
        assert!(board.is_without(NodeId::new(2)));
        board.take_quorum(&quorum(1, 5));
        board.take_quorum(&quorum(2, 4));
        assert_eq!(board.controller(), Some(NodeId::new(1)));
    }

    #[test]
    fn the_table_fits_on_a_screen_of_80_columns() {
        let board = board();
        board.take_ends(("text", 0), 123_456_789, 123_556_789);
        for line in board.screen().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
