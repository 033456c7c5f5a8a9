//! Which brokers hold a partition.
//!
//! Replicas of a partition are spread over failure domains as evenly as the brokers allow: never are
//! there two in one rack while another rack has none and could take one. Within that rule brokers get
//! their share, first of the topic at hand, then of everything; bytes decide between equals.

use std::collections::BTreeMap;

use highwater_protocol::ids::NodeId;

use crate::cluster_image::ClusterImage;
use crate::failure_domains::FailureDomains;
use crate::leader_spread::{LeaderCounts, even_out};
use crate::node_loads::NodeLoads;

/// The brokers that may take new replicas: active, and not being drained.
#[must_use]
pub fn candidates(image: &ClusterImage) -> Vec<NodeId> {
    image
        .brokers()
        .filter(|(_, broker)| broker.is_active() && !broker.draining)
        .map(|(id, _)| id)
        .collect()
}

/// Replicas for `count` new partitions of one topic over `candidates`, the preferred leader first.
///
/// Leaders are spread like replicas, and so are those that take over from one leader when it fails.
/// Candidates that the cluster does not have are left out. `loads` decides between equals only, and
/// may be empty. Returns `None` when there are fewer candidates than replicas, or no replicas.
#[must_use]
pub fn place(
    image: &ClusterImage,
    loads: &NodeLoads,
    candidates: &[NodeId],
    count: usize,
    replicas: u16,
) -> Option<Vec<Vec<NodeId>>> {
    let mut spread = Spread::of(image, loads, candidates);
    let replicas = usize::from(replicas);
    if replicas == 0 || replicas > spread.holdings.len() {
        return None;
    }
    let mut sets = Vec::with_capacity(count);
    for _ in 0..count {
        let mut set = Vec::with_capacity(replicas);
        for _ in 0..replicas {
            let node = spread.choose(&set, |_| true)?;
            spread.take_of_topic(node, &set);
            set.push(node);
        }
        let first = spread.choose_leader(&set)?;
        spread.take_lead_of_topic(first, &set);
        sets.push((first, set));
    }
    Some(spread.order(sets))
}

/// What each candidate holds, while a plan gives it more.
#[derive(Debug, Clone)]
pub(crate) struct Spread {
    domains: FailureDomains,
    holdings: BTreeMap<NodeId, Holding>,
    /// Of the candidates in each domain, by its number.
    in_domain: Vec<DomainHolding>,
    /// How many partitions of the topic being placed each two candidates hold together.
    together: Vec<u32>,
    /// How many of them the one leads and the other holds.
    led_beside: Vec<u32>,
}

/// What a node holds, of everything and of the topic that is being placed.
#[derive(Debug, Clone, Copy, Default)]
struct Holding {
    /// Counts candidates in the order of their ids.
    rank: usize,
    domain: usize,
    replicas: u64,
    topic_replicas: u64,
    leaders: u64,
    topic_leaders: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct DomainHolding {
    nodes: u64,
    replicas: u64,
    topic_replicas: u64,
}

impl DomainHolding {
    /// Replicas for each node, in units of 2^-20.
    fn per_node(&self, replicas: u64) -> u64 {
        (replicas << 20) / self.nodes.max(1)
    }
}

impl Spread {
    /// What the candidates hold once every move under way has ended.
    pub(crate) fn of(image: &ClusterImage, loads: &NodeLoads, candidates: &[NodeId]) -> Self {
        let domains = FailureDomains::of(image);
        let mut in_domain = vec![DomainHolding::default(); domains.count()];
        let mut holdings = BTreeMap::new();
        for node in candidates {
            let Some(domain) = domains.domain(*node) else {
                continue;
            };
            let holding = Holding {
                domain,
                bytes: loads.get(node).map_or(0, |load| load.log_bytes),
                ..Holding::default()
            };
            if holdings.insert(*node, holding).is_none() {
                in_domain[domain].nodes += 1;
            }
        }
        for (rank, holding) in holdings.values_mut().enumerate() {
            holding.rank = rank;
        }
        let mut spread = Self {
            domains,
            together: vec![0; holdings.len() * holdings.len()],
            led_beside: vec![0; holdings.len() * holdings.len()],
            holdings,
            in_domain,
        };
        for partition in image.topics().flat_map(|topic| &topic.partitions) {
            for (position, node) in partition.target().into_iter().enumerate() {
                if let Some(holding) = spread.holdings.get_mut(&node) {
                    holding.replicas += 1;
                    holding.leaders += u64::from(position == 0);
                    spread.in_domain[holding.domain].replicas += 1;
                }
            }
        }
        spread
    }

    /// The candidate that should hold a partition beside `others`, among those that `fits`.
    pub(crate) fn choose(
        &self,
        others: &[NodeId],
        fits: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        self.holdings
            .iter()
            .filter(|(node, _)| !others.contains(node) && fits(**node))
            .min_by_key(|(node, holding)| {
                let domain = &self.in_domain[holding.domain];
                (
                    self.domains.inside(holding.domain, others),
                    domain.per_node(domain.topic_replicas),
                    domain.per_node(domain.replicas),
                    (holding.topic_replicas, holding.replicas),
                    // The first one leads, so the others are those that lead enough.
                    if others.is_empty() {
                        holding.leaders
                    } else {
                        u64::MAX - holding.leaders
                    },
                    // Not always the same nodes together: what one leaves when it fails is shared.
                    self.pairs(&self.together, holding, others),
                    holding.bytes,
                    **node,
                )
            })
            .map(|(node, _)| *node)
    }

    fn choose_leader(&self, set: &[NodeId]) -> Option<NodeId> {
        set.iter()
            .filter_map(|node| Some((*node, self.holdings.get(node)?)))
            .min_by_key(|(node, holding)| {
                (
                    (holding.topic_leaders, holding.leaders),
                    self.pairs(&self.led_beside, holding, set),
                    holding.bytes,
                    *node,
                )
            })
            .map(|(node, _)| node)
    }

    /// Counts a replica that the plan gives to the node.
    pub(crate) fn take(&mut self, node: NodeId) {
        if let Some(holding) = self.holdings.get_mut(&node) {
            holding.replicas += 1;
            self.in_domain[holding.domain].replicas += 1;
        }
    }

    /// Counts a partition whose preferred leader the plan makes of the node.
    pub(crate) fn take_lead(&mut self, node: NodeId) {
        if let Some(holding) = self.holdings.get_mut(&node) {
            holding.leaders += 1;
        }
    }

    fn take_of_topic(&mut self, node: NodeId, others: &[NodeId]) {
        self.take(node);
        let width = self.holdings.len();
        let ranks: Vec<usize> = self.ranks(others).collect();
        if let Some(holding) = self.holdings.get_mut(&node) {
            holding.topic_replicas += 1;
            self.in_domain[holding.domain].topic_replicas += 1;
            for other in ranks {
                self.together[holding.rank * width + other] += 1;
                self.together[other * width + holding.rank] += 1;
            }
        }
    }

    fn ranks<'a>(&'a self, nodes: &'a [NodeId]) -> impl Iterator<Item = usize> + 'a {
        nodes
            .iter()
            .filter_map(|node| self.holdings.get(node))
            .map(|holding| holding.rank)
    }

    /// What the table says of the node and each of the others, in all.
    fn pairs(&self, table: &[u32], holding: &Holding, others: &[NodeId]) -> u32 {
        self.ranks(others)
            .map(|other| table[holding.rank * self.holdings.len() + other])
            .sum()
    }

    fn take_lead_of_topic(&mut self, node: NodeId, set: &[NodeId]) {
        self.take_lead(node);
        let width = self.holdings.len();
        let ranks: Vec<usize> = self.ranks(set).collect();
        if let Some(holding) = self.holdings.get_mut(&node) {
            holding.topic_leaders += 1;
            for other in ranks {
                self.led_beside[holding.rank * width + other] += 1;
            }
        }
    }

    /// Evens the leaders out and puts the sets in order.
    fn order(&self, sets: Vec<(NodeId, Vec<NodeId>)>) -> Vec<Vec<NodeId>> {
        let nodes: Vec<NodeId> = self.holdings.keys().copied().collect();
        // Every node of a set is a candidate, and so found.
        let index = |node: &NodeId| nodes.binary_search(node).unwrap_or_default();
        let mut counts: Vec<LeaderCounts> = self
            .holdings
            .values()
            .map(|holding| [holding.topic_leaders, holding.leaders])
            .collect();
        let members: Vec<Vec<usize>> = sets
            .iter()
            .map(|(_, set)| set.iter().map(index).collect())
            .collect();
        let mut firsts: Vec<usize> = sets.iter().map(|(first, _)| index(first)).collect();
        even_out(&mut counts, &members, &mut firsts);

        // Who is next in line changes among the partitions of a leader, for the same reason.
        let mut next_in_line = vec![0u32; nodes.len() * nodes.len()];
        sets.into_iter()
            .zip(firsts)
            .map(|((_, mut set), first)| {
                let place = |node: &NodeId| first * nodes.len() + index(node);
                set.retain(|node| *node != nodes[first]);
                set.sort_by_key(|node| (next_in_line[place(node)], *node));
                if let Some(next) = set.first() {
                    next_in_line[place(next)] += 1;
                }
                set.insert(0, nodes[first]);
                set
            })
            .collect()
    }
}
