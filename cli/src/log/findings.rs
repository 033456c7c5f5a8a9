//! What can be wrong with the segments of one directory, and how it is found.

use std::io;
use std::path::{Path, PathBuf};

use highwater_protocol::ids::{LeaderEpoch, Offset};
use highwater_storage::Seal;
use highwater_storage::layout::{SegmentFileKind, parse_segment_name, segment_path};
use serde::Serialize;

use super::segment_reader::{Found, FoundBatch, SegmentReader};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The file.
    pub(crate) file: String,
    /// Where in it, if there is one place.
    pub(crate) position: Option<u64>,
    /// What kind of fault it is; stable.
    pub(crate) kind: &'static str,
    /// What is wrong.
    pub(crate) problem: String,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// Segment files.
    pub(crate) segments: u64,
    /// Of them sealed.
    pub(crate) sealed: u64,
    /// Batches.
    pub(crate) batches: u64,
    /// Records.
    pub(crate) records: u64,
    /// Bytes of batches.
    pub(crate) bytes: u64,
}

/// Looks at segments, those of one directory one after the other in order.
#[derive(Debug, Default)]
pub(crate) struct Verifier {
    /// Everything that is wrong so far.
    pub(crate) findings: Vec<Finding>,
    /// What was looked at so far.
    pub(crate) totals: Totals,
    /// Directory, and what follows the last segment there.
    previous: Option<(PathBuf, Expected)>,
}

/// What must come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    offset: Offset,
    epoch: Option<LeaderEpoch>,
}

/// One segment while it is read.
struct Segment<'a> {
    path: &'a Path,
    base: Option<Offset>,
    next: Option<Expected>,
    crc: crc32fast::Hasher,
    /// Of its seal.
    seal: Option<Seal>,
}

impl Verifier {
    /// Looks at one segment. `damage` and I/O errors of the file itself are findings too.
    pub(crate) fn segment(&mut self, path: &Path, mut on_bytes: impl FnMut(u64)) {
        self.totals.segments += 1;
        let name = path.file_name().and_then(|name| name.to_str());
        let base = name.and_then(parse_segment_name).map(|(base, _)| base);
        let mut segment = Segment {
            path,
            base,
            next: None,
            crc: crc32fast::Hasher::new(),
            seal: None,
        };
        self.open_seal(&mut segment);
        self.check_start(&mut segment);
        if let Err(error) = self.batches(&mut segment, &mut on_bytes) {
            self.find(path, None, "unreadable", error.to_string());
        }
        self.previous = match (path.parent(), segment.next) {
            (Some(dir), Some(next)) => Some((dir.to_owned(), next)),
            _ => None,
        };
    }

    fn find(&mut self, file: &Path, position: Option<u64>, kind: &'static str, problem: String) {
        let file = file.display().to_string();
        self.findings.push(Finding {
            file,
            position,
            kind,
            problem,
        });
    }

    /// The segment must go on where the one before it in the same directory ends.
    fn check_start(&mut self, segment: &mut Segment<'_>) {
        let expected = match (&self.previous, segment.path.parent()) {
            (Some((dir, expected)), Some(here)) if dir == here => Some(*expected),
            _ => None,
        };
        let epoch = expected.and_then(|expected| expected.epoch);
        segment.next = segment.base.map(|offset| Expected { offset, epoch });
        if let (Some(expected), Some(base)) = (expected, segment.base)
            && expected.offset != base
        {
            let problem = format!(
                "the segment begins at offset {base}, the one before it ends at {}",
                expected.offset
            );
            self.find(segment.path, None, "offset_gap", problem);
        }
    }

    fn batches(
        &mut self,
        segment: &mut Segment<'_>,
        on_bytes: &mut impl FnMut(u64),
    ) -> io::Result<()> {
        let mut reader = SegmentReader::open(segment.path)?;
        let log_bytes = segment.seal.map(|seal| seal.log_bytes);
        // Behind a sealed segment's end there may be leftovers, which are not part of the log.
        while log_bytes.is_none_or(|end| reader.position() < end) {
            match reader.next()? {
                None => break,
                Some(Found::Batch(batch)) => {
                    on_bytes(batch.bytes.len() as u64);
                    self.batch(segment, &batch);
                }
                Some(Found::Garbage { position, problem }) => {
                    let (kind, more) = match log_bytes {
                        Some(_) => ("damaged", ""),
                        None => (
                            "torn_tail",
                            "; if the broker was killed, its next start cuts this off",
                        ),
                    };
                    self.find(
                        segment.path,
                        Some(position),
                        kind,
                        format!("{problem}{more}"),
                    );
                }
            }
        }
        self.check_seal(segment, reader.position());
        Ok(())
    }

    fn batch(&mut self, segment: &mut Segment<'_>, batch: &FoundBatch) {
        let header = &batch.header;
        self.totals.batches += 1;
        self.totals.records += u64::from(header.record_count);
        self.totals.bytes += batch.bytes.len() as u64;
        segment.crc.update(&batch.bytes);
        let at = Some(batch.position);
        if let Some(damage) = &batch.damage {
            self.find(segment.path, at, "damaged", damage.to_string());
        }
        let expected = segment.next;
        if let Some(expected) = expected
            && expected.offset != header.base_offset
        {
            let problem = format!(
                "base offset {} where {} follows",
                header.base_offset, expected.offset
            );
            self.find(segment.path, at, "offset_gap", problem);
        }
        let previous = expected.and_then(|expected| expected.epoch);
        match (header.leader_epoch, previous) {
            (None, _) => {
                self.find(
                    segment.path,
                    at,
                    "epoch_missing",
                    "no leader epoch".to_owned(),
                );
            }
            (Some(found), Some(previous)) if found < previous => {
                let problem = format!("leader epoch {found} after {previous}");
                self.find(segment.path, at, "epoch_went_back", problem);
            }
            _ => {}
        }
        let epoch = header.leader_epoch.or(previous);
        segment.next = Some(Expected {
            offset: header.next_offset(),
            epoch,
        });
    }

    fn open_seal(&mut self, segment: &mut Segment<'_>) {
        let Some((dir, base)) = segment.path.parent().zip(segment.base) else {
            return;
        };
        let path = segment_path(dir, base, SegmentFileKind::Seal);
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.find(&path, None, "unreadable", error.to_string()),
            Ok(bytes) => match Seal::decode(&bytes) {
                Err(error) => self.find(&path, None, "seal", error.to_string()),
                Ok(seal) => {
                    self.totals.sealed += 1;
                    segment.seal = Some(seal);
                }
            },
        }
    }

    /// The seal tells what was durable when the segment was finished.
    fn check_seal(&mut self, segment: &Segment<'_>, log_bytes: u64) {
        let Some((seal, base)) = segment.seal.zip(segment.base) else {
            return;
        };
        let end = segment.next.map_or(base, |next| next.offset);
        let found_crc = segment.crc.clone().finalize();
        let mut problems = Vec::new();
        if seal.base_offset != base {
            problems.push(format!(
                "sealed as the segment from offset {}",
                seal.base_offset
            ));
        }
        if seal.log_bytes != log_bytes {
            problems.push(format!(
                "{log_bytes} bytes of batches, {} were sealed",
                seal.log_bytes
            ));
        } else if seal.log_crc != found_crc {
            problems.push(format!(
                "checksum {found_crc:08x}, {:08x} was sealed",
                seal.log_crc
            ));
        }
        if seal.end_offset != end {
            problems.push(format!(
                "ends at offset {end}, sealed was {}",
                seal.end_offset
            ));
        }
        for problem in problems {
            self.find(segment.path, None, "seal", problem);
        }
        let Some(dir) = segment.path.parent() else {
            return;
        };
        self.check_index(
            &segment_path(dir, base, SegmentFileKind::Index),
            (seal.index_bytes, seal.index_crc),
        );
        self.check_index(
            &segment_path(dir, base, SegmentFileKind::TimeIndex),
            (seal.time_index_bytes, seal.time_index_crc),
        );
    }

    /// An index is only a shortcut, built anew when it is missing: then there is nothing to say.
    fn check_index(&mut self, path: &Path, (bytes, crc): (u32, u32)) {
        let content = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.find(path, None, "unreadable", error.to_string()),
            Ok(content) => content,
        };
        match content.get(..bytes as usize) {
            None => {
                let problem = format!("{} bytes, {bytes} were sealed", content.len());
                self.find(path, None, "index", problem);
            }
            Some(sealed) => {
                let found = crc32fast::hash(sealed);
                if found != crc {
                    let problem = format!("checksum {found:08x}, {crc:08x} was sealed");
                    self.find(path, None, "index", problem);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::batch_builder::BatchBuilder;
    use highwater_protocol::compression::Compression;
    use highwater_protocol::ids::Timestamp;
    use highwater_protocol::record_batch::stamp;

    use super::*;

    fn batch(offset: u64, epoch: u32, records: u64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None, None);
        for _ in 0..records {
            builder.push(Timestamp::from_millis(5), None, Some(b"value"), &[]);
        }
        let mut bytes = builder.build().to_vec();
        stamp(&mut bytes, Offset::new(offset), LeaderEpoch::new(epoch));
        bytes
    }

    fn verify(files: &[(u64, Vec<u8>)]) -> (Vec<&'static str>, Totals) {
        let dir = tempfile::tempdir().unwrap();
        let mut verifier = Verifier::default();
        for (base, bytes) in files {
            let path = segment_path(dir.path(), Offset::new(*base), SegmentFileKind::Log);
            std::fs::write(&path, bytes).unwrap();
            verifier.segment(&path, |_| {});
        }
        (
            verifier
                .findings
                .iter()
                .map(|finding| finding.kind)
                .collect(),
            verifier.totals,
        )
    }

    #[test]
    fn intact_segments_have_nothing_to_find() {
        let first = [batch(0, 1, 3), batch(3, 1, 2), vec![0; 100]].concat();
        let (findings, totals) = verify(&[(0, first), (5, batch(5, 2, 1))]);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!((totals.segments, totals.batches, totals.records), (2, 3, 6));
    }

    #[test]
    fn every_kind_of_damage_has_its_name() {
        let mut flipped = batch(0, 1, 3);
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(verify(&[(0, flipped)]).0, ["damaged"]);
        let gap = [batch(0, 1, 3), batch(4, 1, 1)].concat();
        assert_eq!(verify(&[(0, gap)]).0, ["offset_gap"]);
        assert_eq!(verify(&[(1, batch(0, 1, 1))]).0, ["offset_gap"]);
        assert_eq!(
            verify(&[(0, batch(0, 1, 3)), (4, batch(4, 1, 1))]).0,
            ["offset_gap"]
        );
        let back = [batch(0, 2, 3), batch(3, 1, 1)].concat();
        assert_eq!(verify(&[(0, back)]).0, ["epoch_went_back"]);
        let torn = [&batch(0, 1, 3)[..], &batch(3, 1, 3)[..70]].concat();
        assert_eq!(verify(&[(0, torn)]).0, ["torn_tail"]);
    }

    #[test]
    fn a_missing_file_is_a_finding() {
        let mut verifier = Verifier::default();
        verifier.segment(Path::new("/nowhere/00000000000000000000.log"), |_| {});
        assert_eq!(verifier.findings[0].kind, "unreadable");
    }
}
