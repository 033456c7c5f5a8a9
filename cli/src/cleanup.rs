//! Ctrl-C and SIGTERM: nothing that was started for a run is left behind, no process and no file.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;

/// What has to go if the work is cut short.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cleanup {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    processes: Vec<Pid>,
    directories: Vec<PathBuf>,
}

impl Cleanup {
    /// Notes a child process of ours.
    pub(crate) fn add_process(&self, id: u32) {
        let id = i32::try_from(id).ok().and_then(Pid::from_raw);
        self.with(|state| state.processes.extend(id));
    }

    /// Forgets a child process that ended: its number may soon belong to somebody else.
    pub(crate) fn remove_process(&self, id: u32) {
        self.with(|state| {
            state
                .processes
                .retain(|process| u32::try_from(process.as_raw_nonzero().get()) != Ok(id));
        });
    }

    /// Notes a directory that we made.
    pub(crate) fn add_directory(&self, path: PathBuf) {
        self.with(|state| state.directories.push(path));
    }

    /// Ends the processes and removes the directories.
    pub(crate) fn run(&self) {
        self.with(|state| {
            for process in state.processes.drain(..) {
                // Gone already is as good.
                let _ = kill_process(process, Signal::KILL);
            }
            for directory in state.directories.drain(..) {
                let _ = fs::remove_dir_all(directory);
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs `work` on a thread of its own until it is done or the process is asked to stop.
///
/// Cancel safety: dropped, it leaves the thread to itself.
pub(crate) async fn run_until_interrupted<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(&Cleanup) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut interrupt = Interrupt::listen()?;
    let cleanup = Cleanup::default();
    let (done, outcome) = oneshot::channel();
    let of_thread = cleanup.clone();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody waits any more only after an interruption.
            let _ = done.send(work(&of_thread));
        })
        .context("starting a thread")?;
    tokio::select! {
        outcome = outcome => outcome.context("the measuring thread panicked")?,
        () = interrupt.wait() => {
            cleanup.run();
            Err(Failure::new(Exit::Interrupted, "interrupted", "stopped before it was done").into())
        }
    }
}
