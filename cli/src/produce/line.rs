//! What a line of input is: key, value, or neither.

use crate::escape::{EscapeError, unescape};

/// How lines become records.
#[derive(Debug, Clone, Default)]
pub(crate) struct LineFormat {
    /// What separates the key from the value; without it lines have no key.
    pub(crate) key_separator: Option<Vec<u8>>,
    /// The key of every record, if lines have none.
    pub(crate) fixed_key: Option<Vec<u8>>,
    /// The text that stands for "no value" and "no key".
    pub(crate) null: Option<Vec<u8>>,
}

/// A line without the key separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MissingSeparator;

/// Key and value of a record, either of which may be null.
pub(crate) type KeyValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl LineFormat {
    /// Key and value of a line.
    pub(crate) fn split<'a>(&'a self, line: &'a [u8]) -> Result<KeyValue<'a>, MissingSeparator> {
        let (key, value) = match &self.key_separator {
            None => (self.fixed_key.as_deref(), line),
            Some(separator) => {
                let at = find(line, separator).ok_or(MissingSeparator)?;
                (Some(&line[..at]), &line[at + separator.len()..])
            }
        };
        let not_null = |bytes: &&[u8]| self.null.as_deref() != Some(*bytes);
        Ok((key.filter(not_null), Some(value).filter(not_null)))
    }
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    match separator {
        [byte] => memchr::memchr(*byte, line),
        _ => memchr::memmem::find(line, separator),
    }
}

/// A delimiter or separator as typed: escapes are known, and it must not be empty.
pub(crate) fn parse_separator(text: &str) -> Result<Vec<u8>, SeparatorError> {
    let bytes = unescape(text)?;
    if bytes.is_empty() {
        Err(SeparatorError::Empty)
    } else {
        Ok(bytes)
    }
}

/// Why a text cannot separate anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SeparatorError {
    /// The empty text.
    #[error("must not be empty")]
    Empty,
    /// A wrong escape.
    #[error(transparent)]
    Escape(#[from] EscapeError),
}

/// A header as typed: `name=value`. A bare `name` has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderArg {
    /// The name.
    pub(crate) name: String,
    /// The value.
    pub(crate) value: Option<String>,
}

impl std::str::FromStr for HeaderArg {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err("a header is written name=value");
        }
        Ok(Self {
            name: name.to_owned(),
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_divides() {
        let format = LineFormat {
            key_separator: Some(b":".to_vec()),
            ..LineFormat::default()
        };
        assert_eq!(
            format.split(b"k:v:w"),
            Ok((Some(&b"k"[..]), Some(&b"v:w"[..])))
        );
        assert_eq!(format.split(b":v"), Ok((Some(&b""[..]), Some(&b"v"[..]))));
        assert_eq!(format.split(b"k:"), Ok((Some(&b"k"[..]), Some(&b""[..]))));
        assert_eq!(format.split(b"kv"), Err(MissingSeparator));
        let long = LineFormat {
            key_separator: Some(b"::".to_vec()),
            ..LineFormat::default()
        };
        assert_eq!(
            long.split(b"a:b::c"),
            Ok((Some(&b"a:b"[..]), Some(&b"c"[..])))
        );
    }

    #[test]
    fn without_a_separator_the_line_is_the_value() {
        assert_eq!(
            LineFormat::default().split(b"a:b"),
            Ok((None, Some(&b"a:b"[..])))
        );
        let fixed = LineFormat {
            fixed_key: Some(b"k".to_vec()),
            ..LineFormat::default()
        };
        assert_eq!(fixed.split(b"v"), Ok((Some(&b"k"[..]), Some(&b"v"[..]))));
    }

    #[test]
    fn the_null_text_stands_for_nothing() {
        let format = LineFormat {
            key_separator: Some(b"\t".to_vec()),
            null: Some(b"NULL".to_vec()),
            ..LineFormat::default()
        };
        assert_eq!(format.split(b"k\tNULL"), Ok((Some(&b"k"[..]), None)));
        assert_eq!(format.split(b"NULL\tv"), Ok((None, Some(&b"v"[..]))));
        assert_eq!(
            format.split(b"k\tNULLS"),
            Ok((Some(&b"k"[..]), Some(&b"NULLS"[..])))
        );
    }

    #[test]
    fn separators_and_headers_as_typed() {
        assert_eq!(parse_separator("\\t"), Ok(b"\t".to_vec()));
        assert_eq!(parse_separator(""), Err(SeparatorError::Empty));
        let header: HeaderArg = "a=b=c".parse().unwrap();
        assert_eq!(
            (header.name.as_str(), header.value.as_deref()),
            ("a", Some("b=c"))
        );
        assert_eq!("a".parse::<HeaderArg>().unwrap().value, None);
        assert!("=b".parse::<HeaderArg>().is_err());
    }
}
