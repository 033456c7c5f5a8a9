//! The search for moves that balance a cluster.
//!
//! Every step lowers, in this order, how much racks are crowded, the sum of squares of replicas for
//! each node, and that of leaders; so the search ends, and finds nothing more on what it made.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use highwater_protocol::ids::{NodeId, PartitionId};

use crate::cluster_image::{ClusterImage, TopicImage};
use crate::failure_domains::FailureDomains;
use crate::leader_spread::{LeaderCounts, even_out};
use crate::node_loads::NodeLoads;
use crate::reassignment::partitions_of;
use crate::replica_sizes::ReplicaSizes;

/// All nodes and partitions, as indices. Only brokers that are up and not drained are `open`, and only
/// partitions all of whose replicas are on such brokers can change.
pub(crate) struct Board<'a> {
    topics: Vec<&'a TopicImage>,
    nodes: Vec<Node>,
    partitions: Vec<Partition>,
    /// For each node, the partitions here that it holds, by topic.
    held: Vec<BTreeMap<usize, BTreeSet<usize>>>,
    /// For each topic, how many of its replicas each node holds.
    of_topic: Vec<Vec<u32>>,
    /// Pairs (from, to) of nodes for which it is known that no partition can go.
    closed: Vec<bool>,
    /// For each pair, after which partition the search goes on: those before it went already, or
    /// could not, and are looked at last.
    searched: Vec<usize>,
}

/// Partitions that are looked at for one that is led, or is not, once one is found that can go.
const PREFERENCE_SEARCH_MAX: usize = 64;

struct Node {
    id: NodeId,
    domain: usize,
    open: bool,
    replicas: u64,
    leaders: u64,
    bytes: u64,
    /// Bytes that its disk may still take.
    room: u64,
}

struct Partition {
    topic: usize,
    partition: PartitionId,
    size: u64,
    before: Vec<usize>,
    replicas: Vec<usize>,
}

/// Other replicas for a partition.
pub(crate) struct Change<'a> {
    pub(crate) topic: &'a TopicImage,
    pub(crate) partition: PartitionId,
    pub(crate) from: Vec<NodeId>,
    pub(crate) to: Vec<NodeId>,
}

impl<'a> Board<'a> {
    pub(crate) fn of(image: &'a ClusterImage, loads: &NodeLoads, disk_percent_max: u32) -> Self {
        let domains = FailureDomains::of(image);
        let sizes = ReplicaSizes::of(image, loads);
        let coming = sizes.coming(image);
        let nodes: Vec<Node> = image
            .brokers()
            .map(|(id, broker)| {
                let load = loads.get(&id).copied().unwrap_or_default();
                let coming = coming.get(&id).copied().unwrap_or(0);
                Node {
                    id,
                    domain: domains.domain(id).unwrap_or_default(),
                    open: broker.is_active() && !broker.draining,
                    replicas: 0,
                    leaders: 0,
                    bytes: load.log_bytes.saturating_add(coming),
                    room: load.room(disk_percent_max).saturating_sub(coming),
                }
            })
            .collect();
        let mut board = Self {
            topics: image.topics().map(AsRef::as_ref).collect(),
            held: vec![BTreeMap::new(); nodes.len()],
            of_topic: vec![vec![0; nodes.len()]; image.topics().len()],
            closed: vec![false; nodes.len() * nodes.len()],
            searched: vec![0; nodes.len() * nodes.len()],
            partitions: Vec::new(),
            nodes,
        };
        let mut topic = 0;
        for (owner, partition, now) in partitions_of(image) {
            while board.topics[topic].id != owner.id {
                topic += 1;
            }
            let replicas: Vec<Option<usize>> = now
                .target()
                .into_iter()
                .map(|node| board.index(node))
                .collect();
            for (position, node) in replicas.iter().enumerate() {
                if let Some(node) = *node {
                    board.nodes[node].replicas += 1;
                    board.nodes[node].leaders += u64::from(position == 0);
                    board.of_topic[topic][node] += 1;
                }
            }
            let open: Option<Vec<usize>> = replicas
                .into_iter()
                .map(|node| node.filter(|node| board.nodes[*node].open))
                .collect();
            if let Some(replicas) = open
                && now.leader.is_some()
                && !now.is_moving()
            {
                board.add(Partition {
                    topic,
                    partition,
                    size: sizes.of_partition(now),
                    before: replicas.clone(),
                    replicas,
                });
            }
        }
        board
    }

    fn index(&self, node: NodeId) -> Option<usize> {
        self.nodes.binary_search_by_key(&node, |node| node.id).ok()
    }

    fn add(&mut self, partition: Partition) {
        let index = self.partitions.len();
        for node in &partition.replicas {
            self.hold(*node, partition.topic, index);
        }
        self.partitions.push(partition);
    }

    fn hold(&mut self, node: usize, topic: usize, partition: usize) {
        self.held[node].entry(topic).or_default().insert(partition);
    }

    /// Moves replicas and leaderships until nothing is to be gained.
    pub(crate) fn balance(&mut self) {
        self.uncrowd_racks();
        loop {
            self.even_replicas();
            self.even_leaders();
            if !self.trade_leaders() {
                break;
            }
        }
        debug_assert!(self.closed_ways_are_closed());
    }

    /// Whether no partition can go where it was noted that none can.
    fn closed_ways_are_closed(&self) -> bool {
        let nodes = self.nodes.len();
        let goes = |from: usize, to: usize| {
            let mut held = self.held[from].values().flatten();
            held.any(|partition| self.can_go(*partition, from, to))
        };
        (0..nodes * nodes).all(|way| !self.closed[way] || !goes(way / nodes, way % nodes))
    }

    /// What is different from before.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'a>> + '_ {
        let ids = |nodes: &[usize]| nodes.iter().map(|node| self.nodes[*node].id).collect();
        self.partitions
            .iter()
            .filter(|partition| partition.replicas != partition.before)
            .map(move |partition| Change {
                topic: self.topics[partition.topic],
                partition: partition.partition,
                from: ids(&partition.before),
                to: ids(&partition.replicas),
            })
    }

    fn inside(&self, partition: usize, domain: usize) -> usize {
        self.partitions[partition]
            .replicas
            .iter()
            .filter(|node| self.nodes[**node].domain == domain)
            .count()
    }

    /// A disk that is too full already takes nothing, however small.
    fn has_room(&self, node: usize, size: u64) -> bool {
        let room = self.nodes[node].room;
        room > 0 && room >= size
    }

    /// Whether the node can hold the partition, racks apart.
    fn can_take(&self, partition: usize, to: usize) -> bool {
        let held = &self.partitions[partition];
        self.nodes[to].open
            && !held.replicas.contains(&to)
            && (held.before.contains(&to) || self.has_room(to, held.size))
    }

    /// Whether a replica can go from one node to the other, and crowd racks no more than before.
    fn can_go(&self, partition: usize, from: usize, to: usize) -> bool {
        let [from_domain, to_domain] = [self.nodes[from].domain, self.nodes[to].domain];
        self.can_take(partition, to)
            && (from_domain == to_domain
                || self.inside(partition, to_domain) < self.inside(partition, from_domain))
    }

    /// Puts `to` in the place of `from` among the partition's replicas.
    fn shift(&mut self, partition: usize, from: usize, to: usize) {
        let moved = &mut self.partitions[partition];
        let Some(position) = moved.replicas.iter().position(|node| *node == from) else {
            return;
        };
        moved.replicas[position] = to;
        let (topic, size) = (moved.topic, moved.size);
        if !moved.before.contains(&to) {
            self.nodes[to].room = self.nodes[to].room.saturating_sub(size);
        }
        if !moved.before.contains(&from) {
            self.nodes[from].room = self.nodes[from].room.saturating_add(size);
            for other in 0..self.nodes.len() {
                self.set_closed(other, from, false);
            }
        }
        let led = u64::from(position == 0);
        let giver = &mut self.nodes[from];
        giver.replicas -= 1;
        giver.leaders -= led;
        giver.bytes = giver.bytes.saturating_sub(size);
        let taker = &mut self.nodes[to];
        taker.replicas += 1;
        taker.leaders += led;
        taker.bytes = taker.bytes.saturating_add(size);
        self.of_topic[topic][from] -= 1;
        self.of_topic[topic][to] += 1;
        if let Some(held) = self.held[from].get_mut(&topic) {
            held.remove(&partition);
            if held.is_empty() {
                self.held[from].remove(&topic);
            }
        }
        self.hold(to, topic, partition);
        self.reopen(partition);
    }

    /// Ways that the partition's new replicas open; for all other partitions nothing has changed.
    fn reopen(&mut self, partition: usize) {
        for from in self.partitions[partition].replicas.clone() {
            for to in 0..self.nodes.len() {
                if self.is_closed(from, to) && self.can_go(partition, from, to) {
                    self.set_closed(from, to, false);
                }
            }
        }
    }

    fn is_closed(&self, from: usize, to: usize) -> bool {
        self.closed[from * self.nodes.len() + to]
    }

    fn set_closed(&mut self, from: usize, to: usize, closed: bool) {
        let nodes = self.nodes.len();
        self.closed[from * nodes + to] = closed;
    }

    /// The partition that best goes from one node to the other: of the topic that is spread worst
    /// between them, and with its leadership if that is too many there.
    fn find(&mut self, from: usize, to: usize) -> Option<usize> {
        if from == to || !self.nodes[to].open || self.is_closed(from, to) {
            return None;
        }
        let with_lead = self.nodes[from].leaders > self.nodes[to].leaders;
        let excess = |topic: usize| {
            let held = &self.of_topic[topic];
            i64::from(held[from]) - i64::from(held[to])
        };
        let mut last = None;
        // Not sorted: nearly always the first one will do.
        while let Some(next) = self.held[from]
            .keys()
            .map(|topic| (excess(*topic), Reverse(*topic)))
            .filter(|next| last.is_none_or(|last| *next < last))
            .max()
        {
            last = Some(next);
            if let Some(partition) = self.find_of_topic(next.1.0, from, to, with_lead) {
                let nodes = self.nodes.len();
                self.searched[from * nodes + to] = partition;
                return Some(partition);
            }
        }
        self.set_closed(from, to, true);
        None
    }

    fn find_of_topic(
        &self,
        topic: usize,
        from: usize,
        to: usize,
        with_lead: bool,
    ) -> Option<usize> {
        let held = self.held[from].get(&topic)?;
        let start = self.searched[from * self.nodes.len() + to];
        let mut fallback = None;
        let mut looked_at = 0;
        for partition in held.range(start..).chain(held.range(..start)).copied() {
            if self.can_go(partition, from, to) {
                if (self.partitions[partition].replicas[0] == from) == with_lead {
                    return Some(partition);
                }
                fallback = fallback.or(Some(partition));
            }
            looked_at += usize::from(fallback.is_some());
            if looked_at > PREFERENCE_SEARCH_MAX {
                break;
            }
        }
        fallback
    }

    /// Moves replicas out of racks that hold two or more than another that could take one.
    fn uncrowd_racks(&mut self) {
        for partition in 0..self.partitions.len() {
            while let Some((from, to)) = self.uncrowding(partition) {
                self.shift(partition, from, to);
            }
        }
    }

    fn uncrowding(&self, partition: usize) -> Option<(usize, usize)> {
        let crowd = |node: usize| self.inside(partition, self.nodes[node].domain);
        let load = |node: usize| (self.nodes[node].replicas, self.nodes[node].bytes);
        let from = self.partitions[partition]
            .replicas
            .iter()
            .copied()
            .max_by_key(|node| (crowd(*node), load(*node), Reverse(*node)))?;
        let to = (0..self.nodes.len())
            .filter(|to| self.can_take(partition, *to))
            .min_by_key(|to| (crowd(*to), load(*to), *to))?;
        (crowd(from) >= crowd(to) + 2).then_some((from, to))
    }

    /// Open nodes, the ones that hold most first.
    fn by_load(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].open)
            .collect();
        nodes.sort_by_key(|node| {
            let held = &self.nodes[*node];
            (Reverse((held.replicas, held.bytes)), *node)
        });
        nodes
    }

    fn even_replicas(&mut self) {
        let mut failed = BTreeSet::new();
        loop {
            let nodes = self.by_load();
            if self.shift_directly(&nodes) {
                continue;
            }
            // Where racks forbid the direct way there may be one over other nodes.
            let path = nodes
                .iter()
                .filter(|giver| !failed.contains(*giver))
                .find_map(|giver| self.path(*giver));
            match path {
                None => return,
                Some(path) if self.shift_along(&path) => failed.clear(),
                Some(path) => {
                    failed.insert(path[0]);
                }
            }
        }
    }

    fn shift_directly(&mut self, nodes: &[usize]) -> bool {
        for from in nodes {
            for to in nodes.iter().rev() {
                if self.nodes[*from].replicas < self.nodes[*to].replicas + 2 {
                    break;
                }
                if let Some(partition) = self.find(*from, *to) {
                    self.shift(partition, *from, *to);
                    return true;
                }
            }
        }
        false
    }

    /// The shortest way from a node to one that holds less by two or more.
    fn path(&mut self, giver: usize) -> Option<Vec<usize>> {
        let fewer = self.nodes[giver].replicas.checked_sub(2)?;
        let mut before: BTreeMap<usize, usize> = BTreeMap::from([(giver, giver)]);
        let mut queue = VecDeque::from([giver]);
        while let Some(node) = queue.pop_front() {
            if self.nodes[node].replicas <= fewer {
                let mut path = vec![node];
                let mut at = node;
                while at != giver {
                    at = before[&at];
                    path.push(at);
                }
                path.reverse();
                return Some(path);
            }
            for next in 0..self.nodes.len() {
                if !before.contains_key(&next) && self.find(node, next).is_some() {
                    before.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// Moves one replica over each step of the way, or nothing: one step can take what another needs.
    fn shift_along(&mut self, path: &[usize]) -> bool {
        let mut done = Vec::new();
        for step in path.windows(2) {
            let [from, to] = [step[0], step[1]];
            match self.find(from, to) {
                Some(partition) => {
                    self.shift(partition, from, to);
                    done.push((partition, from, to));
                }
                None => {
                    for (partition, from, to) in done.into_iter().rev() {
                        self.shift(partition, to, from);
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Makes another replica the first where that evens leaders out.
    fn even_leaders(&mut self) {
        let mut counts: Vec<LeaderCounts> =
            self.nodes.iter().map(|node| [node.leaders; 2]).collect();
        let sets: Vec<Vec<usize>> = self
            .partitions
            .iter()
            .map(|partition| partition.replicas.clone())
            .collect();
        let mut firsts: Vec<usize> = sets.iter().map(|set| set[0]).collect();
        even_out(&mut counts, &sets, &mut firsts);
        for (node, count) in self.nodes.iter_mut().zip(counts) {
            node.leaders = count[0];
        }
        for (partition, first) in self.partitions.iter_mut().zip(firsts) {
            if let Some(position) = partition.replicas.iter().position(|node| *node == first) {
                partition.replicas[..=position].rotate_right(1);
            }
        }
    }

    /// Where another order does not help, lets nodes that lead too much give partitions away, for
    /// others that they do not lead.
    fn trade_leaders(&mut self) -> bool {
        let mut traded = false;
        while let Some(trade) = self.leader_trade() {
            for (partition, from, to) in trade {
                self.shift(partition, from, to);
            }
            traded = true;
        }
        traded
    }

    fn leader_trade(&self) -> Option<Vec<(usize, usize, usize)>> {
        let mut nodes: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].open)
            .collect();
        nodes.sort_by_key(|node| (Reverse(self.nodes[*node].leaders), *node));
        for from in &nodes {
            for to in nodes.iter().rev() {
                if self.nodes[*from].leaders < self.nodes[*to].leaders + 2 {
                    break;
                }
                let goes = |partition: &usize, from: usize, to: usize, is_led: bool| {
                    (self.partitions[*partition].replicas[0] == from) == is_led
                        && self.can_go(*partition, from, to)
                };
                let held = |node: usize| self.held[node].values().flatten().copied();
                let Some(given) = held(*from).find(|one| goes(one, *from, *to, true)) else {
                    continue;
                };
                if self.nodes[*from].replicas > self.nodes[*to].replicas {
                    return Some(vec![(given, *from, *to)]);
                }
                if let Some(taken) = held(*to).find(|one| goes(one, *to, *from, false)) {
                    return Some(vec![(given, *from, *to), (taken, *to, *from)]);
                }
            }
        }
        None
    }
}
