//! Waiting until a record is due, to the microsecond.
//!
//! Tokio's own timers count in milliseconds. A latency that is measured from the intended send time
//! would then consist of the timer's rounding; the kernel's timers do not round.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel.
#[derive(Debug)]
pub(crate) struct Pace {
    timer: AsyncFd<OwnedFd>,
}

impl Pace {
    /// A timer for use inside the current runtime.
    #[expect(
        deprecated,
        reason = "the replacement is unsafe to call; an owned descriptor is valid while it lives"
    )]
    pub(crate) fn new() -> Result<Pace> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .context("creating a timer")?;
        Ok(Pace {
            timer: AsyncFd::new(timer)?,
        })
    }

    /// Waits until `due`; returns at once if that has passed.
    ///
    /// Cancel safety: dropped, the next wait sets the timer anew.
    pub(crate) async fn wait_until(&self, due: Instant) -> Result<()> {
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        timerfd_settime(
            self.timer.get_ref(),
            TimerfdTimerFlags::empty(),
            &once_after(wait)?,
        )?;
        let mut expirations = [0; 8];
        loop {
            let mut ready = self.timer.readable().await?;
            let read = ready.try_io(|timer| {
                rustix::io::read(timer.get_ref(), &mut expirations).map_err(io::Error::from)
            });
            match read {
                Ok(result) => return result.map(drop).context("reading a timer"),
                Err(_not_yet) => {}
            }
        }
    }
}

fn once_after(wait: Duration) -> Result<Itimerspec> {
    Ok(Itimerspec {
        it_interval: Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: Timespec {
            tv_sec: i64::try_from(wait.as_secs())?,
            tv_nsec: i64::from(wait.subsec_nanos()),
        },
    })
}

/// When each record of a run is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    per_second: u64,
}

impl Schedule {
    /// Records at an even rate from `start` on.
    pub(crate) fn new(start: Instant, per_second: u64) -> Schedule {
        Schedule { start, per_second }
    }

    /// When the record with this number, from 0, is due.
    pub(crate) fn due(&self, record: u64) -> Instant {
        let nanos = u128::from(record) * 1_000_000_000 / u128::from(self.per_second);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many records are due by `now`.
    pub(crate) fn due_by(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        let before = nanos * u128::from(self.per_second) / 1_000_000_000;
        u64::try_from(before).map_or(u64::MAX, |before| before.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Pace, Schedule};

    #[test]
    fn records_are_due_evenly() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 1000);
        assert_eq!(schedule.due(0), start);
        assert_eq!(schedule.due(1500), start + Duration::from_millis(1500));
        assert_eq!(schedule.due_by(start), 1);
        assert_eq!(schedule.due_by(start + Duration::from_millis(10)), 11);
    }

    #[tokio::test]
    async fn a_wait_is_never_too_short() {
        let pace = Pace::new().unwrap();
        for micros in [0, 100, 3000] {
            let due = Instant::now() + Duration::from_micros(micros);
            pace.wait_until(due).await.unwrap();
            assert!(Instant::now() >= due);
        }
    }
}
