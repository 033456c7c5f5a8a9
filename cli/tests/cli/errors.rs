//! What a user sees when something is wrong: one line, a hint, and the right status.

use crate::harness::{highwater, run, run_command};

/// Nobody listens there: the port was free a moment ago.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn no_broker() {
    let address = closed_port();
    for args in [
        &["topic", "list"][..],
        &["cluster", "info"],
        &["consume", "t"],
        &["produce", "t"],
        &["topic", "offsets", "t"],
    ] {
        let args: Vec<&str> = args.iter().copied().chain(["-b", &address]).collect();
        let error = run(&args).fails(1);
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 2, "{error}");
        assert!(
            lines[0].starts_with("error: ") && lines[0].contains(&address),
            "{error}"
        );
        assert!(
            lines[1].starts_with("hint: ") && lines[1].contains("highwater broker"),
            "{error}"
        );
    }
}

#[test]
fn no_broker_in_json() {
    let error = run(&["topic", "list", "-o", "json", "-b", &closed_port()]).fails(1);
    let error: serde_json::Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"]["code"], "ConnectFailed");
    assert!(
        error["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("highwater broker")
    );
}

#[test]
fn somebody_who_does_not_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = run(&["topic", "list", "-b", &address, "--timeout", "200ms"]).fails(3);
    assert!(error.contains("hint: "), "{error}");
}

#[test]
fn usage_errors_have_their_own_status() {
    for args in [
        &["nonsense"][..],
        &["topic"],
        &["consume"],
        &["consume", "t", "-o", "sideways"],
        &["consume", "t", "-f", "%q"],
        &["produce", "t", "--acks", "2"],
        &["topic", "create", "t", "-p", "0"],
        &["topic", "list", "-b", "nonsense"],
    ] {
        let run = run(args);
        assert_eq!(run.status, 64, "{args:?}: {run:?}");
    }
    let offset = run(&["consume", "t", "-o", "sideways"]).fails(64);
    assert!(offset.contains("@-1h:end"), "{offset}");
}

#[test]
fn help_has_examples_for_every_verb() {
    for args in [
        &["--help"][..],
        &["broker", "--help"],
        &["topic", "create", "--help"],
        &["topic", "list", "--help"],
        &["topic", "describe", "--help"],
        &["topic", "delete", "--help"],
        &["topic", "add-partitions", "--help"],
        &["topic", "config", "--help"],
        &["topic", "offsets", "--help"],
        &["topic", "trim", "--help"],
        &["produce", "--help"],
        &["consume", "--help"],
        &["cluster", "info", "--help"],
        &["cluster", "health", "--help"],
        &["cluster", "quorum", "--help"],
        &["cluster", "voters", "--help"],
        &["node", "list", "--help"],
        &["node", "describe", "--help"],
        &["node", "drain", "--help"],
        &["node", "undrain", "--help"],
        &["node", "remove", "--help"],
        &["partition", "list", "--help"],
        &["partition", "move", "--help"],
        &["partition", "elect", "--help"],
        &["balance", "plan", "--help"],
        &["balance", "run", "--help"],
        &["balance", "status", "--help"],
        &["balance", "cancel", "--help"],
        &["log", "dump", "--help"],
        &["log", "verify", "--help"],
        &["config", "check", "--help"],
        &["config", "explain", "--help"],
        &["completion", "--help"],
    ] {
        let help = run(args).ok();
        assert!(help.contains("Examples:"), "{args:?}: {help}");
    }
}

#[test]
fn completions_name_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]).ok();
        for verb in ["produce", "consume", "add-partitions"] {
            assert!(script.contains(verb), "{shell} lacks {verb}");
        }
    }
}

#[test]
fn several_addresses_are_tried_in_turn() {
    let broker = crate::harness::Broker::start();
    let closed = closed_port();
    run(&["topic", "list", "-b", &closed, "-b", &broker.address]).ok();
    let both = format!("{closed},{}", broker.address);
    run_command(
        highwater()
            .args(["topic", "list"])
            .env("HIGHWATER_BOOTSTRAP", both),
        b"",
    )
    .ok();
}
