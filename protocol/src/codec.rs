//! How values lie on the wire, both directions from one declaration.
//!
//! Everything is big-endian. Integers have a fixed width; `bool` is one byte, 0 or 1; a string is a
//! `u16` length and UTF-8; bytes are a `u32` length and the bytes; an array is a `u32` count and its
//! elements; an option is one byte, 0 or 1, and then the value; a UUID is its 16 bytes.
//!
//! `wire_struct!` declares a message and derives [`Wire`] from the same list of fields, so that
//! encoder and decoder cannot disagree. A field added later stands at the end with `since N`: peers
//! that negotiated a lower version neither send nor expect it, and a decoder fills in its default.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::ids::TopicNameError;

mod declare;
mod values;

pub(crate) use declare::{wire_enum, wire_struct};

/// Version of one API's request and response bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(pub u16);

/// Why bytes are not the message that they were meant to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The body ends inside of a value.
    #[error("the body ends early: {needed} more bytes needed for {what}, {left} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that the value needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// Bytes are left behind the last field.
    #[error("{left} bytes left behind the last field")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// A string that is not UTF-8.
    #[error("a string is not valid UTF-8")]
    Utf8,
    /// A value outside of what its type allows.
    #[error("{value} is not a valid {what}")]
    Invalid {
        /// The type.
        what: &'static str,
        /// What was there.
        value: u64,
    },
    /// More elements in all arrays together than the reader takes.
    #[error("more than {max} array elements in one message")]
    TooManyElements {
        /// The limit.
        max: usize,
    },
    /// A topic name that breaks the rules, where only valid ones are stored.
    #[error(transparent)]
    TopicName(#[from] TopicNameError),
}

/// A value with a place on the wire.
pub trait Wire: Sized {
    /// The fewest bytes that any value of this type takes: bounds an array's count before anything
    /// is allocated for it.
    const SIZE_MIN: usize;

    /// Appends the value.
    fn encode(&self, out: &mut Encoder, version: ApiVersion);

    /// Takes one value off the input.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not one.
    fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError>;
}

/// Builds a body. Large byte strings are kept as they are and not copied: the result is a list of
/// slices for one vectored write.
#[derive(Debug, Default)]
pub struct Encoder {
    /// What stands before the first shared byte string, if there is one: still writable, because a
    /// frame's length is known only at the end.
    head: Option<BytesMut>,
    parts: Vec<Bytes>,
    tail: BytesMut,
    /// Bytes of `head` and `parts`.
    parts_bytes: usize,
}

/// Byte strings up to this size are cheaper to copy than to carry as a slice of their own.
const SHARE_BYTES_MIN: usize = 2048;

impl Encoder {
    /// An encoder with room for a small message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tail: BytesMut::with_capacity(128),
            ..Self::default()
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts_bytes + self.tail.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fixed-size bytes, without a length.
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Bytes with their length in front; large ones are shared, not copied.
    ///
    /// # Panics
    /// Above 4 GiB, which no limit of ours lets happen.
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        let length = u32::try_from(bytes.len()).expect("a byte string stays below the frame limit");
        self.tail.put_u32(length);
        if bytes.len() < SHARE_BYTES_MIN {
            self.tail.put_slice(bytes);
        } else {
            let before = self.tail.split();
            self.parts_bytes += before.len() + bytes.len();
            if self.head.is_none() {
                self.head = Some(before);
            } else {
                self.parts.push(before.freeze());
            }
            self.parts.push(bytes.clone());
        }
    }

    /// A string with its length in front; one of more than 65,535 bytes (only free text can be) is
    /// cut at the last character that fits.
    pub fn put_str(&mut self, text: &str) {
        let mut end = text.len().min(usize::from(u16::MAX));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        // Cannot truncate: `end` is at most u16::MAX.
        self.tail.put_u16(end as u16);
        self.tail.put_slice(&text.as_bytes()[..end]);
    }

    /// The body as slices in order, none of them empty.
    #[must_use]
    pub fn finish(self) -> Vec<Bytes> {
        let Some(head) = self.head else {
            return if self.tail.is_empty() {
                Vec::new()
            } else {
                vec![self.tail.freeze()]
            };
        };
        let mut slices = Vec::with_capacity(self.parts.len() + 2);
        slices.push(head.freeze());
        slices.extend(self.parts);
        if !self.tail.is_empty() {
            slices.push(self.tail.freeze());
        }
        slices
    }

    /// The body in one piece; copies what was shared.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.head.is_none() {
            return self.tail.freeze();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for slice in self.finish() {
            whole.put_slice(&slice);
        }
        whole.freeze()
    }

    /// Writes over the first bytes, which must be there already.
    pub(crate) fn overwrite_start<const N: usize>(&mut self, bytes: [u8; N]) {
        self.head.as_mut().unwrap_or(&mut self.tail)[..N].copy_from_slice(&bytes);
    }

    fn put_count(&mut self, count: usize) {
        self.tail
            .put_u32(u32::try_from(count).expect("an array stays below the frame limit"));
    }
}

/// Reads a body. Byte strings come out as slices of the input, not copies.
#[derive(Debug)]
pub struct Decoder {
    input: Bytes,
    position: usize,
    /// Array elements that may still come, of `elements_max`.
    elements_left: usize,
    elements_max: usize,
}

impl Decoder {
    /// Reads `input` from its start.
    #[must_use]
    pub fn new(input: Bytes) -> Self {
        Self {
            input,
            position: 0,
            elements_left: usize::MAX,
            elements_max: usize::MAX,
        }
    }

    /// Takes at most this many elements of all arrays together: elements are several times larger in
    /// memory than on the wire, and answering each costs more still.
    #[must_use]
    pub const fn limit_elements(mut self, max: usize) -> Self {
        self.elements_left = max;
        self.elements_max = max;
        self
    }

    /// Accounts for an array of `count` elements.
    fn take_elements(&mut self, count: usize) -> Result<(), DecodeError> {
        match self.elements_left.checked_sub(count) {
            Some(left) => {
                self.elements_left = left;
                Ok(())
            }
            None => Err(DecodeError::TooManyElements {
                max: self.elements_max,
            }),
        }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.input.len() - self.position
    }

    /// Everything not yet read, as a slice of the input.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.input.slice(self.position..)
    }

    /// `N` bytes as they are.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn take_array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// A length and that many bytes, shared with the input.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn take_bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = u32::from_be_bytes(self.take_array("bytes length")?) as usize;
        let start = self.position;
        self.take(length, "bytes")?;
        Ok(self.input.slice(start..start + length))
    }

    /// A length and that much UTF-8.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] or [`DecodeError::Utf8`].
    pub fn take_str(&mut self) -> Result<&str, DecodeError> {
        let length = u16::from_be_bytes(self.take_array("string length")?);
        std::str::from_utf8(self.take(usize::from(length), "string")?)
            .map_err(|_| DecodeError::Utf8)
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] when something is.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes { left }),
        }
    }

    fn take(&mut self, needed: usize, what: &'static str) -> Result<&[u8], DecodeError> {
        let left = self.remaining();
        if needed > left {
            return Err(DecodeError::Truncated { what, needed, left });
        }
        let start = self.position;
        self.position += needed;
        Ok(&self.input[start..self.position])
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
