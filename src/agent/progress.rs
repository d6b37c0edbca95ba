//! What a run tells those who watch its log: JSON objects, one a line, on standard output.
//!
//! ```json
//! {"time":"2026-11-24T06:00:00.123Z","step":"tool","event":"started"}
//! {"time":"2026-11-24T06:00:01.456Z","step":"tool","stream":"stdout","line":"[11 Files copied]"}
//! {"time":"2026-11-24T06:00:02.789Z","step":"tool","percent":40}
//! {"time":"2026-11-24T06:00:05.123Z","step":"tool","bytes":73400320}
//! {"time":"2026-11-24T06:00:09.012Z","step":"tool","event":"ended","seconds":8.889}
//! ```
//!
//! Lines that nobody reads in time are dropped, and a message says how many.

#[cfg(not(test))]
use super::log_queue::LogQueue;
use crate::contract::verdict::Verdict;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(test))]
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// The steps of a run, in the order of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Prepares the folders on the target and takes the lock.
    Lock,
    /// Looks for a point that an earlier attempt published.
    Recognise,
    /// Reads the mastership right before the tool.
    MastershipBefore,
    /// Finds the parent of an incremental backup and proves that the master shares its history.
    Parent,
    /// Copies the parent's store forward.
    Forward,
    /// Compares the copy with the parent's manifest.
    Compare,
    /// Looks whether a cold copy can be made.
    Check,
    /// Copies the store of a stopped member.
    Cold,
    /// Finds out up to when that store has everything.
    DataFrom,
    /// Runs the tool.
    Tool,
    /// Judges what the tool said and left.
    Judge,
    /// Judges by its logs whether a cluster can start from the copy, and mends what can be mended.
    Seed,
    /// Reads the mastership right after the tool.
    MastershipAfter,
    /// Waits until everything that was written has reached the device.
    WriteBack,
    /// Hashes every file and flushes it to the device.
    Hash,
    /// Copies the store for the engine.
    Scratch,
    /// Lets the engine open that copy.
    Boot,
    /// Writes the manifest.
    Manifest,
    /// Reads everything back.
    Verify,
    /// Gives the point its name.
    Publish,
    /// Removes a point and the partials of its object.
    Prune,
    /// Finds the point of a drill or of a restore.
    Find,
    /// Copies it to the scratch volume or the staged one, and compares every file with its manifest.
    Restore,
    /// Looks at a member's volume.
    Survey,
    /// Looks at what is on the staged volume, and removes what a killed run left there.
    Clear,
    /// Sets the modes of the restored store and gives it its place on the staged volume.
    Stage,
    /// Copies to the staged volume what lies beside the store.
    Carry,
    /// Removes what is left of a failed attempt or of a drill.
    CleanUp,
    /// Reports the verdict.
    Report,
}

/// Which of the tool's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    step: Step,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<Stream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a Verdict>,
}

impl Entry<'_> {
    fn of(step: Step) -> Self {
        Self {
            time: timestamp(Utc::now()),
            step,
            event: None,
            seconds: None,
            percent: None,
            bytes: None,
            stream: None,
            line: None,
            message: None,
            verdict: None,
        }
    }

    /// A log that nobody takes must neither fail the backup nor hold it up: what cannot be written is dropped.
    fn write(&self) {
        let text = self.text();
        if !text.is_empty() {
            print(self.step, text);
        }
    }

    /// One line, with its end.
    fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        if !text.is_empty() {
            text.push(b'\n');
        }
        text
    }
}

#[cfg(not(test))]
static QUEUE: LazyLock<Arc<LogQueue>> = LazyLock::new(LogQueue::to_stdout);

#[cfg(not(test))]
fn print(step: Step, text: Vec<u8>) {
    QUEUE.push(text, |dropped| {
        let message = format!("{dropped} lines of the log were dropped here: nobody read them in time");
        Entry { message: Some(&message), ..Entry::of(step) }.text()
    });
}

/// The test runner keeps only what is printed by the macro apart from its own lines.
#[cfg(test)]
fn print(_: Step, text: Vec<u8>) {
    std::print!("{}", String::from_utf8(text).unwrap_or_default());
}

/// Waits until the log is written, for this long at most.
pub fn finish(patience: Duration) {
    #[cfg(not(test))]
    QUEUE.finish(patience);
    #[cfg(test)]
    let _ = patience;
}

fn timestamp(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A step that runs; its line with the seconds is written when it is dropped.
#[derive(Debug)]
pub struct Running {
    step: Step,
    since: Instant,
}

/// Says that a step begins.
pub fn start(step: Step) -> Running {
    Entry { event: Some("started"), ..Entry::of(step) }.write();
    Running { step, since: Instant::now() }
}

impl Drop for Running {
    fn drop(&mut self) {
        let milliseconds = u32::try_from(self.since.elapsed().as_millis()).unwrap_or(u32::MAX);
        let seconds = Some(f64::from(milliseconds) / 1000.0);
        Entry { event: Some("ended"), seconds, ..Entry::of(self.step) }.write();
    }
}

/// Says how far a step is.
pub fn percent(step: Step, percent: u8) {
    Entry { percent: Some(percent), ..Entry::of(step) }.write();
}

/// Says how many bytes a step has worked through, where nobody knows how many there will be.
pub fn bytes(step: Step, bytes: u64) {
    Entry { bytes: Some(bytes), ..Entry::of(step) }.write();
}

/// Says every tenth part of a step that is done.
#[derive(Debug)]
pub struct Meter {
    step: Step,
    total: u64,
    done: AtomicU64,
}

impl Meter {
    /// A step that has `total` bytes to work through.
    pub fn new(step: Step, total: u64) -> Self {
        Self { step, total, done: AtomicU64::new(0) }
    }

    /// So many more of them are done.
    pub fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let tenths = |bytes: u64| u8::try_from(bytes.saturating_mul(10) / self.total.max(1)).unwrap_or(10).min(10);
        if tenths(before) < tenths(before + bytes) {
            percent(self.step, tenths(before + bytes) * 10);
        }
    }
}

/// Passes on a line of the tool, or of another command.
pub fn line(step: Step, stream: Stream, line: &str) {
    Entry { stream: Some(stream), line: Some(line), ..Entry::of(step) }.write();
}

/// Says something for people.
pub fn message(step: Step, message: &str) {
    Entry { message: Some(message), ..Entry::of(step) }.write();
}

/// Repeats the verdict in the log, where it outlives the termination message.
pub fn verdict(verdict: &Verdict) {
    Entry { verdict: Some(verdict), ..Entry::of(Step::Report) }.write();
}
