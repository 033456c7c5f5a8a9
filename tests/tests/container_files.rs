//! The Dockerfile and docker-compose.yml agree with the rest of the repository. What needs a Docker
//! Engine to be seen is in `containers/`.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::collections::BTreeMap;
use std::ffi::OsString;

use highwater_config::{LoadOptions, load};
use highwater_tests::workspace_root;

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace_root().join(path)).unwrap()
}

/// What stands between quotes in the first line that begins so.
fn quoted(text: &str, start: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.starts_with(start)).unwrap();
    line.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_image_is_built_by_the_compiler_that_the_workspace_asks_for() {
    let version = quoted(&read("Cargo.toml"), "rust-version").remove(0);
    let dockerfile = read("Dockerfile");
    assert!(
        dockerfile.contains(&format!("FROM rust:{version}-bookworm ")),
        "the Dockerfile does not start from Rust {version}"
    );
}

#[test]
fn the_image_gets_every_crate_that_it_is_built_from() {
    let dockerfile = read("Dockerfile");
    let ignore = read(".dockerignore");
    for member in quoted(&read("Cargo.toml"), "members") {
        let manifest = format!("COPY {member}/Cargo.toml {member}/");
        assert!(dockerfile.contains(&manifest), "no {manifest:?}");
        let sources = format!("COPY {member} {member}");
        let is_product = !member.starts_with("tests") && member != "benches";
        assert_eq!(dockerfile.contains(&sources), is_product, "{sources:?}");
        assert!(
            ignore.contains(&format!("!{member}")),
            "{member} is ignored"
        );
    }
}

/// The `HIGHWATER_…` variables of each service, those of the image and of the anchor included.
fn environments() -> BTreeMap<String, Vec<(String, String)>> {
    let of_image: Vec<(String, String)> = read("Dockerfile")
        .lines()
        .filter_map(|line| {
            let line = line
                .trim()
                .trim_start_matches("ENV ")
                .trim_end_matches(" \\");
            let (name, value) = line.split_once('=')?;
            name.starts_with("HIGHWATER_")
                .then(|| (name.to_owned(), value.to_owned()))
        })
        .collect();
    assert!(of_image.len() >= 3, "the image sets {of_image:?}");

    let mut shared = Vec::new();
    let mut services: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut service: Option<String> = None;
    for line in read("docker-compose.yml").lines() {
        let indent = line.len() - line.trim_start().len();
        let Some((name, value)) = line.trim().split_once(':') else {
            continue;
        };
        match indent {
            0 => service = None,
            2 if value.is_empty() => service = Some(name.to_owned()),
            _ if name.starts_with("HIGHWATER_") => {
                let value = value.trim().trim_matches('"').to_owned();
                let variable = (name.to_owned(), value);
                match &service {
                    Some(service) => services.entry(service.clone()).or_default().push(variable),
                    None => shared.push(variable),
                }
            }
            _ => {}
        }
    }
    for (name, environment) in &mut services {
        let mut all = of_image.clone();
        if name.starts_with("broker") {
            all.extend(shared.clone());
        }
        all.append(environment);
        *environment = all;
    }
    services
}

#[test]
fn every_variable_of_the_services_is_a_setting_with_a_good_value() {
    let services = environments();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["broker1", "broker2", "broker3", "client"]);
    for (number, name) in ["broker1", "broker2", "broker3"].iter().enumerate() {
        // What comes later wins, as in the files.
        let environment: BTreeMap<_, _> = services[*name].iter().cloned().collect();
        let options = LoadOptions {
            environment: environment
                .into_iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .collect(),
            ..LoadOptions::default()
        };
        let config = load(&options)
            .unwrap_or_else(|errors| panic!("{name}: {errors}"))
            .config;
        assert_eq!(config.node_id.unwrap().get() as usize, number + 1);
        let advertised = config.advertised_listen.unwrap();
        assert_eq!(config.seeds[number], advertised, "{name} is a seed");
        let (host, port) = advertised.split_once(':').unwrap();
        assert_eq!(host, *name);
        assert_eq!(config.listen, format!("0.0.0.0:{port}"));
        assert!(config.rack.is_some());

        let client = &services["client"];
        let (_, bootstrap) = client
            .iter()
            .find(|(name, _)| name == "HIGHWATER_BOOTSTRAP")
            .unwrap();
        assert!(bootstrap.split(',').any(|address| address == advertised));
    }
}

#[test]
fn images_have_no_host_names() {
    for line in read("Dockerfile").lines() {
        if let Some(image) = line.strip_prefix("FROM ") {
            let image = image.split(' ').next().unwrap();
            assert!(!image.contains('/'), "{image}");
        }
    }
}
