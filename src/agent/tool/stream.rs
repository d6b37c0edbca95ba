//! One output stream of the tool while it runs: hashed whole, passed on line by line, its end kept for the judgement.

use crate::agent::progress::{self, Step, Stream};
use crate::agent::store::digest::Digest;
use crate::agent::tool::output;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Longest line that is passed on; what is longer is cut.
pub const LINE_BYTES_MAX: usize = 4096;
/// What is kept of the end. Java's longest stack traces have some ten KiB.
pub const END_BYTES_MAX: usize = 64 << 10;
const READ_BYTES: usize = 8 << 10;
/// How long a stream may stay open after the tool has ended: something that it left behind may hold it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// SHA-256 of all of it, in hexadecimal.
    pub sha256: String,
    /// Its last bytes as text; what is not UTF-8 is replaced.
    pub end: String,
}

/// Reads a stream to its end, or until `over` has been true for some seconds.
pub async fn follow(mut pipe: pipe::Receiver, step: Step, stream: Stream, mut over: watch::Receiver<bool>) -> Ended {
    let patience = async move {
        // An error means that the sender is gone, which also says that the tool is over.
        let _ = over.wait_for(|over| *over).await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::pin!(patience);
    let mut digest = Digest::new();
    let mut lines = Lines::default();
    let mut end = End::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut buffer) => read,
            () = &mut patience => break,
        };
        match read {
            // A broken pipe ends like a closed one: what counts is how the tool ends.
            Ok(0) | Err(_) => break,
            Ok(read) => {
                digest.update(&buffer[..read]);
                end.push(&buffer[..read]);
                lines.push(&buffer[..read], |line| pass_on(step, stream, line));
            }
        }
    }
    lines.finish(|line| pass_on(step, stream, line));
    Ended { sha256: digest.finish(), end: end.text() }
}

fn pass_on(step: Step, stream: Stream, line: &str) {
    match output::percent(line) {
        Some(percent) => progress::percent(step, percent),
        None => progress::line(step, stream, line),
    }
}

/// Cuts bytes into lines without ever holding more than one line of bounded length.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    /// Whether the rest of the line is dropped.
    full: bool,
}

impl Lines {
    /// Takes the next bytes and emits every line that ends in them, without its end and at most [`LINE_BYTES_MAX`]
    /// bytes of it; a cut line ends with `…`. What is not UTF-8 is replaced.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ends) = match part.strip_suffix(b"\n") {
                Some(content) => (content, true),
                None => (part, false),
            };
            let room = LINE_BYTES_MAX - self.line.len();
            self.full |= content.len() > room;
            self.line.extend_from_slice(&content[..content.len().min(room)]);
            if ends {
                self.emit(&mut emit);
            }
        }
    }

    /// Emits the last line, if no line break ended it.
    pub fn finish(mut self, mut emit: impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.emit(&mut emit);
        }
    }

    fn emit(&mut self, emit: &mut impl FnMut(&str)) {
        let mut text = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
        if self.full {
            text.push('…');
        }
        emit(&text);
        self.line.clear();
        self.full = false;
    }
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub struct End(Vec<u8>);

impl End {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        if self.0.len() > 2 * END_BYTES_MAX {
            self.0.drain(..self.0.len() - END_BYTES_MAX);
        }
    }

    /// The last [`END_BYTES_MAX`] bytes as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0[self.0.len().saturating_sub(END_BYTES_MAX)..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.push(chunk, |line| found.push(line.to_owned()));
        }
        lines.finish(|line| found.push(line.to_owned()));
        found
    }

    #[test]
    fn lines_are_put_together_and_cut() {
        assert_eq!(lines(&[b"a", b"b\nc", b"\r\n\n", b"d"]), ["ab", "c", "", "d"]);
        let long = vec![b'x'; 3 * LINE_BYTES_MAX];
        let found = lines(&[&long, b"still\nnext"]);
        assert_eq!(found, [format!("{}…", "x".repeat(LINE_BYTES_MAX)), "next".to_owned()]);
        let exact = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(lines(&[&exact, b"\n"]), ["x".repeat(LINE_BYTES_MAX)]);
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut end = End::default();
        for number in 0..100_000u32 {
            end.push(format!("{number}\n").as_bytes());
            assert!(end.0.len() <= 2 * END_BYTES_MAX);
        }
        let text = end.text();
        assert!(text.ends_with("99998\n99999\n") && text.len() == END_BYTES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_stays_open_does_not_hold_up_the_end() {
        let (mut sender, receiver) = pipe::pipe().unwrap();
        let (over, is_over) = watch::channel(false);
        let following = tokio::spawn(follow(receiver, Step::Tool, Stream::Stdout, is_over));
        tokio::io::AsyncWriteExt::write_all(&mut sender, b"Done\n").await.unwrap();
        over.send(true).unwrap();
        let ended = tokio::time::timeout(2 * PATIENCE, following).await.unwrap().unwrap();
        assert_eq!(ended.end, "Done\n");
        drop(sender);
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(text in "[a\n\r]{0,40}", at in 0..40usize) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            prop_assert_eq!(lines(&[bytes]), lines(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
