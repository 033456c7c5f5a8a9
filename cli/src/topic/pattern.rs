//! Names with `*` and `?` in them.

/// A pattern for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<u8>);

impl std::str::FromStr for Pattern {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.as_bytes().to_vec()))
    }
}

impl Pattern {
    /// Whether the whole name fits. Linear in the name for each `*`, never exponential: only the last
    /// star has to be tried again.
    pub(super) fn fits(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_slice(), name.as_bytes());
        let (mut in_pattern, mut in_name) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while in_name < name.len() {
            match pattern.get(in_pattern) {
                Some(b'*') => {
                    star = Some((in_pattern, in_name));
                    in_pattern += 1;
                }
                Some(byte) if *byte == b'?' || *byte == name[in_name] => {
                    in_pattern += 1;
                    in_name += 1;
                }
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        in_pattern = at + 1;
                        in_name = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[in_pattern..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().fits(name)
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name) in [
            ("orders", "orders"),
            ("*", ""),
            ("*", "anything"),
            ("orders.*", "orders.eu"),
            ("*.eu", "orders.eu"),
            ("o*s.*u", "orders.eu"),
            ("**a**", "bab"),
            ("order?", "orders"),
            ("a*b*c", "aXbbYbc"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("orders", "orders.eu"),
            ("order?", "order"),
            ("", "a"),
            ("*x", "xy"),
            ("a*b", "acbc"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        assert!(!fits(&"*a".repeat(50), &"a".repeat(49)));
    }
}
