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
            let known = ["", "broker/src/", "protocol/src/", "storage/src/"]
                .iter()
                .any(|folder| workspace_root().join(format!("{folder}{path}")).exists());
            assert!(known, "{document} names {path}");
        }
    }
}

/// Every test that a document names as the holder of an invariant exists.
#[test]
fn invariants_name_tests_that_exist() {
    let storage = fs::read_to_string(workspace_root().join("docs/STORAGE.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![
        workspace_root().join("storage"),
        workspace_root().join("tests"),
    ];
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
    let named: Vec<&str> = storage
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.matches('_').count() >= 3)
        .filter(|name| {
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_numeric())
        })
        .collect();
    assert!(named.len() > 5, "the document names tests: {named:?}");
    for name in named {
        assert!(
            sources.contains(&format!("fn {name}")),
            "docs/STORAGE.md names {name}"
        );
    }
}
