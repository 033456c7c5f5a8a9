//! "Did you mean": the nearest name by edit distance.

use crate::setting::Setting;

/// The name or alias nearest to `key`, if one is near enough to be worth saying.
pub(crate) fn nearest(
    key: &str,
    settings: impl IntoIterator<Item = &'static Setting>,
) -> Option<String> {
    let wanted = comparable(key);
    if wanted.len() > 128 {
        return None;
    }
    let mut best: Option<(usize, &'static str)> = None;
    for setting in settings {
        for name in std::iter::once(&setting.key).chain(setting.aliases) {
            let distance = distance(&wanted, &comparable(name));
            // The canonical name is what one should write, also if an alias is what was nearly hit.
            if best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, setting.key));
            }
        }
    }
    let (distance, name) = best?;
    // A third of the letters wrong is another word, not a slip.
    (distance <= (wanted.chars().count() / 3).clamp(1, 5)).then(|| name.to_owned())
}

/// Case and separators are what people mix up most: they do not count.
fn comparable(name: &str) -> String {
    name.chars()
        .map(|c| {
            if matches!(c, '_' | '-') {
                '.'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::SETTINGS;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let meant = |key| nearest(key, SETTINGS);
        assert_eq!(meant("retention.sm").as_deref(), Some("retention.ms"));
        assert_eq!(meant("data_dir").as_deref(), Some("data.dir"));
        assert_eq!(meant("Segment-Bytes").as_deref(), Some("segment.bytes"));
        assert_eq!(
            meant("network.idle.timout").as_deref(),
            Some("network.idle.timeout")
        );
        assert_eq!(
            meant("socket.request.max.byte").as_deref(),
            Some("network.frame.bytes.max")
        );
        assert_eq!(meant("colour"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant(&"x".repeat(100_000)), None);
    }
}
