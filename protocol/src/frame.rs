//! How requests and responses are delimited on a connection.
//!
//! ```text
//! request   u32 length · u16 api · u16 version · u32 correlation id · body
//! response  u32 length · u32 correlation id · u16 error · body, or if error is not 0 a string
//! ```
//!
//! The length does not count itself. Encoders give slices for one vectored write, so that record
//! batches go out without having been copied; [`FrameReader`] gives slices of the receive buffer.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::api_key::Request;
use crate::codec::{ApiVersion, DecodeError, Decoder, Encoder, Wire};
use crate::error_code::ErrorCode;
use crate::ids::CorrelationId;

/// Bytes of the length field.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of a request's header.
pub const REQUEST_HEADER_BYTES: usize = 2 + 2 + 4;
/// Bytes of a response's header.
pub const RESPONSE_HEADER_BYTES: usize = 4 + 2;

/// The version in which the parts are encoded that every version has in common.
const COMMON: ApiVersion = ApiVersion(1);

/// What stands in front of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    /// Number of the API; may be one that this build does not know.
    pub api: u16,
    /// Version of the request's body, and of the response's.
    pub version: ApiVersion,
    /// Comes back in the response.
    pub correlation: CorrelationId,
}

/// What stands in front of a response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    /// Of the request that this answers.
    pub correlation: CorrelationId,
    /// When not [`ErrorCode::None`], the request failed as a whole, and instead of a body there is
    /// a message: see [`decode_error_message`].
    pub error: ErrorCode,
}

/// Why the bytes on a connection are not frames.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length field is above the limit; where the next frame starts is not known.
    #[error("a frame of {length} bytes is announced; the limit is {bytes_max}")]
    TooLarge {
        /// The length field.
        length: u32,
        /// The limit.
        bytes_max: u32,
    },
}

/// A request as a frame: slices to write in order.
pub fn encode_request<R: Request>(
    request: &R,
    version: ApiVersion,
    correlation: CorrelationId,
) -> Vec<Bytes> {
    encode_frame(|out| {
        R::API.code().encode(out, COMMON);
        version.0.encode(out, COMMON);
        correlation.get().encode(out, COMMON);
        request.encode(out, version);
    })
}

/// A successful response as a frame: slices to write in order.
pub fn encode_response<B: Wire>(
    body: &B,
    version: ApiVersion,
    correlation: CorrelationId,
) -> Vec<Bytes> {
    encode_frame(|out| {
        correlation.get().encode(out, COMMON);
        ErrorCode::None.encode(out, COMMON);
        body.encode(out, version);
    })
}

/// The answer to a request that failed as a whole, as a frame: slices to write in order.
#[must_use]
pub fn encode_error_response(
    error: ErrorCode,
    message: &str,
    correlation: CorrelationId,
) -> Vec<Bytes> {
    debug_assert_ne!(
        error,
        ErrorCode::None,
        "success has a body instead of a message"
    );
    encode_frame(|out| {
        correlation.get().encode(out, COMMON);
        error.encode(out, COMMON);
        out.put_str(message);
    })
}

fn encode_frame(write: impl FnOnce(&mut Encoder)) -> Vec<Bytes> {
    let mut out = Encoder::new();
    out.put_raw(&[0; LENGTH_BYTES]);
    write(&mut out);
    let length = u32::try_from(out.len() - LENGTH_BYTES).expect("a frame stays below its limit");
    out.overwrite_start(length.to_be_bytes());
    out.finish()
}

/// Takes the header off a request's frame.
///
/// # Errors
/// [`DecodeError::Truncated`] when the frame is shorter.
pub fn decode_request_header(frame: &mut Decoder) -> Result<RequestHeader, DecodeError> {
    Ok(RequestHeader {
        api: u16::decode(frame, COMMON)?,
        version: ApiVersion(u16::decode(frame, COMMON)?),
        correlation: CorrelationId::new(u32::decode(frame, COMMON)?),
    })
}

/// Takes the header off a response's frame.
///
/// # Errors
/// [`DecodeError::Truncated`] when the frame is shorter.
pub fn decode_response_header(frame: &mut Decoder) -> Result<ResponseHeader, DecodeError> {
    Ok(ResponseHeader {
        correlation: CorrelationId::new(u32::decode(frame, COMMON)?),
        error: ErrorCode::decode(frame, COMMON)?,
    })
}

/// The whole of a body: what is behind the header of a frame.
///
/// # Errors
/// [`DecodeError`] when it is not a `T`, or something is left behind it.
pub fn decode_body<T: Wire>(mut input: Decoder, version: ApiVersion) -> Result<T, DecodeError> {
    let body = T::decode(&mut input, version)?;
    input.finish()?;
    Ok(body)
}

/// The message of a response whose header has an error.
///
/// # Errors
/// [`DecodeError`] when it is not a string and nothing else.
pub fn decode_error_message(input: Decoder) -> Result<String, DecodeError> {
    decode_body(input, COMMON)
}

/// Pulls whole frames out of a receive buffer.
///
/// The length of a frame is checked as soon as it is there. Nothing is reserved here: whoever fills
/// the buffer decides when, knowing [`Self::announced`] and [`Self::needed`].
#[derive(Debug, Clone)]
pub struct FrameReader {
    bytes_max: u32,
    announced: Option<u32>,
    needed: usize,
}

impl FrameReader {
    /// Accepts frames of up to `frame_bytes_max`, the length field not counted.
    #[must_use]
    pub const fn new(frame_bytes_max: u32) -> Self {
        Self {
            bytes_max: frame_bytes_max,
            announced: None,
            needed: LENGTH_BYTES,
        }
    }

    /// The next frame without its length field, or `None` while it is not all there.
    ///
    /// # Errors
    /// [`FrameError`] when there can be none; the connection is of no use any more.
    pub fn next_frame(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
            self.announced = None;
            self.needed = LENGTH_BYTES - buffer.len();
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        if length > self.bytes_max {
            return Err(FrameError::TooLarge {
                length,
                bytes_max: self.bytes_max,
            });
        }
        let frame_end = LENGTH_BYTES + length as usize;
        if buffer.len() < frame_end {
            self.announced = Some(length);
            self.needed = frame_end - buffer.len();
            return Ok(None);
        }
        self.announced = None;
        self.needed = LENGTH_BYTES.saturating_sub(buffer.len() - frame_end);
        let mut frame = buffer.split_to(frame_end).freeze();
        frame.advance(LENGTH_BYTES);
        Ok(Some(frame))
    }

    /// Bytes still missing of what [`Self::next_frame`] last waited for: a length field or a frame.
    #[must_use]
    pub const fn needed(&self) -> usize {
        self.needed
    }

    /// Length of the frame that is arriving, once its length field is there.
    #[must_use]
    pub const fn announced(&self) -> Option<u32> {
        self.announced
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
