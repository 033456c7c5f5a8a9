//! Results on stdout: a table for people, JSON for programs.

use std::io::{self, Write as _};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Failure;

/// A column and how it is aligned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    /// Words.
    Text(&'static str),
    /// Numbers, aligned on the right.
    Number(&'static str),
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
}

impl Rows {
    /// A table without rows.
    pub(crate) fn new(columns: &[Column]) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns.iter().map(|column| match column {
            Column::Text(name) | Column::Number(name) => *name,
        }));
        for (column, kind) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            if let Column::Number(_) = kind {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table }
    }

    /// Adds a row with one cell a column.
    pub(crate) fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table
            .add_row(cells.into_iter().map(|cell| printable(&cell)));
    }
}

impl std::fmt::Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in self.table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Writes text to stdout.
pub(crate) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    finish(write!(io::stdout().lock(), "{text}"))
}

/// Writes a value to stdout as JSON, indented.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::error(format!("cannot write JSON: {error}")))?;
    finish(writeln!(io::stdout().lock(), "{text}"))
}

/// Writes one line to stderr: what a person should know and a program need not.
pub(crate) fn note(text: impl std::fmt::Display) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whoever reads our output may stop when they have enough (`| head`): that is no error.
fn finish(result: io::Result<()>) -> Result<(), Failure> {
    match result.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// `1536` as `1.5 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, singular: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {singular}{plural}")
}

/// Text from elsewhere must not move the cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_have_no_blank_ends() {
        let mut rows = Rows::new(&[Column::Text("NAME"), Column::Number("RECORDS")]);
        rows.push(["orders".to_owned(), "7".to_owned()]);
        rows.push(["x".to_owned(), "12345678".to_owned()]);
        assert_eq!(
            rows.to_string(),
            "NAME     RECORDS\norders         7\nx       12345678\n"
        );
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        let mut rows = Rows::new(&[Column::Text("NAME")]);
        rows.push(["a\x1b[2Jb".to_owned()]);
        assert_eq!(rows.to_string(), "NAME\na\u{fffd}[2Jb\n");
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(0, "record"), "0 records");
    }
}
