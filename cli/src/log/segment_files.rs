//! Which segment files a path stands for.

use std::io;
use std::path::{Path, PathBuf};

use highwater_storage::layout::{SegmentFileKind, parse_segment_name};

use crate::exit::{Exit, Failure};

/// Directories below each other: data directory, partition, and room for a copy in a folder.
const DEPTH_MAX: u32 = 8;

/// The segment files behind paths: a file itself, of a directory all that lie in it, sorted.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|error| failure(path, &error))?;
        if metadata.is_dir() {
            let before = found.len();
            collect(path, 0, &mut found).map_err(|(path, error)| failure(&path, &error))?;
            found[before..].sort();
            if found.len() == before {
                let message = format!("there is no segment file in {}", path.display());
                return Err(Failure::new(Exit::NotFound, "no_segments", message).hint(
                    "segment files are called <offset>.log; a topic without records has none",
                ));
            }
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn collect(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error| (dir.to_owned(), error);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && depth < DEPTH_MAX {
            collect(&entry.path(), depth + 1, found)?;
        } else if kind.is_file() && is_segment(&entry.path()) {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(parse_segment_name)
        .is_some_and(|(_, kind)| kind == SegmentFileKind::Log)
}

/// A file or directory that cannot be read.
pub(crate) fn failure(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        io::ErrorKind::PermissionDenied => Exit::Denied,
        _ => Exit::Error,
    };
    Failure::new(
        exit,
        "unreadable_file",
        format!("cannot read {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_searched_and_other_files_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let partition = dir.path().join("some-partition");
        std::fs::create_dir(&partition).unwrap();
        let segment = |base: u64| partition.join(format!("{base:020}.log"));
        for path in [
            segment(100),
            segment(7),
            partition.join("checkpoint"),
            dir.path().join("x.log"),
        ] {
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(
            find(&[dir.path().to_owned()]).unwrap(),
            [segment(7), segment(100)]
        );
        // A file that is named is taken, whatever it is called.
        let odd = dir.path().join("x.log");
        assert_eq!(find(std::slice::from_ref(&odd)).unwrap(), [odd]);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            find(&[empty.path().to_owned()]).unwrap_err().exit,
            Exit::NotFound
        );
        assert_eq!(
            find(&[dir.path().join("no")]).unwrap_err().exit,
            Exit::NotFound
        );
    }
}
