//! Which environment variable is which setting.
//!
//! One rule: `HIGHWATER_`, then the name in upper case with `_` for each dot. `retention.ms` is
//! `HIGHWATER_RETENTION_MS`. Names consist of letters, digits and dots only, so this is unambiguous.

use crate::setting::Setting;
use crate::table::SETTINGS;

/// What every variable of ours begins with.
pub const ENVIRONMENT_PREFIX: &str = "HIGHWATER_";

/// Variables of the command line tools, and beginnings of such, which are no settings of the broker.
const RESERVED: &[&str] = &[
    "HIGHWATER_CONFIG",
    "HIGHWATER_BOOTSTRAP",
    "HIGHWATER_BROKER",
    "HIGHWATER_BROKERS",
    "HIGHWATER_CONTEXT",
    "HIGHWATER_CLIENT_",
    "HIGHWATER_CLI_",
    "HIGHWATER_BENCH_",
    "HIGHWATER_TEST_",
];

/// The environment variable of a setting.
#[must_use]
pub fn variable(setting: &Setting) -> String {
    format!(
        "{ENVIRONMENT_PREFIX}{}",
        setting.key.to_ascii_uppercase().replace('.', "_")
    )
}

/// The setting of a variable, by its canonical name.
pub(crate) fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| variable(setting) == name)
}

/// Whether a variable with our prefix belongs to someone else: to our tools, or to an orchestrator
/// that announces a service which is called like us.
pub(crate) fn is_foreign(name: &str) -> bool {
    let reserved = RESERVED.iter().any(|known| {
        if known.ends_with('_') {
            name.starts_with(known)
        } else {
            name == *known
        }
    });
    reserved || is_service_link(name)
}

/// Kubernetes and Docker set `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT`, `<SERVICE>_PORT_7171_TCP_ADDR`
/// and so on in every container beside a service of this name.
fn is_service_link(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    words
        .windows(2)
        .any(|pair| pair[0] == "SERVICE" && matches!(pair[1], "HOST" | "PORT"))
        || words.last() == Some(&"PORT")
        || words.windows(3).any(|three| {
            three[0] == "PORT" && is_number(three[1]) && matches!(three[2], "TCP" | "UDP" | "SCTP")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_variable_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in SETTINGS {
            let name = variable(entry);
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(!is_foreign(&name), "{name}");
            assert_eq!(setting(&name).map(|found| found.key), Some(entry.key));
            assert!(seen.insert(name));
        }
    }

    #[test]
    fn links_to_services_are_not_ours() {
        for name in [
            "HIGHWATER_SERVICE_HOST",
            "HIGHWATER_SERVICE_PORT_ADMIN",
            "HIGHWATER_PORT",
            "HIGHWATER_ADMIN_PORT",
            "HIGHWATER_PORT_7171_TCP",
            "HIGHWATER_HEADLESS_PORT_7171_TCP_ADDR",
            "HIGHWATER_CONFIG",
            "HIGHWATER_TEST_SEED",
        ] {
            assert!(is_foreign(name), "{name}");
        }
        assert!(!is_foreign("HIGHWATER_PORTS"));
        assert!(!is_foreign("HIGHWATER_CONFIGS"));
    }
}
