//! Variable-length integers as the record format has them: base 128, low groups first, signed
//! values folded by zigzag (0, -1, 1, -2 are 0, 1, 2, 3).

/// Most bytes of a 32-bit value.
pub(crate) const VARINT_BYTES_MAX: usize = 5;
/// Most bytes of a 64-bit value.
pub(crate) const VARLONG_BYTES_MAX: usize = 10;

/// Folds the sign into the lowest bit.
#[inline]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
const fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// How many bytes `value` takes.
#[inline]
pub(crate) const fn varint_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` to the start of `out` and says how many bytes it took.
#[inline]
pub(crate) fn write_varint(out: &mut [u8], value: i64) -> usize {
    let mut rest = zigzag(value);
    let mut at = 0;
    while rest >= 0x80 {
        out[at] = (rest as u8) | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

/// Up to eight bytes in a register, the first lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortBytes {
    pub(crate) bytes: u64,
    pub(crate) length: u32,
}

impl ShortBytes {
    /// These bytes and then the others; the lengths must sum to eight at most, and this one's be
    /// less than eight.
    #[inline]
    pub(crate) const fn then(self, others: Self) -> Self {
        Self {
            bytes: self.bytes | others.bytes << (8 * self.length),
            length: self.length + others.length,
        }
    }
}

/// The varint of a value that takes at most four bytes.
#[inline]
pub(crate) const fn varint_in_register(value: i64) -> ShortBytes {
    let folded = zigzag(value);
    debug_assert!(folded < 1 << 28);
    let first = folded & 0x7f;
    if folded < 1 << 7 {
        return ShortBytes {
            bytes: first,
            length: 1,
        };
    }
    let second = first | 0x80 | (folded << 1) & 0x7f00;
    if folded < 1 << 14 {
        return ShortBytes {
            bytes: second,
            length: 2,
        };
    }
    let third = second | 0x8000 | (folded << 2) & 0x7f_0000;
    if folded < 1 << 21 {
        return ShortBytes {
            bytes: third,
            length: 3,
        };
    }
    ShortBytes {
        bytes: third | 0x80_0000 | (folded << 3) & 0x7f00_0000,
        length: 4,
    }
}

/// A 32-bit value and what is behind it; `None` when the input ends inside of the value or it is
/// too long. Takes and gives the slice by value, so that it stays in registers.
#[inline]
pub(crate) fn read_varint(input: &[u8]) -> Option<(i32, &[u8])> {
    match *input {
        // Nearly every field of nearly every record is one or two bytes long.
        [first, ref rest @ ..] if first < 0x80 => Some((unzigzag(u64::from(first)) as i32, rest)),
        [first, second, ref rest @ ..] if second < 0x80 => {
            let folded = u64::from(first & 0x7f) | u64::from(second) << 7;
            Some((unzigzag(folded) as i32, rest))
        }
        // Offsets deep inside of a large batch.
        [first, second, third, ref rest @ ..] if third < 0x80 => {
            let folded =
                u64::from(first & 0x7f) | u64::from(second & 0x7f) << 7 | u64::from(third) << 14;
            Some((unzigzag(folded) as i32, rest))
        }
        _ => {
            let (folded, rest) = read_groups(input, VARINT_BYTES_MAX)?;
            // Five groups are 35 bits: what does not fit 32 is not a varint.
            u32::try_from(folded)
                .ok()
                .map(|folded| (unzigzag(u64::from(folded)) as i32, rest))
        }
    }
}

/// A 64-bit value and what is behind it; `None` when the input ends inside of the value or it is
/// too long.
#[inline]
pub(crate) fn read_varlong(input: &[u8]) -> Option<(i64, &[u8])> {
    match *input {
        [first, ref rest @ ..] if first < 0x80 => Some((unzigzag(u64::from(first)), rest)),
        [first, second, ref rest @ ..] if second < 0x80 => Some((
            unzigzag(u64::from(first & 0x7f) | u64::from(second) << 7),
            rest,
        )),
        _ => read_groups(input, VARLONG_BYTES_MAX).map(|(folded, rest)| (unzigzag(folded), rest)),
    }
}

#[cold]
fn read_groups(input: &[u8], bytes_max: usize) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in input.iter().take(bytes_max).enumerate() {
        let group = u64::from(byte & 0x7f);
        let shift = 7 * at as u32;
        if shift == 63 && group > 1 {
            return None;
        }
        value |= group << shift;
        if *byte < 0x80 {
            return Some((value, &input[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the tests of Kafka's `ByteUtils`.
    #[test]
    fn known_encodings() {
        let cases: &[(i64, &[u8])] = &[
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (-8192, &[0xff, 0x7f]),
            (8192, &[0x80, 0x80, 0x01]),
            (1_048_575, &[0xfe, 0xff, 0x7f]),
            (134_217_727, &[0xfe, 0xff, 0xff, 0x7f]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MAX,
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (value, encoded) in cases {
            let mut out = [0; VARLONG_BYTES_MAX];
            let written = write_varint(&mut out, *value);
            assert_eq!(&out[..written], *encoded, "{value}");
            assert_eq!(varint_bytes(*value), encoded.len(), "{value}");
            assert_eq!(read_varlong(encoded), Some((*value, &[][..])));
            if let Ok(small) = i32::try_from(*value) {
                assert_eq!(read_varint(encoded), Some((small, &[][..])));
            }
        }
    }

    #[test]
    fn too_long_or_cut_is_none() {
        assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(read_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
        assert_eq!(read_varlong(&[0xff; 10]), None);
        let over = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(read_varlong(&over), None);
        for cut in [&[][..], &[0x80], &[0x80, 0x80]] {
            assert_eq!(read_varint(cut), None);
            assert_eq!(read_varlong(cut), None);
        }
    }

    proptest! {
        #[test]
        fn round_trips(value: i64, narrow: i32, behind: u8) {
            let mut out = [behind; VARLONG_BYTES_MAX + 1];
            let written = write_varint(&mut out, value);
            out[written] = behind;
            prop_assert_eq!(read_varlong(&out[..=written]), Some((value, &[behind][..])));
            let written = write_varint(&mut out, i64::from(narrow));
            prop_assert_eq!(written, varint_bytes(i64::from(narrow)));
            prop_assert_eq!(read_varint(&out[..written]), Some((narrow, &[][..])));
        }

        #[test]
        fn register_form_is_the_same(bits in 0_u32..28, value: i64) {
            let value = value >> (63 - bits);
            prop_assume!(zigzag(value) < 1 << 28);
            let mut out = [0; 8];
            let written = write_varint(&mut out, value);
            let expected = ShortBytes { bytes: u64::from_le_bytes(out), length: written as u32 };
            prop_assert_eq!(varint_in_register(value), expected);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _ = read_varint(&bytes);
            let _ = read_varlong(&bytes);
        }
    }
}
