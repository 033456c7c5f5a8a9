//! `--output json`: one JSON object a line, which `produce --from-json` reads back.
//!
//! Keys, values and header values that are UTF-8 stand as text; others stand in base64 under the
//! same name with `_base64` behind it.

use serde::ser::{SerializeMap as _, SerializeSeq as _, Serializer};

use super::record_view::RecordView;
use crate::base64;

/// Appends the record and a line feed.
pub(crate) fn render(record: &RecordView<'_>, out: &mut Vec<u8>) {
    let mut serializer = serde_json::Serializer::new(&mut *out);
    serialize(record, &mut serializer).expect("writing to memory does not fail");
    out.push(b'\n');
}

fn serialize<S: Serializer>(record: &RecordView<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("topic", record.topic)?;
    map.serialize_entry("partition", &record.partition.get())?;
    map.serialize_entry("offset", &record.offset.get())?;
    map.serialize_entry("timestamp", &record.timestamp.millis())?;
    serialize_bytes(&mut map, ("key", "key_base64"), record.key)?;
    serialize_bytes(&mut map, ("value", "value_base64"), record.value)?;
    if !record.headers.is_empty() {
        map.serialize_entry("headers", &Headers(record.headers))?;
    }
    map.end()
}

fn serialize_bytes<M: serde::ser::SerializeMap>(
    map: &mut M,
    (text_name, base64_name): (&'static str, &'static str),
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(std::str::from_utf8) {
        None => map.serialize_entry(text_name, &()),
        Some(Ok(text)) => map.serialize_entry(text_name, text),
        Some(Err(_)) => {
            map.serialize_entry(base64_name, &base64::encode(bytes.unwrap_or_default()))
        }
    }
}

struct Headers<'a>(&'a [(&'a str, Option<&'a [u8]>)]);

impl serde::Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (name, value) in self.0 {
            list.serialize_element(&Header(name, *value))?;
        }
        list.end()
    }
}

struct Header<'a>(&'a str, Option<&'a [u8]>);

impl serde::Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("name", self.0)?;
        serialize_bytes(&mut map, ("value", "value_base64"), self.1)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::ids::{Offset, PartitionId, Timestamp};

    use super::*;

    fn line(record: &RecordView<'_>) -> String {
        let mut out = Vec::new();
        render(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stands_as_text_and_other_bytes_in_base64() {
        let mut record = RecordView {
            topic: "t",
            partition: PartitionId::new(1),
            offset: Offset::new(2),
            timestamp: Timestamp::from_millis(3),
            key: None,
            value: Some(b"a\"\n\xc3\xa4"),
            headers: &[],
        };
        assert_eq!(
            line(&record),
            "{\"topic\":\"t\",\"partition\":1,\"offset\":2,\"timestamp\":3,\"key\":null,\"value\":\"a\\\"\\nä\"}\n"
        );
        record.key = Some(b"");
        record.value = Some(b"\xff\x00");
        record.headers = &[("h", Some(b"1")), ("h", None), ("b", Some(b"\xff"))];
        assert_eq!(
            line(&record),
            "{\"topic\":\"t\",\"partition\":1,\"offset\":2,\"timestamp\":3,\"key\":\"\",\"value_base64\":\"/wA=\",\
             \"headers\":[{\"name\":\"h\",\"value\":\"1\"},{\"name\":\"h\",\"value\":null},{\"name\":\"b\",\"value_base64\":\"/w==\"}]}\n"
        );
    }
}
