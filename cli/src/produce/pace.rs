//! `--rate`: how many records may have been sent by when.

use std::time::Duration;

/// Records per second, as typed: `100`, `100/s`, `6000/m`, `10k`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(f64);

impl std::str::FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write records per second, as in 100, 2.5/s, 10k or 600/m";
        let (number, seconds) = match text.split_once('/') {
            None | Some((_, "s")) => (text.split('/').next().unwrap_or(text), 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some(_) => return Err(FORM),
        };
        let (digits, factor) = match number.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1e3),
            None => match number.strip_suffix('M') {
                Some(digits) => (digits, 1e6),
                None => (number, 1.0),
            },
        };
        let value: f64 = digits.parse().map_err(|_| FORM)?;
        let rate = value * factor / seconds;
        if rate.is_finite() && rate > 0.0 {
            Ok(Self(rate))
        } else {
            Err(FORM)
        }
    }
}

impl Rate {
    /// When the record of this number (from 0) is due, counted from the start.
    pub(crate) fn due(self, record: u64) -> Duration {
        Duration::try_from_secs_f64(record as f64 / self.0).unwrap_or(Duration::MAX)
    }

    /// How many records may go out together: what is due within 10 ms, but at least one.
    pub(crate) fn burst(self) -> usize {
        ((self.0 / 100.0) as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> f64 {
        text.parse::<Rate>().unwrap().0
    }

    #[test]
    fn rates_as_typed() {
        assert_eq!(rate("100"), 100.0);
        assert_eq!(rate("100/s"), 100.0);
        assert_eq!(rate("600/m"), 10.0);
        assert_eq!(rate("36/h"), 0.01);
        assert_eq!(rate("10k"), 10_000.0);
        assert_eq!(rate("2M/s"), 2e6);
        assert_eq!(rate("0.5"), 0.5);
        for bad in ["", "0", "-1", "x", "1/d", "1/s/s", "inf", "nan", "k"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn records_are_due_evenly() {
        let rate: Rate = "100".parse().unwrap();
        assert_eq!(rate.due(0), Duration::ZERO);
        assert_eq!(rate.due(250), Duration::from_millis(2500));
        assert_eq!(rate.burst(), 1);
        assert_eq!("10k".parse::<Rate>().unwrap().burst(), 100);
        assert_eq!(
            "0.000000000000000001"
                .parse::<Rate>()
                .unwrap()
                .due(u64::MAX),
            Duration::MAX
        );
    }
}
