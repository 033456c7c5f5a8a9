//! Records on their way to stdout, many in one write.

use std::io::{self, Write};

use super::format::Format;
use super::json_line;
use super::record_view::RecordView;

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// How a record looks.
#[derive(Debug)]
pub(crate) enum Style {
    /// The value and a line feed, which is what `-f '%v\n'` prints too.
    Value,
    /// As `-f` says.
    Format(Format),
    /// A JSON object a line.
    Json,
}

impl Style {
    /// Whether headers are printed, and so worth decoding.
    pub(crate) fn wants_headers(&self) -> bool {
        match self {
            Self::Value => false,
            Self::Format(format) => format.wants_headers(),
            Self::Json => true,
        }
    }
}

/// Prints records.
#[derive(Debug)]
pub(crate) struct Printer<W> {
    style: Style,
    buffer: Vec<u8>,
    output: W,
}

impl<W: Write> Printer<W> {
    /// Prints to `output`.
    pub(crate) fn new(style: Style, output: W) -> Self {
        Self {
            style,
            buffer: Vec::with_capacity(BUFFER_BYTES + (BUFFER_BYTES >> 2)),
            output,
        }
    }

    /// How records look.
    pub(crate) fn style(&self) -> &Style {
        &self.style
    }

    /// Adds a record; writes when enough has come together.
    pub(crate) fn print(&mut self, record: &RecordView<'_>) -> io::Result<()> {
        match &self.style {
            Style::Value => {
                self.buffer
                    .extend_from_slice(record.value.unwrap_or_default());
                self.buffer.push(b'\n');
            }
            Style::Format(format) => format.render(record, &mut self.buffer),
            Style::Json => json_line::render(record, &mut self.buffer),
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.write()
        } else {
            Ok(())
        }
    }

    /// Writes what there is.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        self.output.flush()
    }

    fn write(&mut self) -> io::Result<()> {
        let result = self.output.write_all(&self.buffer);
        // Also after an error, so that nothing is ever written twice.
        self.buffer.clear();
        result
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::ids::{Offset, PartitionId, Timestamp};

    use super::*;

    fn print(style: Style, value: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut printer = Printer::new(style, &mut out);
        let record = RecordView {
            topic: "t",
            partition: PartitionId::ZERO,
            offset: Offset::new(7),
            timestamp: Timestamp::from_millis(0),
            key: None,
            value,
            headers: &[],
        };
        printer.print(&record).unwrap();
        printer.flush().unwrap();
        out
    }

    #[test]
    fn each_style_ends_its_records() {
        assert_eq!(print(Style::Value, Some(b"x")), b"x\n");
        assert_eq!(print(Style::Value, None), b"\n");
        assert_eq!(
            print(Style::Format(Format::parse("%o;").unwrap()), Some(b"x")),
            b"7;"
        );
        assert!(print(Style::Json, Some(b"x")).ends_with(b"}\n"));
    }

    #[test]
    fn large_records_are_written_at_once() {
        let large = vec![b'x'; 2 * BUFFER_BYTES];
        assert_eq!(print(Style::Value, Some(&large)).len(), large.len() + 1);
    }
}
