//! `docs/PROTOCOL.md` against the code: a client that is written from that file must be right.

use std::path::Path;

use crate::api_key::ApiKey;
use crate::error_code::ErrorCode;
use crate::messages as m;
use crate::metadata_record::MetadataRecord;
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
    m::FetchSession::LAYOUT,
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
    m::InitProducerIdRequest::LAYOUT,
    m::InitProducerIdResponse::LAYOUT,
    m::DescribeQuorumRequest::LAYOUT,
    m::DescribeQuorumResponse::LAYOUT,
    m::QuorumMember::LAYOUT,
    m::AlterVotersRequest::LAYOUT,
    m::AlterVotersResponse::LAYOUT,
    m::DrainNodeRequest::LAYOUT,
    m::DrainNodeResponse::LAYOUT,
    m::RemoveNodeRequest::LAYOUT,
    m::RemoveNodeResponse::LAYOUT,
    m::MoveReplicasRequest::LAYOUT,
    m::ReplicaMove::LAYOUT,
    m::MoveReplicasResponse::LAYOUT,
    m::ElectLeadersRequest::LAYOUT,
    m::TopicPartition::LAYOUT,
    m::ElectLeadersResponse::LAYOUT,
    m::BalanceRequest::LAYOUT,
    m::BalanceResponse::LAYOUT,
    m::PlannedMove::LAYOUT,
    m::AbsentNode::LAYOUT,
    m::DiscoverRequest::LAYOUT,
    m::DiscoverResponse::LAYOUT,
    m::JoinClusterRequest::LAYOUT,
    m::JoinClusterResponse::LAYOUT,
    m::RegisterBrokerRequest::LAYOUT,
    m::RegisterBrokerResponse::LAYOUT,
    m::BrokerHeartbeatRequest::LAYOUT,
    m::PartitionsOfTopic::LAYOUT,
    m::ReplicaToRebuild::LAYOUT,
    m::BrokerHeartbeatResponse::LAYOUT,
    m::AlterPartitionRequest::LAYOUT,
    m::AlterPartitionTopic::LAYOUT,
    m::IsrProposal::LAYOUT,
    m::IsrMember::LAYOUT,
    m::AlterPartitionResponse::LAYOUT,
    m::AlterPartitionTopicResult::LAYOUT,
    m::IsrDecision::LAYOUT,
    m::AllocateProducerIdsRequest::LAYOUT,
    m::AllocateProducerIdsResponse::LAYOUT,
    m::ReplicaLogsRequest::LAYOUT,
    m::ReplicaLogsResponse::LAYOUT,
    m::ReplicaLog::LAYOUT,
    m::RaftAppendRequest::LAYOUT,
    m::RaftBallot::LAYOUT,
    m::RaftLogId::LAYOUT,
    m::RaftEntry::LAYOUT,
    m::RaftRecords::LAYOUT,
    m::RaftMembership::LAYOUT,
    m::RaftVoters::LAYOUT,
    m::RaftNode::LAYOUT,
    m::RaftAppendResponse::LAYOUT,
    m::RaftVoteRequest::LAYOUT,
    m::RaftVoteResponse::LAYOUT,
    m::RaftSnapshotRequest::LAYOUT,
    m::RaftSnapshotResponse::LAYOUT,
    m::RaftProbeRequest::LAYOUT,
    m::RaftProbeResponse::LAYOUT,
];

/// The enums of one byte. How acks are answered has a table of its own.
const ENUMS: &[(&str, &[(&str, u8)])] = &[
    ("Acks", m::Acks::VALUES),
    ("Isolation", m::Isolation::VALUES),
    ("ConfigSource", m::ConfigSource::VALUES),
    ("ElectionKind", m::ElectionKind::VALUES),
    ("BalanceAction", m::BalanceAction::VALUES),
    ("MoveReason", m::MoveReason::VALUES),
    ("SessionEnd", m::SessionEnd::VALUES),
    ("RaftEntryKind", m::RaftEntryKind::VALUES),
    ("RaftAppendOutcome", m::RaftAppendOutcome::VALUES),
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
        "String" | "TopicName" => "string",
        "Bytes" => "bytes",
        "ErrorCode" => "u16",
        "ProducerEpoch" => "u16",
        "LeaderEpoch" | "NodeId" | "PartitionId" => "u32",
        "BrokerEpoch" | "Offset" | "ProducerId" => "u64",
        "Timestamp" => "i64",
        "TopicId" | "ClusterId" | "DirectoryId" | "IncarnationId" => "uuid",
        other if ENUMS.iter().any(|(name, _)| *name == other) => "u8",
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
    // Their list begins at the name of the field or of the enum, and ends with the paragraph.
    let list_of = |name: &str| {
        let name = match name {
            "Isolation" => "`isolation`: ",
            "ConfigSource" => "`source`: ",
            other => &format!("`{other}`: "),
        };
        let mut paragraphs = document.split("\n\n");
        let found = paragraphs.find_map(|paragraph| paragraph.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("no paragraph begins with {name}"))
            .to_owned()
    };
    for (name, values) in ENUMS.iter().filter(|(name, _)| *name != "Acks") {
        let list = list_of(name);
        for (value, number) in *values {
            let entry = format!("{number} `{value}`");
            assert!(list.contains(&entry), "{name} has no {entry}: {list}");
        }
        assert!(!list.contains(&format!("{} `", values.len())), "{name}");
    }
}

#[test]
fn every_metadata_record_is_documented_as_it_is() {
    let document = document();
    let mut headings = 0;
    for (kind, name, version, fields) in MetadataRecord::LAYOUTS {
        let heading = format!("**{name}** (kind {kind}, version {version})");
        let documented: Vec<(String, String)> = table(&document, &heading)
            .into_iter()
            .map(|row| (row[0].to_owned(), row[1].trim_matches('`').to_owned()))
            .collect();
        let declared: Vec<(String, String)> = fields
            .iter()
            .map(|(field, ty)| ((*field).to_owned(), documented_type(ty)))
            .collect();
        assert_eq!(documented, declared, "{name}");
        headings += 1;
    }
    let found = document.lines().filter(|line| line.contains("** (kind "));
    assert_eq!(found.count(), headings, "a record too many");
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
