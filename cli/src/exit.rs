//! How a run ends: the exit status and, if it failed, the one line that says why.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use crate::args;

/// Exit statuses. They are part of the interface: scripts branch on them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Exit {
    /// Everything that was asked for was done.
    Ok,
    /// It failed.
    Error,
    /// It was done, and found something: a fault in a configuration, damage in a log.
    Findings,
    /// It took longer than it may.
    Timeout,
    /// Not allowed.
    Denied,
    /// There is no such topic, partition, file or setting.
    NotFound,
    /// It was done, and shows nothing: too little happened.
    Insufficient,
    /// The command line makes no sense.
    Usage,
    /// Stopped by Ctrl-C before the work was done.
    Interrupted,
    /// A status that a verb has chosen itself.
    Own(ExitCode),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ok => Self::from(0),
            Exit::Error => Self::from(1),
            Exit::Findings => Self::from(2),
            Exit::Timeout => Self::from(3),
            Exit::Denied => Self::from(4),
            Exit::NotFound => Self::from(5),
            Exit::Insufficient => Self::from(6),
            Exit::Usage => Self::from(64),
            Exit::Interrupted => Self::from(130),
            Exit::Own(code) => code,
        }
    }
}

impl From<ExitCode> for Exit {
    fn from(code: ExitCode) -> Self {
        Self::Own(code)
    }
}

/// What a verb comes to.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a verb failed, for a person and for a script.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) exit: Exit,
    /// A stable name for scripts: an error code of the protocol, or one of ours in snake case.
    pub(crate) code: Cow<'static, str>,
    /// What happened, in one line.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure with a status and a stable code.
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: Cow::Borrowed(code),
            message: message.into(),
            hint: None,
        }
    }

    /// A failure of no special kind.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Exit::Error, "error", message)
    }

    /// Arguments that contradict each other in a way that the parser cannot see.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// With advice.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writes it to stderr: `error: …` and `hint: …`, or one JSON object.
    pub(crate) fn report(&self, json: bool) {
        let mut stderr = std::io::stderr().lock();
        // A closed stderr leaves nobody to tell.
        let _ = if json {
            writeln!(stderr, "{}", self.to_json())
        } else {
            let painted = args::may_color() && stderr.is_terminal();
            let (red, cyan, plain) = if painted {
                ("\x1b[1;31m", "\x1b[36m", "\x1b[0m")
            } else {
                ("", "", "")
            };
            let mut text = format!("{red}error:{plain} {}\n", one_line(&self.message));
            if let Some(hint) = &self.hint {
                text.push_str(&format!("{cyan}hint:{plain} {}\n", one_line(hint)));
            }
            stderr.write_all(text.as_bytes())
        };
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": { "code": self.code, "message": self.message, "hint": self.hint }
        })
    }
}

/// The failures of a verb that goes on after one: each is reported as it happens.
#[derive(Debug)]
pub(crate) struct Failures {
    json: bool,
    first: Option<Exit>,
}

impl Failures {
    /// None yet.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, first: None }
    }

    /// Reports one.
    pub(crate) fn add(&mut self, failure: impl Into<Failure>) {
        let failure = failure.into();
        failure.report(self.json);
        self.first.get_or_insert(failure.exit);
    }

    /// The status of the first, if there was one.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.first
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::from_chain(&error),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Errors of other crates may hold line breaks; a terminal line must not.
fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) {
        Cow::Owned(
            text.split(['\n', '\r'])
                .map(str::trim)
                .filter(|l| !l.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
        )
    } else {
        Cow::Borrowed(text)
    }
}
