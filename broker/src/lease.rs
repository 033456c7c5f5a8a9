//! The lease: until when this broker may answer clients for the partitions that it leads.
//!
//! The controller does not give a broker's partitions to others before the broker's session is over,
//! and a broker believes in its session for a little less than that, from the moment at which it sent
//! the heartbeat that was answered. So the lease of an old leader is over before there is a new one,
//! and no reader gets from the old one what the new one has overtaken.
//!
//! It is looked at **after** the read or the append and before the answer: a process that is stopped
//! between a look and a read would answer with what is stale when it wakes up. Followers are served
//! without a lease: what they fetch is fenced by epochs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_coordination::moment::Moment;
use rustix::time::{ClockId, clock_gettime};

/// A moment of the clock that counts from the machine's start and goes on while it is suspended, in ms:
/// a lease must run out in a machine that sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(u64);

impl BootTime {
    /// Now.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or_default();
        Self(seconds.saturating_mul(1000).saturating_add(millis))
    }

    /// So much later.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long ago it was.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_millis(Self::now().0.saturating_sub(self.0))
    }

    /// As decisions about replication see it.
    pub(crate) const fn moment(self) -> Moment {
        Moment::from_millis(self.0)
    }
}

/// The time now, for decisions about replication.
pub(crate) fn now() -> Moment {
    BootTime::now().moment()
}

/// A broker's lease.
#[derive(Debug)]
pub(crate) struct Lease {
    /// In ms of [`BootTime`]; the lease is valid before it.
    valid_until: AtomicU64,
}

impl Lease {
    /// There is none yet.
    pub(crate) const fn none() -> Self {
        Self {
            valid_until: AtomicU64::new(0),
        }
    }

    /// One that never ends.
    #[cfg(test)]
    pub(crate) const fn always() -> Self {
        Self {
            valid_until: AtomicU64::new(u64::MAX),
        }
    }

    /// The session was confirmed. A lease is never made shorter by an answer that came late.
    pub(crate) fn renew(&self, valid_until: BootTime) {
        self.valid_until.fetch_max(valid_until.0, Ordering::AcqRel);
    }

    /// It is over: the broker was fenced, or gives its session up.
    pub(crate) fn end(&self) {
        self.valid_until.store(0, Ordering::Release);
    }

    /// How long it is still valid if nothing renews it: zero when it is over, `None` when it never ends.
    pub(crate) fn left(&self) -> Option<Duration> {
        match self.valid_until.load(Ordering::Acquire) {
            u64::MAX => None,
            until => Some(Duration::from_millis(
                until.saturating_sub(BootTime::now().0),
            )),
        }
    }

    /// Whether clients may be answered now.
    pub(crate) fn is_valid(&self) -> bool {
        match self.valid_until.load(Ordering::Acquire) {
            0 => false,
            u64::MAX => true,
            until => BootTime::now().0 < until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_by_itself_and_is_not_shortened_by_a_late_answer() {
        let lease = Lease::none();
        assert!(!lease.is_valid());
        let now = BootTime::now();
        assert_eq!(lease.left(), Some(Duration::ZERO));
        lease.renew(now.plus(Duration::from_secs(3600)));
        assert!(lease.is_valid());
        let left = lease.left().unwrap();
        assert!(left > Duration::from_secs(3000) && left <= Duration::from_secs(3600));
        lease.renew(now);
        assert!(lease.is_valid(), "a late answer takes nothing away");
        lease.end();
        assert!(!lease.is_valid());
        assert_eq!(lease.left(), Some(Duration::ZERO));
        lease.renew(now);
        assert!(!lease.is_valid(), "that moment has passed");
        assert!(Lease::always().is_valid());
        assert_eq!(Lease::always().left(), None);
    }
}
