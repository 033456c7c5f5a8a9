//! The text of a real file set, line by line.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Files larger than this are no sources of text that a person wrote.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Enough for a demo of minutes; a search of a whole disk would take longer than the demo.
const FILES_MAX: usize = 50_000;

/// Files whose text is sent.
#[derive(Debug)]
pub(crate) struct FileSet {
    root: PathBuf,
    files: Vec<PathBuf>,
    bytes: u64,
}

impl FileSet {
    /// The files below `root`, or of the first tree with text that this machine has.
    pub(crate) fn find(root: Option<&Path>) -> Result<FileSet> {
        if let Some(root) = root {
            let set = FileSet::below(root)
                .with_context(|| format!("reading the directory {}", root.display()))?;
            ensure!(!set.files.is_empty(), "no text files in {}", root.display());
            return Ok(set);
        }
        usual_trees()
            .iter()
            .filter_map(|tree| FileSet::below(tree).ok())
            .find(|set| !set.files.is_empty())
            .context("no text files found on this machine: name a directory with --files")
    }

    fn below(root: &Path) -> Result<FileSet> {
        let mut set = FileSet {
            root: root.to_owned(),
            files: Vec::new(),
            bytes: 0,
        };
        let mut directories = VecDeque::from([root.to_owned()]);
        while let Some(directory) = directories.pop_front() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                // A directory further down that is not ours to read is passed over.
                Err(_) if directory != root => continue,
                Err(error) => return Err(error.into()),
            };
            let mut entries: Vec<_> = entries.flatten().collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                // Links are not followed: they could lead round in a circle.
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                let path = entry.path();
                if metadata.is_dir() && !is_of_no_interest(&path) {
                    directories.push_back(path);
                } else if metadata.is_file()
                    && (1..=FILE_BYTES_MAX).contains(&metadata.len())
                    && has_text_ending(&path)
                {
                    set.bytes += metadata.len();
                    set.files.push(path);
                }
                if set.files.len() == FILES_MAX {
                    return Ok(set);
                }
            }
        }
        Ok(set)
    }

    /// Where they lie.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Name of a file, relative to the root.
    pub(crate) fn name(&self, index: usize) -> Cow<'_, str> {
        let path = self
            .files
            .get(index)
            .map_or(Path::new(""), PathBuf::as_path);
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .to_string_lossy()
    }

    /// Name and content of a file; `None` if it cannot be read any more.
    pub(crate) fn read(&self, index: usize) -> Option<(String, Vec<u8>)> {
        let content = fs::read(self.files.get(index)?).ok()?;
        Some((self.name(index).into_owned(), content))
    }
}

/// Where source text lies on a machine that builds or runs this program, largest first.
fn usual_trees() -> Vec<PathBuf> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut trees: Vec<PathBuf> = cargo_home
        .map(|home| home.join("registry/src"))
        .into_iter()
        .collect();
    trees.extend(std::env::current_dir());
    trees.extend(["/usr/include", "/usr/share/doc", "/usr/share", "/etc"].map(PathBuf::from));
    trees
}

fn is_of_no_interest(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    name == "target" || name.starts_with('.')
}

fn has_text_ending(path: &Path) -> bool {
    const ENDINGS: [&str; 16] = [
        "rs", "toml", "md", "txt", "c", "h", "py", "sh", "json", "yaml", "yml", "html", "conf",
        "cfg", "xml", "css",
    ];
    path.extension()
        .is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::FileSet;

    #[test]
    fn text_is_found_at_any_depth_and_the_rest_is_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::create_dir_all(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("a/b/x.rs"), "fn x() {}\n").unwrap();
        fs::write(dir.path().join("a/y.bin"), "binary").unwrap();
        fs::write(dir.path().join("target/z.rs"), "generated").unwrap();
        fs::write(dir.path().join("empty.rs"), "").unwrap();
        let set = FileSet::find(Some(dir.path())).unwrap();
        assert_eq!((set.len(), set.bytes()), (1, 10));
        assert_eq!(
            set.read(0),
            Some(("a/b/x.rs".to_owned(), b"fn x() {}\n".to_vec()))
        );
        assert_eq!(set.read(1), None);
    }

    #[test]
    fn a_tree_without_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileSet::find(Some(dir.path())).is_err());
        assert!(FileSet::find(Some(&dir.path().join("missing"))).is_err());
    }
}
