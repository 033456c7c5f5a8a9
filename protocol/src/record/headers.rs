//! The headers of records, decoded when looked at.

use bytes::Bytes;

use super::take_nullable;
use crate::varint::read_varint;

/// The headers of a [`RecordRef`](super::RecordRef), decoded when looked at; the same key may come several times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadersRef<'a> {
    count: u32,
    /// Checked when the record was decoded: `count` headers and nothing else.
    bytes: &'a [u8],
}

impl<'a> HeadersRef<'a> {
    #[inline]
    pub(super) fn to_owned_in(self, data: &Bytes) -> Headers {
        let bytes = if self.count == 0 {
            Bytes::new()
        } else {
            data.slice_ref(self.bytes)
        };
        Headers {
            count: self.count,
            bytes,
        }
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Key and value of each, in order.
    #[must_use]
    pub const fn iter(&self) -> HeaderIter<'a> {
        HeaderIter {
            left: self.count,
            rest: self.bytes,
        }
    }

    /// The value of the last header of this key; the inner `None` is a header without a value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Option<&'a [u8]>> {
        self.iter()
            .filter(|(k, _)| *k == key)
            .last()
            .map(|(_, value)| value)
    }
}

impl<'a> IntoIterator for HeadersRef<'a> {
    type Item = (&'a str, Option<&'a [u8]>);
    type IntoIter = HeaderIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Walks over the headers of a record.
#[derive(Debug, Clone)]
pub struct HeaderIter<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let (header, rest) = take_header(self.rest)?;
        self.rest = rest;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

/// The headers of a [`Record`](super::Record), decoded when looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    count: u32,
    bytes: Bytes,
}

impl Headers {
    /// The same headers, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> HeadersRef<'_> {
        HeadersRef {
            count: self.count,
            bytes: &self.bytes,
        }
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Key and value of each, in order.
    #[must_use]
    pub fn iter(&self) -> HeaderIter<'_> {
        self.as_ref().iter()
    }

    /// The value of the last header of this key; the inner `None` is a header without a value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Option<&[u8]>> {
        self.as_ref().get(key)
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, Option<&'a [u8]>);
    type IntoIter = HeaderIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

type Header<'a> = (&'a str, Option<&'a [u8]>);

fn take_header(input: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let (key, input) = take_nullable(input)?;
    let key = std::str::from_utf8(key?).ok()?;
    let (value, input) = take_nullable(input)?;
    Some(((key, value), input))
}

/// Checks all headers once, so that iterating over them later cannot fail.
#[cold]
pub(super) fn take_headers(mut input: &[u8]) -> Option<HeadersRef<'_>> {
    let (count, bytes) = read_varint(input)?;
    let count = u32::try_from(count).ok()?;
    input = bytes;
    for _ in 0..count {
        (_, input) = take_header(input)?;
    }
    input.is_empty().then_some(HeadersRef { count, bytes })
}
