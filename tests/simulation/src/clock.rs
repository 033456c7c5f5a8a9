//! Each machine's clock: it begins anywhere, and runs a little too fast or too slow.

use highwater_coordination::moment::Moment;
use highwater_storage::sim_disk::Dice;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    begin: u64,
    /// Thousandths of the true rate.
    rate: u64,
}

impl Clock {
    /// `drift`: by how many thousandths the rate may differ.
    pub(crate) fn drawn(dice: &mut Dice, drift: u64) -> Self {
        Self {
            begin: 1000 + dice.below(100_000),
            rate: 1000 - drift + dice.below(2 * drift + 1),
        }
    }

    /// What it shows at a true time, in ms.
    pub(crate) fn millis(&self, now: u64) -> u64 {
        self.begin + now * self.rate / 1000
    }

    pub(crate) fn moment(&self, now: u64) -> Moment {
        Moment::from_millis(self.millis(now))
    }
}
