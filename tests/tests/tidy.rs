//! The house rules that a machine can hold: crate graph, file sizes, where unsafe code and clocks may
//! be, which licences and crates the tree may have.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_tests::workspace_root;

const LINES_MAX: usize = 800;

fn source_files() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let root = workspace_root();
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(found.len() > 50, "the walk found the sources");
    found
        .into_iter()
        .map(|(path, text)| (path.strip_prefix(&root).unwrap().to_owned(), text))
        .collect()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(workspace_root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn files_have_one_purpose_and_fit_on_a_few_screens() {
    let long: Vec<_> = source_files()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LINES_MAX)
        .map(|(path, text)| (path, text.lines().count()))
        .collect();
    assert!(
        long.is_empty(),
        "files of more than {LINES_MAX} lines: {long:?}"
    );
}

#[test]
fn no_file_is_named_for_everything_and_nothing() {
    for (path, _) in source_files() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            ![
                "utils", "util", "common", "helpers", "helper", "manager", "misc"
            ]
            .contains(&stem.as_str()),
            "{}",
            path.display()
        );
    }
}

#[test]
fn unsafe_code_is_in_the_mapping_module_alone() {
    // Put together here, so that this file does not find itself.
    let mark = ["allow(", "unsafe_code)"].concat();
    for (path, text) in source_files() {
        let opens = text.contains(&mark);
        let may = path == Path::new("storage/src/map.rs") || path.ends_with("storage/src/lib.rs");
        assert!(!opens || may, "{} allows unsafe code", path.display());
    }
    for name in [
        "protocol",
        "coordination",
        "config",
        "client",
        "broker",
        "verify",
        "tests",
    ] {
        let lib = std::fs::read_to_string(workspace_root().join(name).join("src/lib.rs")).unwrap();
        assert!(
            lib.contains("#![forbid(unsafe_code)]"),
            "{name} forbids unsafe code"
        );
    }
}

#[test]
fn the_broker_reads_the_wall_clock_in_one_place() {
    for (path, text) in source_files() {
        let decides = ["broker", "storage", "coordination", "protocol"]
            .iter()
            .any(|name| path.starts_with(format!("{name}/src")));
        if decides && path != Path::new("broker/src/clock.rs") {
            assert!(
                !text.contains("SystemTime::now"),
                "{} reads the clock",
                path.display()
            );
        }
    }
}

#[test]
fn crates_depend_only_as_the_map_says() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("highwater-protocol", &[][..]),
        ("highwater-storage", &["highwater-protocol"][..]),
        ("highwater-coordination", &["highwater-protocol"][..]),
        ("highwater-config", &["highwater-protocol"][..]),
        ("highwater-client", &["highwater-protocol"][..]),
        ("highwater-verify", &["highwater-client"][..]),
        (
            "highwater-broker",
            &[
                "highwater-protocol",
                "highwater-storage",
                "highwater-coordination",
                "highwater-config",
            ][..],
        ),
    ]);
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    for (name, allowed) in allowed {
        let package = packages.iter().find(|p| p["name"] == name).unwrap();
        let depends: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        let ours: Vec<_> = depends
            .iter()
            .filter(|dependency| dependency.starts_with("highwater"))
            .filter(|dependency| !allowed.contains(dependency))
            .collect();
        assert!(ours.is_empty(), "{name} must not depend on {ours:?}");
        if [
            "highwater-protocol",
            "highwater-storage",
            "highwater-coordination",
        ]
        .contains(&name)
        {
            for foreign in ["tokio", "rand", "hyper", "axum"] {
                assert!(
                    !depends.contains(foreign),
                    "{name} must not depend on {foreign}"
                );
            }
        }
    }
}

/// Rules that can be broken are for `tests/tests/mutants.rs`, which builds them itself.
#[test]
fn no_build_that_is_shipped_or_tested_has_mutants() {
    let metadata = metadata();
    let named = |features: &serde_json::Value| {
        let mut features = features.as_array().into_iter().flatten();
        features.any(|feature| feature.as_str().unwrap().contains("mutants"))
    };
    let mut having = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let features = package["features"].as_object().unwrap();
        having += usize::from(features.contains_key("mutants"));
        for (name, implied) in features.iter().filter(|(name, _)| *name != "mutants") {
            assert!(
                !named(implied),
                "{}/{name} asks for mutants",
                package["name"]
            );
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = &dependency["name"];
            assert!(
                !named(&dependency["features"]),
                "{name} is asked for mutants"
            );
        }
    }
    assert!(having > 1, "there are mutants");
}

#[test]
fn the_dependency_tree_has_only_allowed_licences_and_crates() {
    let deny = std::fs::read_to_string(workspace_root().join("deny.toml")).unwrap();
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let allowed: BTreeSet<String> = deny
        .lines()
        .skip_while(|line| !line.starts_with("allow = ["))
        .take_while(|line| !line.starts_with(']'))
        .filter_map(quoted)
        .collect();
    let banned: BTreeSet<String> = deny
        .lines()
        .filter(|line| line.contains("{ crate = "))
        .filter_map(quoted)
        .collect();
    assert!(
        allowed.contains("MIT") && banned.contains("bincode"),
        "deny.toml could be read"
    );
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        assert!(!banned.contains(name), "{name} is banned by deny.toml");
        let licence = package["license"].as_str().unwrap_or("none");
        // An expression is fine when each "AND" part offers at least one allowed choice.
        let normal = licence.replace('/', " OR ").replace(['(', ')'], "");
        let fine = normal.split(" AND ").all(|part| {
            part.split(" OR ")
                .any(|choice| allowed.contains(choice.trim()))
        });
        assert!(fine, "{name} has licence {licence}");
    }
}

#[test]
fn nothing_unfinished_is_left() {
    // Put together here, so that this file does not find itself.
    let marks = [
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["FIX", "ME"].concat(),
    ];
    for (path, text) in source_files() {
        for mark in &marks {
            assert!(
                !text.contains(mark.as_str()),
                "{} contains {mark}",
                path.display()
            );
        }
    }
}
