//! What is going on, on a terminal only.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const OF_A_TOTAL: &str =
    "{wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {msg}  {eta} left";
const MESSAGE: &str = "{spinner} {msg}  {elapsed}";
const WITHOUT_END: &str = "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {msg}  {elapsed}";

/// A line on stderr that shows how far long work has come; nothing where stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shows nothing.
    pub(crate) fn hidden() -> Self {
        Self {
            bar: ProgressBar::hidden(),
        }
    }

    /// Bytes out of a total, or only bytes if nobody knows the total.
    pub(crate) fn bytes(total: Option<u64>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::hidden();
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), OF_A_TOTAL),
            None => (ProgressBar::new_spinner(), WITHOUT_END),
        };
        let style = ProgressStyle::with_template(template)
            .expect("the template is a constant that a test has parsed");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// A message that changes.
    pub(crate) fn message() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::hidden();
        }
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template(MESSAGE)
            .expect("the template is a constant that a test has parsed");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Whether there is a terminal that shows it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Another message.
    pub(crate) fn say(&self, message: String) {
        self.bar.set_message(message);
    }

    /// So many bytes more, and so many records in all.
    pub(crate) fn advance(&self, bytes: u64, records: u64) {
        if !self.bar.is_hidden() {
            self.bar.inc(bytes);
            self.bar.set_message(format!("{records} records"));
        }
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for template in [OF_A_TOTAL, WITHOUT_END, MESSAGE] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn a_hidden_line_costs_nothing_and_never_fails() {
        let progress = Progress::hidden();
        progress.advance(10, 1);
        progress.finish();
    }
}
