//! `-f`: a line of verbs, as in kcat and rpk, and how a record fills it in.

use std::io::Write as _;

use super::record_view::RecordView;
use crate::escape::{EscapeError, take_escape};
use crate::moment::format_timestamp;

/// Why a text is not a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// A backslash sequence that is none.
    #[error("in the format: {0}")]
    Escape(#[from] EscapeError),
    /// A letter without a meaning.
    #[error("unknown format verb %{0}: known are %t %p %o %k %v %h %d %T %K %S %%")]
    UnknownVerb(char),
    /// A percent sign at the end.
    #[error("the format ends in a lone %: write %% for the sign itself")]
    LonePercent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Date,
    Millis,
    KeyLength,
    ValueLength,
}

/// How records are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
}

impl Format {
    /// Reads `%k: %v\n` and the like.
    pub(crate) fn parse(text: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '\\' => {
                    literal.push(take_escape(&mut chars)?);
                    continue;
                }
                '%' => match chars.next().ok_or(FormatError::LonePercent)? {
                    '%' => {
                        literal.push(b'%');
                        continue;
                    }
                    't' => Piece::Topic,
                    'p' => Piece::Partition,
                    'o' => Piece::Offset,
                    'k' => Piece::Key,
                    'v' => Piece::Value,
                    'h' => Piece::Headers,
                    'd' => Piece::Date,
                    'T' => Piece::Millis,
                    'K' => Piece::KeyLength,
                    'S' => Piece::ValueLength,
                    other => return Err(FormatError::UnknownVerb(other)),
                },
                other => {
                    literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// Whether the format prints headers, which are then worth decoding.
    pub(crate) fn wants_headers(&self) -> bool {
        self.pieces.contains(&Piece::Headers)
    }

    /// Appends the record.
    pub(crate) fn render(&self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Piece::Partition => append(out, record.partition),
                Piece::Offset => append(out, record.offset),
                Piece::Key => out.extend_from_slice(record.key.unwrap_or_default()),
                Piece::Value => out.extend_from_slice(record.value.unwrap_or_default()),
                Piece::Headers => append_headers(out, record),
                Piece::Date => append(out, format_timestamp(record.timestamp)),
                Piece::Millis => append(out, record.timestamp),
                Piece::KeyLength => append_length(out, record.key),
                Piece::ValueLength => append_length(out, record.value),
            }
        }
    }
}

fn append(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing to memory does not fail");
}

/// `-1` tells a missing value from an empty one, as in kcat.
fn append_length(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => append(out, bytes.len()),
        None => out.extend_from_slice(b"-1"),
    }
}

fn append_headers(out: &mut Vec<u8>, record: &RecordView<'_>) {
    for (index, (name, value)) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::ids::{Offset, PartitionId, Timestamp};

    use super::*;

    fn render(format: &str, record: &RecordView<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Format::parse(format).unwrap().render(record, &mut out);
        out
    }

    fn record() -> RecordView<'static> {
        RecordView {
            topic: "orders",
            partition: PartitionId::new(3),
            offset: Offset::new(42),
            timestamp: Timestamp::from_millis(1_767_225_600_123),
            key: Some(b"k1"),
            value: Some(b"hello"),
            headers: &[("a", Some(b"1")), ("b", None), ("a", Some(b"2"))],
        }
    }

    #[test]
    fn every_verb_prints_its_part() {
        let text = r"%t %p %o %k %v %h %d %T %K %S %%\n\t\x41ä";
        assert_eq!(
            String::from_utf8(render(text, &record())).unwrap(),
            "orders 3 42 k1 hello a=1,b=,a=2 2026-01-01T00:00:00.123Z 1767225600123 2 5 %\n\tAä"
        );
    }

    #[test]
    fn missing_and_empty_differ_in_their_length() {
        let tombstone = RecordView {
            key: Some(b""),
            value: None,
            headers: &[],
            ..record()
        };
        assert_eq!(render("[%k|%v|%h|%K|%S]", &tombstone), b"[|||0|-1]");
    }

    #[test]
    fn values_pass_through_untouched() {
        let binary = RecordView {
            value: Some(b"\x00\xff%v\\n"),
            ..record()
        };
        assert_eq!(render("%v", &binary), b"\x00\xff%v\\n");
        assert_eq!(render("", &binary), b"");
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Format::parse("%q"), Err(FormatError::UnknownVerb('q')));
        assert_eq!(Format::parse("100%"), Err(FormatError::LonePercent));
        assert_eq!(
            Format::parse("\\"),
            Err(FormatError::Escape(EscapeError::Unfinished))
        );
    }

    #[test]
    fn headers_are_decoded_only_for_who_prints_them() {
        assert!(Format::parse("%v %h").unwrap().wants_headers());
        assert!(!Format::parse("%v %%h").unwrap().wants_headers());
    }
}
