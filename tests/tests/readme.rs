//! The README says what is so.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::fs;

use highwater_tests::workspace_root;

#[test]
fn the_client_example_is_the_one_that_compiles() {
    let readme = fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let example = workspace_root().join("client/examples/first_steps.rs");
    let example = fs::read_to_string(example).unwrap();
    let (_, code) = example.split_once("\n\n").unwrap();
    let (_, shown) = readme.split_once("```rust\n").unwrap();
    let (shown, _) = shown.split_once("\n```").unwrap();
    assert_eq!(shown.trim(), code.trim());
}

#[test]
fn its_links_lead_somewhere() {
    for document in ["README.md", "docs/MAP.md"] {
        let text = fs::read_to_string(workspace_root().join(document)).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if !target.starts_with("http") {
                assert!(
                    workspace_root().join(target).exists(),
                    "{document} links to {target}"
                );
            }
        }
        // Paths in backquotes that name a file of the sources.
        for path in text
            .split('`')
            .filter(|part| part.ends_with(".rs") && part.contains('/'))
        {
            let known = [
                "",
                "broker/src/",
                "coordination/src/",
                "protocol/src/",
                "storage/src/",
            ]
            .iter()
            .any(|folder| workspace_root().join(format!("{folder}{path}")).exists());
            assert!(known, "{document} names {path}");
        }
    }
}

/// Every test that a document names as the holder of an invariant exists.
#[test]
fn invariants_name_tests_that_exist() {
    for (document, folders) in [
        ("docs/STORAGE.md", &["storage", "tests"][..]),
        (
            "docs/REPLICATION.md",
            &[
                "coordination",
                "broker",
                "storage",
                "client",
                "verify",
                "tests",
            ][..],
        ),
    ] {
        let text = fs::read_to_string(workspace_root().join(document)).unwrap();
        let sources = sources_of(folders);
        let named: Vec<&str> = text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| name.matches('_').count() >= 3)
            .filter(|name| {
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_numeric())
            })
            .collect();
        assert!(named.len() > 5, "{document} names tests: {named:?}");
        for name in named {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "{document} names {name}"
            );
        }
    }
}

/// All Rust sources of these folders.
fn sources_of(folders: &[&str]) -> String {
    let mut sources = String::new();
    let mut folders: Vec<_> = folders
        .iter()
        .map(|folder| workspace_root().join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    sources
}

/// Links from one document to another, and to a heading of it.
#[test]
fn links_between_documents_lead_somewhere() {
    let docs = workspace_root().join("docs");
    let headings = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| {
                let words = line.trim_start_matches('#').trim().to_lowercase();
                let kept = words
                    .chars()
                    .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                kept.map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    };
    for document in ["REPLICATION.md", "OPERATIONS.md", "STORAGE.md"] {
        let text = fs::read_to_string(docs.join(document)).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = docs.join(if file.is_empty() { document } else { file });
            assert!(path.exists(), "{document} links to {target}");
            if !heading.is_empty() {
                let there = headings(&fs::read_to_string(&path).unwrap());
                assert!(
                    there.iter().any(|one| one == heading),
                    "{document} links to {target}; there are {there:?}"
                );
            }
        }
    }
}
