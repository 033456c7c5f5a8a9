//! What the demo shows while it runs: one screen on a terminal, a line now and then elsewhere.

use std::borrow::Cow;
use std::io::{IsTerminal as _, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::bench::latency::Percentiles;
use crate::demo::board::Board;
use crate::demo::track::{Counts, Track};
use crate::output::{Column, Rows, note};

/// Redraws are cheap, and faster than this nobody reads.
const REFRESH: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What the demo is doing, for the first line of the screen.
#[derive(Debug, Clone)]
pub(crate) struct Phase(Arc<Mutex<Cow<'static, str>>>);

impl Phase {
    /// In this phase.
    pub(crate) fn new(name: &'static str) -> Phase {
        Phase(Arc::new(Mutex::new(Cow::Borrowed(name))))
    }

    /// Goes on to another.
    pub(crate) fn set(&self, name: impl Into<Cow<'static, str>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name.into();
    }

    fn get(&self) -> Cow<'static, str> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Draws until dropped.
#[derive(Debug)]
pub(crate) struct Screen {
    tracks: Vec<Arc<Track>>,
    phase: Phase,
    board: Option<Arc<Board>>,
    start: Instant,
    duration: Duration,
    seen: Vec<Seen>,
    lines: Option<Lines>,
}

/// Counts of the last look, and the latencies that were shown last.
#[derive(Debug, Default)]
struct Seen {
    counts: Counts,
    latency: Option<Percentiles>,
}

/// The lines of a terminal that are drawn over and over.
#[derive(Debug)]
struct Lines {
    progress: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl Screen {
    /// A screen for these topics.
    pub(crate) fn new(tracks: Vec<Arc<Track>>, phase: Phase, duration: Duration) -> Screen {
        let seen = tracks.iter().map(|_| Seen::default()).collect();
        let lines = stderr().is_terminal().then(|| Lines {
            progress: MultiProgress::new(),
            bars: Vec::new(),
        });
        Screen {
            tracks,
            phase,
            board: None,
            start: Instant::now(),
            duration,
            seen,
            lines,
        }
    }

    /// With the state of the cluster below the topics.
    pub(crate) fn with_board(mut self, board: Arc<Board>) -> Screen {
        self.start = board.start();
        self.board = Some(board);
        self
    }

    /// Draws again and again.
    ///
    /// Cancel safety: dropped between two drawings; the last one stays.
    pub(crate) async fn run(mut self) {
        let every = if self.lines.is_some() {
            REFRESH
        } else {
            LINE_EVERY
        };
        let mut tick = tokio::time::interval(every);
        tick.tick().await;
        let mut last = Instant::now();
        loop {
            tick.tick().await;
            let mut text = self.text(last.elapsed());
            last = Instant::now();
            match &mut self.lines {
                Some(lines) => {
                    if let Some(board) = &self.board {
                        text.push_str(&board.screen());
                    }
                    lines.draw(&text);
                }
                None => {
                    if let Some(table) = self.board.as_ref().and_then(|board| board.changed()) {
                        text.push_str(&table);
                    }
                    note(text.trim_end());
                }
            }
        }
    }

    /// The state of things, with rates over the time since the last look. Fits into 80 columns.
    fn text(&mut self, since: Duration) -> String {
        let mut rows = Rows::new(&[
            Column::Text("TOPIC"),
            Column::Number("SENT"),
            Column::Number("ACKED"),
            Column::Number("VERIFIED"),
            Column::Number("REC/s"),
            Column::Number("MB/s"),
            Column::Number("P50 ms"),
            Column::Number("P99 ms"),
            Column::Number("WRONG"),
        ]);
        for (track, seen) in self.tracks.iter().zip(&mut self.seen) {
            let counts = track.counts();
            let rate = |now: u64, before: u64| {
                now.saturating_sub(before) as f64 / since.as_secs_f64().max(1e-3)
            };
            seen.latency = track.recent_latencies().or(seen.latency);
            let faults = counts.faults;
            let wrong = faults.lost + faults.duplicated + faults.reordered + faults.altered;
            let shown = |pick: fn(&Percentiles) -> f64| {
                seen.latency
                    .as_ref()
                    .map_or_else(String::new, |l| milliseconds(pick(l)))
            };
            rows.push([
                track.name().to_owned(),
                counts.sent.to_string(),
                counts.acknowledged.to_string(),
                counts.received.to_string(),
                format!("{:.0}", rate(counts.received, seen.counts.received)),
                format!("{:.1}", rate(counts.bytes, seen.counts.bytes) / 1e6),
                shown(|l| l.p50),
                shown(|l| l.p99),
                wrong.to_string(),
            ]);
            seen.counts = counts;
        }
        format!(
            "{:.1} s of {:.0} s: {}\n{rows}",
            self.start.elapsed().as_secs_f64(),
            self.duration.as_secs_f64(),
            self.phase.get()
        )
    }
}

impl Lines {
    fn draw(&mut self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            if number == self.bars.len() {
                // A constant template cannot be wrong; the default would show a bar.
                let style = ProgressStyle::with_template("{wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = self
                    .progress
                    .add(ProgressBar::new_spinner().with_style(style));
                self.bars.push(bar);
            }
            if let Some(bar) = self.bars.get(number) {
                bar.set_message(line.to_owned());
                bar.tick();
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        for bar in &self.bars {
            bar.abandon();
        }
    }
}

fn milliseconds(micros: f64) -> String {
    format!("{:.1}", micros / 1e3)
}
