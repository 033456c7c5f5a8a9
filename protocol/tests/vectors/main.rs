//! The checked-in test vectors against our encoders and decoders, both ways.
//!
//! The files in `vectors/` were not written by this crate: the messages follow the tables of
//! `docs/PROTOCOL.md` field by field, the compressed batches come from the reference implementations
//! of their codecs. kafka-python reads the batches, and builds the plain one with the same bytes but
//! for the leader epoch, which no checksum covers.

#![allow(clippy::unwrap_used, reason = "a test")]

mod batches;
mod cluster_messages;
mod messages;
mod metadata_records;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_protocol::api_key::ApiKey;
use highwater_protocol::metadata_record::MetadataRecord;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// The bytes of a file: hex digits, blanks, and comments from `#` to the end of the line.
fn vector(name: &str) -> Bytes {
    let path = directory().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|c| !c.is_whitespace())
        .map(|c| {
            c.to_digit(16)
                .unwrap_or_else(|| panic!("{c:?} in {}", path.display())) as u8
        })
        .collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "half a byte in {}", path.display());
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

/// `CreateTopics` as `create_topics`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[test]
fn there_is_a_vector_for_everything_and_a_test_for_every_vector() {
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for api in ApiKey::ALL {
        let (lowest, highest) = api.versions();
        for version in lowest.0..=highest.0 {
            let name = snake_case(api.name());
            expected.insert(format!("{name}_request_v{version}"));
            expected.insert(format!("{name}_response_v{version}"));
        }
    }
    for (_, name) in MetadataRecord::KINDS {
        expected.insert(format!("metadata_{}_v1", snake_case(name)));
    }
    expected.extend(messages::ERRORS.iter().map(|(name, ..)| (*name).to_owned()));
    expected.extend(batches::ALL.iter().map(|name| (*name).to_owned()));
    let found: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, expected);
}
