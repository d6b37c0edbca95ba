//! The way of the log's lines to standard output: a bounded queue and a thread of its own.
//!
//! Whoever reads the log may stop reading; a pipe then takes nothing more, and a write to it never ends. No run may
//! wait for that. What has no room in the queue is dropped and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What the queue holds at most, bytes. A line has some 100; the longest that the tool writes becomes 24 KiB.
const BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were dropped since the last one that had room.
    dropped: u64,
    /// Whether a line is being written.
    writes: bool,
}

/// Lines on their way.
#[derive(Debug)]
pub struct LogQueue {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
}

impl LogQueue {
    /// A queue whose lines a thread writes to standard output. Without a thread every line is dropped once the queue is
    /// full.
    pub fn to_stdout() -> Arc<Self> {
        let queue = Arc::new(Self::of(BYTES_MAX));
        let writer = Arc::clone(&queue);
        // A log is worth less than the run: one that has no thread is none.
        let _ = thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_to(StandardOutput));
        queue
    }

    fn of(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), bytes_max }
    }

    /// Takes a line if there is room, and never waits. `told` makes the line that says how many were dropped before.
    pub fn push(&self, line: Vec<u8>, told: impl FnOnce(u64) -> Vec<u8>) {
        let mut state = self.state();
        // Room for the line about the others, too.
        if state.bytes + line.len() > self.bytes_max {
            state.dropped += 1;
            return;
        }
        if state.dropped > 0 {
            let told = told(state.dropped);
            state.dropped = 0;
            state.bytes += told.len();
            state.lines.push_back(told);
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until every line is written, for this long at most.
    pub fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state();
        while state.writes || !state.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write_to(&self, mut out: impl Write) {
        loop {
            let line = self.next();
            // What cannot be written is dropped like what has no room.
            let _ = out.write_all(&line);
            self.state().writes = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writes = true;
                return line;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standard output without the lock and the buffer of the standard library, on which the end of the process would wait.
struct StandardOutput;

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes one line and then waits for leave to take each further one.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.0.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn push(queue: &LogQueue, line: &str) {
        queue.push(line.as_bytes().to_vec(), |dropped| format!("{dropped} dropped").into_bytes());
    }

    #[test]
    fn what_has_no_room_is_dropped_counted_and_told() {
        let queue = Arc::new(LogQueue::of(10));
        let ((leave, waits), (written, lines)) = (mpsc::channel(), mpsc::channel());
        let writer = Arc::clone(&queue);
        thread::spawn(move || writer.write_to(Slow(waits, written)));
        push(&queue, "first");
        assert_eq!(lines.recv().unwrap(), b"first");
        for line in ["second", "4444", "five!", "six"] {
            push(&queue, line);
        }
        // Nobody takes anything: the end comes all the same.
        let since = Instant::now();
        queue.finish(Duration::from_millis(50));
        assert!(since.elapsed() < Duration::from_secs(5));
        leave.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), b"second");
        push(&queue, "7");
        (0..4).for_each(|_| leave.send(()).unwrap());
        queue.finish(Duration::from_secs(10));
        let rest: Vec<_> = lines.try_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        assert_eq!(rest, ["4444", "2 dropped", "7"]);
    }
}
