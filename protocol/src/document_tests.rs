//! `docs/PROTOCOL.md` against the code: a client that is written from that file must be right.

use std::path::Path;

use crate::api_key::ApiKey;
use crate::error_code::ErrorCode;
use crate::messages as m;
use crate::partitioner::murmur2;

type Layout = (&'static str, &'static [(&'static str, &'static str, u16)]);

const LAYOUTS: &[Layout] = &[
    m::HelloRequest::LAYOUT,
    m::HelloResponse::LAYOUT,
    m::ApiRange::LAYOUT,
    m::MetadataRequest::LAYOUT,
    m::MetadataResponse::LAYOUT,
    m::BrokerEndpoint::LAYOUT,
    m::TopicMetadata::LAYOUT,
    m::PartitionMetadata::LAYOUT,
    m::ProduceRequest::LAYOUT,
    m::ProduceTopic::LAYOUT,
    m::ProducePartition::LAYOUT,
    m::ProduceResponse::LAYOUT,
    m::ProduceTopicResult::LAYOUT,
    m::ProducePartitionResult::LAYOUT,
    m::FetchRequest::LAYOUT,
    m::FetchReplica::LAYOUT,
    m::FetchTopic::LAYOUT,
    m::FetchPartition::LAYOUT,
    m::FetchResponse::LAYOUT,
    m::FetchTopicResult::LAYOUT,
    m::FetchPartitionResult::LAYOUT,
    m::EpochEnd::LAYOUT,
    m::ListOffsetsRequest::LAYOUT,
    m::ListOffsetsTopic::LAYOUT,
    m::ListOffsetsPartition::LAYOUT,
    m::ListOffsetsResponse::LAYOUT,
    m::ListOffsetsTopicResult::LAYOUT,
    m::ListOffsetsPartitionResult::LAYOUT,
    m::CreateTopicsRequest::LAYOUT,
    m::NewTopic::LAYOUT,
    m::ConfigEntry::LAYOUT,
    m::CreateTopicsResponse::LAYOUT,
    m::NewTopicResult::LAYOUT,
    m::DeleteTopicsRequest::LAYOUT,
    m::DeleteTopicsResponse::LAYOUT,
    m::TopicResult::LAYOUT,
    m::CreatePartitionsRequest::LAYOUT,
    m::MorePartitions::LAYOUT,
    m::CreatePartitionsResponse::LAYOUT,
    m::DeleteRecordsRequest::LAYOUT,
    m::DeleteRecordsTopic::LAYOUT,
    m::DeleteRecordsPartition::LAYOUT,
    m::DeleteRecordsResponse::LAYOUT,
    m::DeleteRecordsTopicResult::LAYOUT,
    m::DeleteRecordsPartitionResult::LAYOUT,
    m::DescribeConfigsRequest::LAYOUT,
    m::DescribeConfigsResponse::LAYOUT,
    m::TopicConfigs::LAYOUT,
    m::ConfigDescription::LAYOUT,
    m::AlterConfigsRequest::LAYOUT,
    m::TopicConfigChanges::LAYOUT,
    m::ConfigChange::LAYOUT,
    m::AlterConfigsResponse::LAYOUT,
    m::DescribeClusterRequest::LAYOUT,
    m::DescribeClusterResponse::LAYOUT,
    m::BrokerDescription::LAYOUT,
];

fn protocol() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    std::fs::read_to_string(protocol().join("../docs/PROTOCOL.md")).unwrap()
}

/// The cells of the table rows behind the line `start`, without the two lines of its head.
fn table<'a>(document: &'a str, start: &str) -> Vec<Vec<&'a str>> {
    let mut lines = document.lines().skip_while(|line| *line != start);
    assert!(lines.next().is_some(), "PROTOCOL.md has no line {start:?}");
    let rows = lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|l| l.starts_with('|'));
    rows.skip(2)
        .map(|row| {
            let row = row
                .strip_prefix('|')
                .and_then(|row| row.strip_suffix('|'))
                .unwrap();
            row.split('|').map(str::trim).collect()
        })
        .collect()
}

/// A Rust type as the document names it.
fn documented_type(rust: &str) -> String {
    if let Some(inner) = rust
        .strip_prefix("Option<")
        .and_then(|rest| rest.strip_suffix('>'))
    {
        return format!("option<{}>", documented_type(inner));
    }
    if let Some(inner) = rust
        .strip_prefix("Vec<")
        .and_then(|rest| rest.strip_suffix('>'))
    {
        return format!("array<{}>", documented_type(inner));
    }
    let named = match rust {
        "String" => "string",
        "Bytes" => "bytes",
        "ErrorCode" => "u16",
        "Acks" | "Isolation" | "ConfigSource" => "u8",
        "LeaderEpoch" | "NodeId" | "PartitionId" => "u32",
        "BrokerEpoch" | "Offset" => "u64",
        "Timestamp" => "i64",
        "TopicId" | "ClusterId" | "DirectoryId" | "IncarnationId" => "uuid",
        other => other,
    };
    named.to_owned()
}

#[test]
fn every_message_is_documented_as_it_is() {
    let document = document();
    for (name, fields) in LAYOUTS {
        let documented: Vec<(String, String)> = table(&document, &format!("**{name}**"))
            .into_iter()
            .map(|row| (row[0].to_owned(), row[1].trim_matches('`').to_owned()))
            .collect();
        let declared: Vec<(String, String)> = fields
            .iter()
            .map(|(field, ty, since)| {
                let since = if *since > 1 {
                    format!(", since {since}")
                } else {
                    String::new()
                };
                (
                    (*field).to_owned(),
                    format!("{}{since}", documented_type(ty)),
                )
            })
            .collect();
        assert_eq!(documented, declared, "{name}");
    }
}

#[test]
fn no_message_was_forgotten() {
    let mut declared = 0;
    for entry in std::fs::read_dir(protocol().join("src/messages")).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        declared += source.matches("wire_struct! {").count();
    }
    assert_eq!(LAYOUTS.len(), declared, "a message is missing in LAYOUTS");
    let document = document();
    let tables = document.lines().filter(|line| {
        let name = line
            .strip_prefix("**")
            .and_then(|line| line.strip_suffix("**"));
        name.is_some_and(|name| name.chars().all(char::is_alphanumeric))
    });
    assert_eq!(tables.count(), declared, "PROTOCOL.md has a table too many");
}

#[test]
fn every_api_is_documented() {
    let document = document();
    let rows = table(&document, "## 4. APIs");
    let documented: Vec<_> = rows
        .iter()
        .map(|row| (row[0].to_owned(), row[2].to_owned()))
        .collect();
    let known: Vec<_> = ApiKey::ALL
        .iter()
        .map(|api| {
            let (lowest, highest) = api.versions();
            (
                api.code().to_string(),
                format!("{} to {}", lowest.0, highest.0),
            )
        })
        .collect();
    assert_eq!(documented, known);
    for (api, row) in ApiKey::ALL.iter().zip(&rows) {
        assert!(row[1].starts_with(&format!("[{api}](#")), "{api}");
        let heading = format!("### {api} (api {})", api.code());
        assert!(
            document.lines().any(|line| line == heading),
            "no line {heading:?}"
        );
    }
}

#[test]
fn the_error_table_is_the_enum() {
    let document = document();
    let documented: Vec<_> = table(&document, "## 7. Errors")
        .into_iter()
        .map(|row| (row[0].to_owned(), row[1].to_owned(), row[2].to_owned()))
        .collect();
    let known: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|error| {
            (
                error.code().to_string(),
                error.to_string(),
                format!("{:?}", error.remedy()),
            )
        })
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn the_values_of_enums_are_documented() {
    let document = document();
    for (name, value) in m::Acks::VALUES {
        assert!(
            document.contains(&format!("\n| {value} | {name} | ")),
            "acks {name}"
        );
    }
    for (name, value) in m::Isolation::VALUES.iter().chain(m::ConfigSource::VALUES) {
        assert!(
            document.contains(&format!("{value} `{name}`")),
            "{name} {value}"
        );
    }
}

#[test]
fn the_examples_are_the_test_vectors() {
    let document = document();
    let mut found = 0;
    for entry in std::fs::read_dir(protocol().join("vectors")).unwrap() {
        let vector = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let first = vector.lines().next().unwrap();
        if document.lines().any(|line| line == first) {
            assert!(
                document.contains(&vector),
                "the example {first:?} differs from its vector"
            );
            found += 1;
        }
    }
    assert_eq!(found, 7);
}

#[test]
fn the_hashes_of_the_partitioner_are_right() {
    let document = document();
    let rows = table(&document, "## 9. Which partition a record goes to");
    assert!(!rows.is_empty());
    for row in rows {
        let key = row[0].trim_matches('`');
        assert_eq!(
            row[1],
            format!("{:#010x}", murmur2(key.as_bytes())),
            "{key}"
        );
    }
}
