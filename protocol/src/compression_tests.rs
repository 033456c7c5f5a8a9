//! Tests of the codecs.

use proptest::prelude::*;

use super::*;

/// Something between noise and zeros.
fn sample(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| {
            if at % 10 < 7 {
                b'x'
            } else {
                (at * at / 7) as u8
            }
        })
        .collect()
}

#[test]
fn names_and_codes_round_trip() {
    for codec in Compression::ALL {
        assert_eq!(Compression::from_code(codec.code()), Some(*codec));
        assert_eq!(codec.to_string().parse(), Ok(*codec));
    }
    assert_eq!(Compression::from_code(5), None);
    let error = "LZ4".parse::<Compression>().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"LZ4\" is no compression codec"),
        "{error}"
    );
}

#[test]
fn every_codec_gives_back_what_it_got() {
    for codec in Compression::ALL {
        for length in [0, 1, 100, 65_535, 65_536, 65_537, 1_000_000] {
            let plain = sample(length);
            let packed = compress(*codec, &plain);
            assert_eq!(
                decompress(*codec, &packed, length).unwrap(),
                plain,
                "{codec} {length}"
            );
            if length > 0 {
                let error = decompress(*codec, &packed, length - 1).unwrap_err();
                assert!(
                    matches!(error, CompressionError::TooLarge { .. }),
                    "{codec}: {error}"
                );
            }
        }
    }
}

#[test]
fn every_level_works() {
    let plain = sample(10_000);
    for codec in Compression::ALL {
        for level in [i32::MIN, -7, -1, 0, 1, 3, 9, 19, i32::MAX] {
            let mut packed = b"kept".to_vec();
            compress_into(*codec, Some(level), &plain, &mut packed);
            let packed = packed.strip_prefix(b"kept").unwrap();
            assert_eq!(
                decompress(*codec, packed, plain.len()).unwrap(),
                plain,
                "{codec} {level}"
            );
        }
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    let plain = vec![0; 16 << 20];
    for codec in Compression::ALL
        .iter()
        .filter(|codec| **codec != Compression::None)
    {
        let bomb = compress(*codec, &plain);
        assert!(
            bomb.len() < plain.len() / 15,
            "{codec} makes {} bytes",
            bomb.len()
        );
        let error = decompress(*codec, &bomb, 1 << 20).unwrap_err();
        assert!(
            matches!(error, CompressionError::TooLarge { bytes_max, .. } if bytes_max == 1 << 20)
        );
    }
}

#[test]
fn snappy_reads_plain_blocks_and_joined_streams() {
    let plain = sample(200_000);
    let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(
        decompress(Compression::Snappy, &raw, plain.len()).unwrap(),
        plain
    );

    let mut joined = compress(Compression::Snappy, &plain);
    joined.extend(compress(Compression::Snappy, b"and more"));
    let both = [&plain[..], b"and more"].concat();
    assert_eq!(
        decompress(Compression::Snappy, &joined, both.len()).unwrap(),
        both
    );
}

#[test]
fn a_snappy_block_cannot_claim_more_than_it_holds() {
    // A block of five bytes that claims to be 4 GiB minus one.
    let error = decompress(
        Compression::Snappy,
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        usize::MAX,
    );
    assert!(matches!(
        error.unwrap_err(),
        CompressionError::Corrupt { .. }
    ));
}

#[test]
fn gzip_members_and_lz4_and_zstd_frames_may_be_joined() {
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let mut joined = compress(codec, b"one ");
        joined.extend(compress(codec, b"two"));
        assert_eq!(
            decompress(codec, &joined, 100).unwrap(),
            &b"one two"[..],
            "{codec}"
        );
    }
}

#[test]
fn damage_is_an_error() {
    for codec in Compression::ALL
        .iter()
        .filter(|codec| **codec != Compression::None)
    {
        let packed = compress(*codec, &sample(10_000));
        for end in [1, packed.len() / 2, packed.len() - 4, packed.len() - 1] {
            let result = decompress(*codec, &packed[..end], 1 << 20);
            let is_corrupt = matches!(result, Err(CompressionError::Corrupt { .. }));
            assert!(is_corrupt, "{codec} cut to {end} bytes");
        }
        let error = decompress(*codec, b"\xffthis is no compressed data", 1 << 20).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("the {codec} data is damaged")),
            "{error}"
        );
    }
}

/// All that the frame format allows and the encoder of lz4_flex can write.
#[test]
fn every_kind_of_lz4_frame_is_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let plain = sample(700_000);
    for size in [
        BlockSize::Max64KB,
        BlockSize::Max256KB,
        BlockSize::Max1MB,
        BlockSize::Max4MB,
    ] {
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for checksums in [false, true] {
                let info = FrameInfo::new()
                    .block_size(size)
                    .block_mode(mode)
                    .block_checksums(checksums)
                    .content_checksum(checksums)
                    .content_size(checksums.then_some(plain.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(&plain).unwrap();
                let mut packed = encoder.finish().unwrap();
                let back = decompress(Compression::Lz4, &packed, plain.len()).unwrap();
                assert_eq!(back, plain, "{size:?} {mode:?} {checksums}");
                if checksums {
                    let at = packed.len() / 2;
                    packed[at] ^= 1;
                    let result = decompress(Compression::Lz4, &packed, plain.len());
                    assert!(matches!(result, Err(CompressionError::Corrupt { .. })));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn anything_round_trips(plain in proptest::collection::vec(any::<u8>(), 0..2000), repeat in 1_usize..5) {
        let plain = plain.repeat(repeat);
        for codec in Compression::ALL {
            let packed = compress(*codec, &plain);
            prop_assert_eq!(&decompress(*codec, &packed, plain.len()).unwrap()[..], &plain[..]);
        }
    }

    #[test]
    fn garbage_never_panics(
        code in 0_u8..5,
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<proptest::sample::Index>(),
    ) {
        let codec = Compression::from_code(code).unwrap();
        let _ = decompress(codec, &garbage, 1 << 20);
        let mut packed = compress(codec, &sample(3000));
        let at = at.index(packed.len());
        packed.splice(at.., garbage);
        let plain = decompress(codec, &packed, 1 << 20);
        prop_assert!(plain.is_err() || plain.unwrap().len() <= 1 << 20);
    }
}
