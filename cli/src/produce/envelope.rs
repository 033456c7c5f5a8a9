//! `--from-json`: records as `consume --output json` prints them.

use std::borrow::Cow;

use serde::Deserialize;

use crate::base64;

/// A record as a JSON object. Where it came from (topic, partition, offset) is ignored, and so is
/// everything that we do not know.
#[derive(Debug, Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(borrow, default)]
    headers: Vec<EnvelopeHeader<'a>>,
}

#[derive(Debug, Deserialize)]
struct EnvelopeHeader<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
}

/// A record that was read from JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonRecord {
    /// The key.
    pub(crate) key: Option<Vec<u8>>,
    /// The value.
    pub(crate) value: Option<Vec<u8>>,
    /// Milliseconds since 1970, if the object has it.
    pub(crate) timestamp: Option<i64>,
    /// The headers in order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvelopeError {
    /// Not JSON, or not such an object.
    #[error("not a record in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A field that ends in `_base64` and is not.
    #[error("{field} is not valid base64")]
    Base64 {
        /// The field.
        field: &'static str,
    },
    /// The same thing as text and in base64.
    #[error("{field} is given twice, as text and in base64")]
    Twice {
        /// The field.
        field: &'static str,
    },
}

/// Reads one line.
pub(crate) fn parse(line: &[u8]) -> Result<JsonRecord, EnvelopeError> {
    let envelope: Envelope<'_> = serde_json::from_slice(line)?;
    Ok(JsonRecord {
        key: bytes("key", envelope.key, envelope.key_base64)?,
        value: bytes("value", envelope.value, envelope.value_base64)?,
        timestamp: envelope.timestamp,
        headers: envelope
            .headers
            .into_iter()
            .map(|header| {
                Ok((
                    header.name.into_owned(),
                    bytes("header", header.value, header.value_base64)?,
                ))
            })
            .collect::<Result<_, EnvelopeError>>()?,
    })
}

fn bytes(
    field: &'static str,
    text: Option<Cow<'_, str>>,
    encoded: Option<Cow<'_, str>>,
) -> Result<Option<Vec<u8>>, EnvelopeError> {
    match (text, encoded) {
        (Some(_), Some(_)) => Err(EnvelopeError::Twice { field }),
        (Some(text), None) => Ok(Some(text.into_owned().into_bytes())),
        (None, Some(encoded)) => base64::decode(&encoded)
            .map(Some)
            .map_err(|_| EnvelopeError::Base64 { field }),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_become_records() {
        let line = br#"{"topic":"t","partition":1,"offset":2,"timestamp":3,"key":"k\n","value_base64":"/wA=",
            "headers":[{"name":"a","value":"1"},{"name":"a","value":null},{"name":"b","value_base64":"/w=="}],"more":{}}"#;
        let record = parse(line).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"k\n"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"\xff\x00"[..]));
        assert_eq!(record.timestamp, Some(3));
        let headers = [
            ("a".to_owned(), Some(b"1".to_vec())),
            ("a".to_owned(), None),
            ("b".to_owned(), Some(b"\xff".to_vec())),
        ];
        assert_eq!(record.headers, headers);
        let empty = JsonRecord {
            key: None,
            value: None,
            timestamp: None,
            headers: Vec::new(),
        };
        assert_eq!(parse(b"{}").unwrap(), empty);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(parse(b"hello"), Err(EnvelopeError::Json(_))));
        assert!(matches!(parse(b"{\"key\":5}"), Err(EnvelopeError::Json(_))));
        assert!(matches!(
            parse(b"{\"key_base64\":\"?\"}"),
            Err(EnvelopeError::Base64 { .. })
        ));
        let twice = b"{\"value\":\"a\",\"value_base64\":\"YQ==\"}";
        assert!(matches!(
            parse(twice),
            Err(EnvelopeError::Twice { field: "value" })
        ));
    }
}
