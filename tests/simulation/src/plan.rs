//! What a seed stands for: the cluster, its topics, and which faults it meets how often. Every seed
//! enables its own few faults, and some none: faults that hide each other are not always together.

use highwater_storage::Durability;
use highwater_storage::sim_disk::Dice;

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Brokers.
    pub nodes: usize,
    /// Topics.
    pub topics: Vec<TopicPlan>,
    /// What goes wrong.
    pub faults: Faults,
    /// How long it may, in ms.
    pub faulty_ms: u64,
    /// A broker that is silent for this long is fenced, in ms.
    pub session_ms: u64,
    /// `replica.lag.time.max`, in ms.
    pub lag_ms: u64,
    /// Size of a segment in bytes.
    pub segment_bytes: u64,
    /// Idempotent producers.
    pub producers: usize,
    /// Readers.
    pub readers: usize,
    /// A producer waits up to this long between two batches, in ms.
    pub produce_pause_ms: u64,
}

/// One topic.
#[derive(Debug, Clone)]
pub struct TopicPlan {
    /// Its partitions.
    pub partitions: u32,
    /// Replicas of each.
    pub replicas: u16,
    /// `min.insync.replicas` at the beginning.
    pub isr_min: u16,
    /// What counts as written.
    pub durability: Durability,
}

/// How often things go wrong. Times are mean times between two of a kind in ms, 0: never. Rates are in a
/// thousand messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Messages that are lost.
    pub loss: u64,
    /// Messages that come twice.
    pub duplicates: u64,
    /// Messages that come very late.
    pub stale: u64,
    /// Answers of the controller to proposals that are lost.
    pub lost_decisions: u64,
    /// Proposals that are lost on their way to the controller.
    pub lost_proposals: u64,
    /// A message takes up to this long, in ms.
    pub delay_ms: u64,
    /// A disk takes up to this long for a sync, in ms.
    pub sync_ms: u64,
    /// New metadata takes up to this long to a broker, in ms.
    pub metadata_ms: u64,
    /// Clocks differ in rate by up to so many thousandths.
    pub drift: u64,
    /// A process dies.
    pub crash_every: u64,
    /// A machine loses power.
    pub power_every: u64,
    /// All machines lose power together.
    pub outage_every: u64,
    /// A process stands still.
    pub pause_every: u64,
    /// Links between some are cut, in one direction or both.
    pub cut_every: u64,
    /// The controller changes.
    pub controller_every: u64,
    /// Replicas are moved, moves are given up, a node is drained.
    pub move_every: u64,
    /// `min.insync.replicas` changes.
    pub minimum_every: u64,
    /// A leadership is moved.
    pub election_every: u64,
    /// A broker stops in order.
    pub stop_every: u64,
    /// A sync fails.
    pub sync_failure_every: u64,
    /// Old records are deleted.
    pub trim_every: u64,
    /// What stops stays so for up to this long, in ms.
    pub down_ms: u64,
}

impl Plan {
    /// The same without disks that fail and without records that are deleted.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut plan = Self::with_failing_disks(seed);
        plan.faults.sync_failure_every = 0;
        plan.faults.trim_every = 0;
        plan
    }

    /// What a seed stands for.
    #[must_use]
    pub fn with_failing_disks(seed: u64) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(11));
        let nodes = 3 + [0, 0, 1, 2][dice.below(4) as usize];
        let session_ms = [250, 400, 600][dice.below(3) as usize];
        let topics = (0..1 + dice.below(3)).map(|_| TopicPlan::drawn(&mut dice, nodes));
        let topics = topics.collect();
        Self {
            nodes,
            topics,
            faults: Faults::drawn(&mut dice),
            faulty_ms: 2500 + dice.below(2500),
            session_ms,
            lag_ms: [100, 200, 400][dice.below(3) as usize],
            segment_bytes: [4096, 8192, 12 << 10][dice.below(3) as usize],
            producers: 1 + dice.below(2) as usize,
            readers: dice.below(3) as usize,
            produce_pause_ms: 10 + dice.below(60),
        }
    }
}

impl TopicPlan {
    fn drawn(dice: &mut Dice, nodes: usize) -> Self {
        let durability = if dice.one_in(2) {
            Durability::Synced
        } else {
            Durability::Replicated
        };
        let replicas = match dice.below(8) {
            // The only copy of a `replicated` topic promises nothing when the power goes.
            0 if durability == Durability::Synced => 1,
            1 => 2,
            2 | 3 => nodes.min(4) as u16,
            _ => 3,
        };
        let isr_min = match replicas {
            1 => 1,
            2 => 1 + dice.below(2) as u16,
            _ => [2, 2, 2, 1, 3][dice.below(5) as usize],
        };
        Self {
            partitions: 1 + dice.below(2) as u32,
            replicas,
            isr_min,
            durability,
        }
    }
}

impl Faults {
    fn drawn(dice: &mut Dice) -> Self {
        let mut faults = Self {
            delay_ms: 1 + dice.below(4),
            sync_ms: 1 + dice.below(8),
            metadata_ms: 3 + dice.below(15),
            down_ms: 100 + dice.below(900),
            ..Self::default()
        };
        if dice.one_in(16) {
            return faults;
        }
        // Each seed has about a third of them.
        let mut rate = |one_in: u64, low: u64, high: u64| {
            if dice.one_in(one_in) {
                low + dice.below(high - low)
            } else {
                0
            }
        };
        faults.loss = rate(2, 1, 60);
        faults.duplicates = rate(2, 5, 100);
        faults.stale = rate(2, 2, 40);
        faults.lost_decisions = rate(3, 200, 900);
        faults.lost_proposals = rate(3, 300, 970);
        faults.drift = rate(3, 5, 50);
        faults.delay_ms += rate(3, 5, 60);
        faults.sync_ms += rate(3, 10, 120);
        faults.metadata_ms += rate(2, 30, 500);
        if rate(3, 1, 2) == 1 {
            faults.down_ms = 1;
        }
        faults.crash_every = rate(2, 200, 1500);
        faults.power_every = rate(2, 200, 1500);
        faults.outage_every = rate(8, 800, 3000);
        faults.pause_every = rate(2, 100, 1000);
        faults.cut_every = rate(2, 100, 1000);
        faults.controller_every = rate(3, 150, 1500);
        faults.move_every = rate(3, 100, 1000);
        faults.minimum_every = rate(3, 150, 1200);
        faults.election_every = rate(3, 50, 800);
        faults.stop_every = rate(4, 300, 2000);
        faults.sync_failure_every = rate(6, 300, 2000);
        faults.trim_every = rate(5, 200, 1000);
        faults
    }
}
