//! Snappy in the framing of snappy-java, and as one plain block.
//!
//! ```text
//! 82 53 4e 41 50 50 59 00   "\x82SNAPPY\0"
//! i32 version (1), i32 lowest compatible version (1)
//! any number of: i32 length, one snappy block of that length
//! ```

use std::io;

use snap::raw;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: i32 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 4 + 4;

/// Plain bytes of one block: what snappy itself works on at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// No snappy data unfolds to more than this many times its size: the densest element is a copy of
/// 64 bytes in 3 bytes.
const RATIO_MAX: usize = 22;

pub(super) fn compress_into(plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = raw::Encoder::new();
    for block in plain.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let packed_at = length_at + 4;
        out.resize(packed_at + raw::max_compress_len(block.len()), 0);
        let packed_bytes = encoder.compress(block, &mut out[packed_at..])?;
        out.truncate(packed_at + packed_bytes);
        // Cannot truncate: a block of 64 KiB stays below 80 KiB.
        out[length_at..packed_at].copy_from_slice(&(packed_bytes as u32).to_be_bytes());
    }
    Ok(())
}

/// The plain bytes, or `None` when they are more than `bytes_max`.
pub(super) fn decompress(packed: &[u8], bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    let mut decoder = raw::Decoder::new();
    if !packed.starts_with(&MAGIC) {
        let fits = append_block(&mut decoder, packed, &mut plain, bytes_max)?;
        return Ok(fits.then_some(plain));
    }
    let mut rest = packed;
    while !rest.is_empty() {
        // Streams may be joined: then a header stands where a length would.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER_BYTES..).ok_or_else(cut_off)?;
            continue;
        }
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(cut_off)?;
        if !append_block(&mut decoder, block, &mut plain, bytes_max)? {
            return Ok(None);
        }
        rest = behind;
    }
    Ok(Some(plain))
}

/// Unfolds one block behind `plain`; `false` when that is more than `bytes_max` in all.
fn append_block(
    decoder: &mut raw::Decoder,
    block: &[u8],
    plain: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<bool> {
    // The block says its size: believed only as far as its bytes can carry.
    let claimed = raw::decompress_len(block)?;
    if claimed > block.len().saturating_mul(RATIO_MAX) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a snappy block claims more than it can hold",
        ));
    }
    let start = plain.len();
    if claimed > bytes_max - start {
        return Ok(false);
    }
    plain.resize(start + claimed, 0);
    decoder.decompress(block, &mut plain[start..])?;
    Ok(true)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "snappy framing is cut off")
}
