//! All settings in words: the texts of `config/highwater.toml` and `docs/CONFIG.md`.

use crate::setting::{Kind, Setting};
use crate::table::SETTINGS;

/// The text of `config/highwater.toml`: every setting with its default and what it means.
#[must_use]
pub fn reference_file() -> String {
    let mut text = String::from(HEAD);
    let mut section = "";
    for setting in SETTINGS {
        let of = section_of(setting);
        if of != section {
            section = of;
            text.push_str(&format!("\n# {:=<98}\n# {section}\n# {:=<98}\n", "", ""));
        }
        text.push('\n');
        for line in wrap(setting.doc, 98) {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("# Values: {}.\n", setting.describe_values()));
        text.push_str(&format!("{} = {}\n", setting.key, toml_value(setting)));
    }
    text
}

const HEAD: &str = "\
# Highwater: every setting of a broker with its default. Loading this file changes nothing.
#
#   highwater broker --config highwater.toml
#
# What is set later overrides what is set earlier:
#   1. the defaults       2. this file       3. the environment       4. --set key=value
#   5. dedicated flags such as --listen and --data-dir
#
# The environment variable of a setting is HIGHWATER_, then its name in upper case with _ for each
# dot: retention.ms is HIGHWATER_RETENTION_MS. `highwater config explain KEY` tells all about one.
#
# Durations have units: 500ms, 30s, 10m, 12h, 7d, 1h30m. Sizes are bytes or have units: 64KiB, 1MiB
# (powers of 1024) or kB, MB (powers of 1000). Tables are another way to write the dots: [network]
# with threads = 4 in it is network.threads = 4. Unknown names are refused.
#
# This file is generated; change config/src/table.rs and run
#   HIGHWATER_TEST_BLESS=1 cargo test -p highwater-config
";

/// The text of `docs/CONFIG.md`: how settings are given, and all of them in tables.
#[must_use]
pub fn reference_document() -> String {
    let mut text = String::from(DOCUMENT_HEAD);
    let mut section = "";
    for setting in SETTINGS {
        let of = section_of(setting);
        if of != section {
            section = of;
            text.push_str(&format!("\n## {section}\n\n"));
            text.push_str("| Setting | Default | Values | What it is |\n|---|---|---|---|\n");
        }
        let mut doc = setting.doc.to_owned();
        if !setting.aliases.is_empty() {
            let aliases: Vec<_> = setting
                .aliases
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            doc.push_str(&format!(" Also accepted: {}.", aliases.join(", ")));
        }
        let default = match setting.default {
            "" => "none".to_owned(),
            default => format!("`{default}`"),
        };
        let values = setting.describe_values();
        text.push_str(&format!(
            "| `{}` | {default} | {values} | {doc} |\n",
            setting.key
        ));
    }
    text.push_str(DOCUMENT_TAIL);
    text
}

const DOCUMENT_HEAD: &str = "\
# Settings

All settings of a broker, with their defaults. `config/highwater.toml` has the same as a file to start
from. This page is generated from `config/src/table.rs`.

Settings come from five places. Each overrides those before it:

1. the defaults
2. a TOML file: `highwater broker --config FILE`
3. the environment: `HIGHWATER_`, then the name in upper case with `_` for each dot, so that
   `retention.ms` is `HIGHWATER_RETENTION_MS`
4. `--set key=value`
5. dedicated flags, such as `--listen` and `--data-dir`

In TOML, tables are another way to write the dots: `[network]` with `threads = 4` in it is
`network.threads = 4`. Durations have units (`500ms`, `30s`, `10m`, `12h`, `7d`, `1h30m`); a bare number is
accepted, as milliseconds, where the name ends in `.ms`. Sizes are bytes or have units: `64KiB`, `1MiB`,
`1GiB` are powers of 1024, `kB`, `MB`, `GB` powers of 1000.

A name that does not exist is refused, with the nearest that does. So is a setting that is known but
does not work yet, such as those of compaction, and a value that does not fit to another. Everything
that is wrong is reported at once. `highwater config check FILE` does this without starting a broker;
`highwater config explain KEY` tells about one setting, and where its value comes from.

Environment variables that begin with `HIGHWATER_` and are no setting are refused as well, so that a
slip does not go unnoticed. Left alone are those of the command line tools (`HIGHWATER_CONFIG`,
`HIGHWATER_BOOTSTRAP` and others) and those with which Kubernetes and Docker announce a service that is
called `highwater` (`HIGHWATER_SERVICE_HOST`, `HIGHWATER_PORT`, `HIGHWATER_PORT_7171_TCP` and so on).
";

const DOCUMENT_TAIL: &str = "
A topic's own values are set when it is created, `highwater topic create NAME -c key=value`, or later,
`highwater topic config NAME set key=value`, and take effect at once.
";

fn section_of(setting: &Setting) -> &'static str {
    if setting.is_topic() {
        return "Topics: the broker's defaults. A topic can have its own value under the same name.";
    }
    match setting.key.split('.').next() {
        Some("admin") => "Admin HTTP endpoint",
        Some("log") => "Logging",
        Some("network") => "Network",
        Some("storage") => "Storage",
        Some("num" | "default") => "New topics",
        Some("replica" | "replication") => "Replication",
        Some("heal" | "balance" | "leader") => "Healing and balance",
        _ => "The broker",
    }
}

fn toml_value(setting: &Setting) -> String {
    match setting.kind {
        Kind::Addresses => {
            let items: Vec<_> = setting
                .default
                .split(',')
                .filter(|item| !item.is_empty())
                .map(|item| format!("{item:?}"))
                .collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Number { .. } if Some(setting.default) != setting.none => setting.default.to_owned(),
        _ => format!("{:?}", setting.default),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
