//! The LZ4 frame format.
//!
//! ```text
//! 04 22 4d 18                 magic
//! u8  flags                   bits 7-6 version 1, 5 independent blocks, 4 block checksums,
//!                             3 content size, 2 content checksum, 0 dictionary id
//! u8  block size              bits 6-4: 4 = 64 KiB, 5 = 256 KiB, 6 = 1 MiB, 7 = 4 MiB
//! u64 content size            if so flagged
//! u8  header checksum         second byte of xxh32 of flags .. content size
//! any number of:
//!   u32 length                top bit: the block is not compressed
//!       block
//!   u32 xxh32 of the block    if so flagged
//! u32 0                       end
//! u32 xxh32 of the content    if so flagged
//! ```
//!
//! All little-endian. Frames are read here and not by `lz4_flex`, which takes a frame that is cut
//! off at the end of a block for a whole one, and reserves 4 MiB for any frame that says so; its
//! blocks are unfolded straight to where they belong.

use std::io::{self, Write};

use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY_ID: u8 = 1 << 0;
const PLAIN_BLOCK: u32 = 1 << 31;

/// How far back a block may refer.
const WINDOW_BYTES: usize = 64 << 10;
/// No block unfolds to more than this many times its size: one byte of length adds 255.
const RATIO_MAX: usize = 255;

pub(super) fn compress_into(plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    // What Kafka's own producer writes; every client can read it.
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(plain)?;
    encoder.finish()?;
    Ok(())
}

/// The plain bytes of one or more frames, or `None` when they are more than `bytes_max`.
pub(super) fn decompress(packed: &[u8], bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut rest = packed;
    let mut plain = Vec::new();
    loop {
        let frame = Frame::take(&mut rest)?;
        if !frame.append_content(&mut rest, &mut plain, bytes_max)? {
            return Ok(None);
        }
        if rest.is_empty() {
            return Ok(Some(plain));
        }
    }
}

/// The header of a frame.
struct Frame {
    flags: u8,
    block_bytes_max: usize,
    content_size: Option<u64>,
}

impl Frame {
    fn take(rest: &mut &[u8]) -> io::Result<Self> {
        if take::<4>(rest)? != MAGIC {
            return Err(invalid("there is no LZ4 frame"));
        }
        let header = *rest;
        let [flags] = take(rest)?;
        let [descriptor] = take(rest)?;
        if flags & VERSION_MASK != VERSION {
            return Err(invalid("the version of the LZ4 frame is unknown"));
        }
        if flags & DICTIONARY_ID != 0 {
            return Err(invalid("the LZ4 frame needs a dictionary"));
        }
        let block_bytes_max = match (descriptor >> 4) & 0b111 {
            code @ 4..=7 => 1 << (8 + 2 * code),
            _ => return Err(invalid("the block size of the LZ4 frame is unknown")),
        };
        let content_size = match flags & CONTENT_SIZE {
            0 => None,
            _ => Some(u64::from_le_bytes(take(rest)?)),
        };
        let checked = &header[..header.len() - rest.len()];
        let [checksum] = take(rest)?;
        if checksum != (xxh32(checked) >> 8) as u8 {
            return Err(invalid("the checksum of the LZ4 frame header is wrong"));
        }
        Ok(Self {
            flags,
            block_bytes_max,
            content_size,
        })
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Unfolds the blocks behind `plain`; `false` when that is more than `bytes_max` in all.
    fn append_content(
        &self,
        rest: &mut &[u8],
        plain: &mut Vec<u8>,
        bytes_max: usize,
    ) -> io::Result<bool> {
        let content_start = plain.len();
        loop {
            let length = u32::from_le_bytes(take(rest)?);
            if length == 0 {
                break;
            }
            let is_plain = length & PLAIN_BLOCK != 0;
            let length = (length & !PLAIN_BLOCK) as usize;
            if length > self.block_bytes_max {
                return Err(invalid("an LZ4 block is larger than the frame allows"));
            }
            let (block, behind) = rest.split_at_checked(length).ok_or_else(cut_off)?;
            *rest = behind;
            if self.has(BLOCK_CHECKSUMS) && u32::from_le_bytes(take(rest)?) != xxh32(block) {
                return Err(invalid("the checksum of an LZ4 block is wrong"));
            }
            let room = bytes_max - plain.len();
            if is_plain {
                if length > room {
                    return Ok(false);
                }
                plain.extend_from_slice(block);
            } else if !self.append_block(block, content_start, plain, room)? {
                return Ok(false);
            }
        }
        let content = &plain[content_start..];
        if self.has(CONTENT_CHECKSUM) && u32::from_le_bytes(take(rest)?) != xxh32(content) {
            return Err(invalid("the checksum of the LZ4 content is wrong"));
        }
        if self
            .content_size
            .is_some_and(|size| size != content.len() as u64)
        {
            return Err(invalid("the LZ4 frame holds more or less than it says"));
        }
        Ok(true)
    }

    /// Unfolds one block behind `plain`; `false` when that is more than `room`.
    fn append_block(
        &self,
        block: &[u8],
        content_start: usize,
        plain: &mut Vec<u8>,
        room: usize,
    ) -> io::Result<bool> {
        let start = plain.len();
        let possible = self
            .block_bytes_max
            .min(block.len().saturating_mul(RATIO_MAX));
        plain.resize(start + possible.min(room), 0);
        let (before, output) = plain.split_at_mut(start);
        let unfolded = if self.has(INDEPENDENT) {
            decompress_into(block, output)
        } else {
            let window = content_start.max(start.saturating_sub(WINDOW_BYTES));
            decompress_into_with_dict(block, output, &before[window..])
        };
        match unfolded {
            Ok(unfolded) => {
                plain.truncate(start + unfolded);
                Ok(true)
            }
            Err(DecompressError::OutputTooSmall { .. }) if possible > room => Ok(false),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk().ok_or_else(cut_off)?;
    *rest = behind;
    Ok(*bytes)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the LZ4 frame is cut off")
}

const PRIMES: [u32; 5] = [
    0x9e37_79b1,
    0x85eb_ca77,
    0xc2b2_ae3d,
    0x27d4_eb2f,
    0x1656_67b1,
];

/// XXH32 with seed 0.
fn xxh32(bytes: &[u8]) -> u32 {
    let [p1, p2, p3, p4, p5] = PRIMES;
    let (stripes, tail) = bytes.as_chunks::<16>();
    let mut hash = if stripes.is_empty() {
        p5
    } else {
        let mut lanes = [p1.wrapping_add(p2), p2, 0, 0_u32.wrapping_sub(p1)];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
                *lane = lane
                    .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(p2))
                    .rotate_left(13)
                    .wrapping_mul(p1);
            }
        }
        let [a, b, c, d] = lanes;
        let (a, b) = (a.rotate_left(1), b.rotate_left(7));
        let (c, d) = (c.rotate_left(12), d.rotate_left(18));
        a.wrapping_add(b).wrapping_add(c).wrapping_add(d)
    };
    hash = hash.wrapping_add(bytes.len() as u32);
    let (words, rest) = tail.as_chunks::<4>();
    for word in words {
        hash = hash
            .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(p3))
            .rotate_left(17)
            .wrapping_mul(p4);
    }
    for byte in rest {
        hash = hash
            .wrapping_add(u32::from(*byte).wrapping_mul(p5))
            .rotate_left(11)
            .wrapping_mul(p1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(p2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(p3);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::xxh32;

    /// From the reference implementation.
    #[test]
    fn checksums_are_xxh32() {
        assert_eq!(xxh32(b""), 0x02cc_5d05);
        assert_eq!(xxh32(b"a"), 0x550d_7456);
        assert_eq!(xxh32(b"abc"), 0x32d1_53ff);
        assert_eq!(
            xxh32(b"Nobody inspects the spammish repetition"),
            0xe229_3b2f
        );
    }
}
