//! Spreading leaderships over nodes when it is settled who holds which partition.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a node leads: what counts first, then what decides between equals.
pub(crate) type LeaderCounts = [u64; 2];

/// Changes who is first in each of `sets`, as rarely as possible, until no node could give leaderships
/// away to make the counts more even, be it over several nodes.
///
/// Nodes are indices into `counts`, which include what `firsts` adds to them; `firsts` holds the
/// leader of each set.
pub(crate) fn even_out(counts: &mut [LeaderCounts], sets: &[Vec<usize>], firsts: &mut [usize]) {
    let mut handovers = Handovers::of(sets, firsts);
    loop {
        let mut givers: Vec<usize> = (0..counts.len()).collect();
        givers.sort_by_key(|node| (std::cmp::Reverse(counts[*node]), *node));
        let path = givers
            .into_iter()
            .find_map(|giver| handovers.path(giver, counts));
        let Some(path) = path else {
            return;
        };
        for step in path.windows(2) {
            let [from, to] = [step[0], step[1]];
            let Some(set) = handovers.hand_over(from, to, sets) else {
                return;
            };
            firsts[set] = to;
        }
        if let (Some(giver), Some(taker)) = (path.first(), path.last()) {
            counts[*giver] = counts[*giver].map(|count| count - 1);
            counts[*taker] = counts[*taker].map(|count| count + 1);
        }
    }
}

/// Whether one leadership less for `giver` and one more for `taker` is more even. Each such step
/// lowers the sum of squares of the first count, or keeps it and lowers that of the second: it ends.
fn is_fairer(giver: LeaderCounts, taker: LeaderCounts) -> bool {
    giver[0] >= taker[0] + 2 || (giver[0] == taker[0] + 1 && giver[1] >= taker[1] + 2)
}

/// Which sets a node leads that another could lead: by (leader, other).
struct Handovers {
    sets: BTreeMap<(usize, usize), BTreeSet<usize>>,
}

impl Handovers {
    fn of(sets: &[Vec<usize>], firsts: &[usize]) -> Self {
        let mut handovers = Self {
            sets: BTreeMap::new(),
        };
        for (index, (set, first)) in sets.iter().zip(firsts).enumerate() {
            handovers.lead(index, set, *first);
        }
        handovers
    }

    fn lead(&mut self, index: usize, set: &[usize], first: usize) {
        for other in set.iter().filter(|node| **node != first) {
            self.sets.entry((first, *other)).or_default().insert(index);
        }
    }

    fn hand_over(&mut self, from: usize, to: usize, sets: &[Vec<usize>]) -> Option<usize> {
        let index = *self.sets.get(&(from, to))?.first()?;
        for other in sets[index].iter().filter(|node| **node != from) {
            if let Some(led) = self.sets.get_mut(&(from, *other)) {
                led.remove(&index);
            }
        }
        self.lead(index, &sets[index], to);
        Some(index)
    }

    /// The shortest way from a node to one that should lead more.
    fn path(&self, giver: usize, counts: &[LeaderCounts]) -> Option<Vec<usize>> {
        let mut before: BTreeMap<usize, usize> = BTreeMap::from([(giver, giver)]);
        let mut queue = VecDeque::from([giver]);
        while let Some(node) = queue.pop_front() {
            if is_fairer(counts[giver], counts[node]) {
                let mut path = vec![node];
                let mut at = node;
                while at != giver {
                    at = before[&at];
                    path.push(at);
                }
                path.reverse();
                return Some(path);
            }
            for ((_, other), led) in self.sets.range((node, 0)..(node + 1, 0)) {
                if !led.is_empty() && !before.contains_key(other) {
                    before.insert(*other, node);
                    queue.push_back(*other);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(nodes: usize, firsts: &[usize]) -> Vec<LeaderCounts> {
        let mut counts = vec![[0, 0]; nodes];
        for first in firsts {
            counts[*first][0] += 1;
            counts[*first][1] += 1;
        }
        counts
    }

    #[test]
    fn leaderships_are_handed_on_over_a_node_between() {
        // Node 0 can give only to 1, which can give to 2, which leads nothing.
        let sets = vec![vec![0, 1], vec![0, 1], vec![1, 2], vec![1, 2]];
        let mut firsts = vec![0, 0, 1, 1];
        let mut counts = counts_of(3, &firsts);
        even_out(&mut counts, &sets, &mut firsts);
        assert_eq!(counts, counts_of(3, &firsts));
        assert!(counts.iter().all(|count| count[0] <= 2 && count[0] >= 1));
        assert!(sets.iter().zip(&firsts).all(|(set, f)| set.contains(f)));
    }

    #[test]
    fn what_is_even_stays_and_the_second_count_decides_between_equals() {
        let sets = vec![vec![0, 1], vec![0, 1]];
        let mut firsts = vec![1, 0];
        even_out(&mut [[1, 1], [1, 1]], &sets, &mut firsts);
        assert_eq!(firsts, [1, 0]);

        let sets = vec![vec![0, 1]];
        let mut firsts = vec![0];
        even_out(&mut [[1, 9], [0, 1]], &sets, &mut firsts);
        assert_eq!(firsts, [1]);
    }
}
