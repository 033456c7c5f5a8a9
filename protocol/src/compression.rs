//! The codecs of record batches, in the framings that Kafka clients read and write.
//!
//! gzip is a gzip file, lz4 is an LZ4 frame of independent blocks, zstd is a zstd frame. snappy is
//! written in the framing of the Java library snappy-java ("xerial") and read both in that framing
//! and as one plain block, because clients differ.
//!
//! Reading never allocates for what compressed bytes claim, only for what they really unfold to,
//! and stops at the caller's limit.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

mod lz4;
mod snappy;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Why compressed bytes could not be unfolded.
#[derive(Debug, Error)]
pub enum CompressionError {
    /// The bytes are not what the codec writes.
    #[error("the {codec} data is damaged: {source}")]
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What it says.
        source: io::Error,
    },
    /// They unfold to more than the limit.
    #[error("the {codec} data unfolds to more than the limit of {bytes_max} bytes")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// The limit.
        bytes_max: usize,
    },
}

/// A name that no codec has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name:?} is no compression codec; there are none, gzip, snappy, lz4 and zstd")]
pub struct UnknownCompressionName {
    /// The name.
    pub name: String,
}

impl Compression {
    /// Every codec, in the order of its code.
    pub const ALL: &[Self] = &[Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its code in the attributes of a batch.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// From its code in the attributes of a batch.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its name in settings and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompressionName;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .find(|codec| codec.name() == name)
            .copied()
            .ok_or_else(|| UnknownCompressionName {
                name: name.to_owned(),
            })
    }
}

/// What gzip uses when nobody says.
const GZIP_LEVEL_DEFAULT: u32 = 6;

/// Compresses at the codec's default level.
#[must_use]
pub fn compress(codec: Compression, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress_into(codec, None, plain, &mut out);
    out
}

/// Compresses to the end of `out`.
///
/// `level` is gzip's (0 to 9) or zstd's (-7 to 22), moved to the nearest that exists; the other
/// codecs have none.
pub fn compress_into(codec: Compression, level: Option<i32>, plain: &[u8], out: &mut Vec<u8>) {
    // A Vec takes every write, so the only failure left would be a wrong parameter: all are ours.
    const INFALLIBLE: &str = "compressing from memory to memory cannot fail";
    match codec {
        Compression::None => out.extend_from_slice(plain),
        Compression::Gzip => {
            let level = level.map_or(GZIP_LEVEL_DEFAULT, |level| level.clamp(0, 9) as u32);
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level));
            encoder
                .write_all(plain)
                .and_then(|()| encoder.try_finish())
                .expect(INFALLIBLE);
        }
        Compression::Snappy => snappy::compress_into(plain, out).expect(INFALLIBLE),
        Compression::Lz4 => lz4::compress_into(plain, out).expect(INFALLIBLE),
        Compression::Zstd => {
            let levels = zstd::compression_level_range();
            let level = level.map_or(zstd::DEFAULT_COMPRESSION_LEVEL, |level| {
                level.clamp((*levels.start()).max(-7), *levels.end())
            });
            out.extend_from_slice(&zstd::bulk::compress(plain, level).expect(INFALLIBLE));
        }
    }
}

/// Unfolds compressed bytes to at most `bytes_max`.
///
/// # Errors
/// [`CompressionError`] when they are damaged or unfold to more.
pub fn decompress(
    codec: Compression,
    packed: &[u8],
    bytes_max: usize,
) -> Result<Bytes, CompressionError> {
    let unfolded = match codec {
        Compression::None => read_limited(packed, packed.len(), bytes_max),
        Compression::Gzip => read_limited(
            flate2::bufread::MultiGzDecoder::new(packed),
            packed.len(),
            bytes_max,
        ),
        Compression::Snappy => snappy::decompress(packed, bytes_max),
        Compression::Lz4 => lz4::decompress(packed, bytes_max),
        Compression::Zstd => decompress_zstd(packed, bytes_max),
    };
    match unfolded {
        Ok(Some(plain)) => Ok(plain.into()),
        Ok(None) => Err(CompressionError::TooLarge { codec, bytes_max }),
        Err(source) => Err(CompressionError::Corrupt { codec, source }),
    }
}

/// Everything that `reader` gives, or `None` when that is more than `bytes_max`.
fn read_limited(
    reader: impl Read,
    packed_bytes: usize,
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    // A guess at the ratio; the vector grows with what really comes.
    let mut plain = Vec::with_capacity(packed_bytes.saturating_mul(3).min(bytes_max));
    reader.take(bytes_max as u64 + 1).read_to_end(&mut plain)?;
    Ok((plain.len() <= bytes_max).then_some(plain))
}

/// The largest window that a frame may ask for however small the limit is: what the format's
/// specification recommends that every decoder supports.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;
/// The largest window of any level.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

fn decompress_zstd(packed: &[u8], bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
    let window_log = usize::BITS - bytes_max.saturating_sub(1).leading_zeros();
    decoder.window_log_max(window_log.clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX))?;
    read_limited(decoder, packed.len(), bytes_max)
}

#[cfg(test)]
#[path = "compression_tests.rs"]
mod tests;
