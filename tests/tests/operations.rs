//! What `docs/OPERATIONS.md` names is there: settings, metrics, and lines of the log.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::path::Path;

use highwater_tests::workspace_root;

fn document() -> String {
    std::fs::read_to_string(workspace_root().join("docs/OPERATIONS.md")).unwrap()
}

/// All sources of the crates that log and count.
fn sources() -> String {
    fn walk(dir: &Path, found: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut found = String::new();
    for name in ["broker", "storage", "coordination"] {
        walk(&workspace_root().join(name).join("src"), &mut found);
    }
    // A long text is written on several lines.
    let lines: Vec<&str> = found.lines().map(str::trim_start).collect();
    lines.join("\n").replace("\\\n", "")
}

/// The texts in backquotes in the first column of the table behind a heading or sentence.
fn first_column(text: &str, behind: &str) -> Vec<String> {
    let (_, rest) = text
        .split_once(behind)
        .unwrap_or_else(|| panic!("the document has no {behind:?}"));
    let table = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = table.filter_map(|line| line.split('|').nth(1));
    let names: Vec<String> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 2, "the table behind {behind:?} has {names:?}");
    names
}

#[test]
fn settings_exist() {
    let text = document();
    let mut known = 0;
    for name in text.split('`').skip(1).step_by(2) {
        let is_name = name.contains('.')
            && !name.ends_with(".yml")
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '.');
        if is_name {
            assert!(highwater_config::find(name).is_some(), "no setting {name}");
            known += 1;
        }
    }
    assert!(known > 10, "only {known} settings are named");
}

#[test]
fn metrics_exist() {
    let (text, sources) = (document(), sources());
    for behind in ["## Alarms", "What else tells how a cluster is"] {
        for name in first_column(&text, behind) {
            let name = name.split([' ', '=', '>', '{']).next().unwrap();
            // The others are settings.
            if !name.contains('.') {
                assert!(sources.contains(&format!("{name:?}")), "no metric {name}");
            }
        }
    }
}

#[test]
fn lines_of_the_log_exist() {
    let (text, sources) = (document(), sources());
    for behind in ["### When it does not come up", "Log lines that want"] {
        for line in first_column(&text, behind) {
            // Capitals stand for what differs each time, dots for what is left out.
            let is_fixed = |word: &&str| !matches!(*word, "X" | "A" | "N" | "…");
            let words: Vec<&str> = line.split(' ').collect();
            for part in words.split(|word| !is_fixed(word)) {
                let part = part.join(" ");
                assert!(sources.contains(&part), "{line:?}: nobody says {part:?}");
            }
        }
    }
}
