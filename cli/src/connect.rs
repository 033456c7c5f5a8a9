//! The way to the cluster.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use highwater_client::{Admin, Client};

use crate::args::{ConnectArgs, OutputArgs};
use crate::exit::{Exit, Failure, Failures};

/// What verbs need that ask the cluster something.
pub(crate) struct Session {
    client: Client,
    /// Whether results are printed as JSON.
    pub(crate) json: bool,
}

impl Session {
    /// Connects.
    pub(crate) async fn open(args: &ConnectArgs, output: &OutputArgs) -> Result<Self, Failure> {
        Ok(Self {
            client: connect(args).await?,
            json: output.json(),
        })
    }

    /// The administrative calls.
    pub(crate) fn admin(&self) -> Admin {
        self.client.admin()
    }

    /// For verbs that go on after one of several things failed.
    pub(crate) fn failures(&self) -> Failures {
        Failures::new(self.json)
    }
}

/// Connects to the first broker that answers.
pub(crate) async fn connect(args: &ConnectArgs) -> Result<Client, Failure> {
    let connecting = Client::builder()
        .seeds(&args.bootstrap)
        .client_name("highwater-cli")
        .request_timeout(args.timeout)
        .connect();
    match tokio::time::timeout(args.timeout, connecting).await {
        Ok(client) => Ok(client?),
        Err(_) => Err(Failure::new(
            Exit::Timeout,
            "ConnectTimedOut",
            format!(
                "no answer from {} within {}",
                args.bootstrap.join(", "),
                humantime::format_duration(args.timeout)
            ),
        )
        .hint("is a broker running? start one with `highwater broker`")),
    }
}

/// Asks before something that cannot be undone, if there is someone to ask. `yes` skips it.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(());
    }
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let answered = asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    if answered.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(
            Exit::Error,
            "not_confirmed",
            "not confirmed, nothing was done",
        )
        .hint("-y skips the question"))
    }
}
