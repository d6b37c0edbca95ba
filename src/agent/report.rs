//! The verdict's way out: the container's termination message.

use crate::api::Reason;
use crate::contract::failure::Failure;
use crate::contract::verdict::{MESSAGE_BYTES_MAX, Verdict};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// The verdict as one JSON object of at most [`MESSAGE_BYTES_MAX`] bytes.
pub fn encode(verdict: &Verdict) -> Vec<u8> {
    match serde_json::to_vec(verdict) {
        Ok(text) if text.len() <= MESSAGE_BYTES_MAX => text,
        // A failure always fits; this is a point whose manifest holds endless names.
        _ => {
            let failure = Failure::new(
                Reason::VerificationFailed,
                "the facts of the point do not fit into the container's termination message; look at its manifest",
            );
            serde_json::to_vec(&Verdict::Failed(failure)).unwrap_or_default()
        }
    }
}

/// Writes the verdict to the file that the kubelet reads.
///
/// The kubelet mounts that file into the container, so it is written in place, never replaced.
pub fn write(path: &Path, verdict: &Verdict) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(&encode(verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_always_fits_and_stays_readable() {
        for text in ["x", "\"", "\\", "\u{1}", "\n", "ü", "\u{7f}", "𝕏"] {
            let verdict = Verdict::Failed(Failure::new(Reason::ToolFailed, text.repeat(100_000)));
            let encoded = encode(&verdict);
            assert!(encoded.len() <= MESSAGE_BYTES_MAX, "{text:?} gave {}", encoded.len());
            let read: Verdict = serde_json::from_slice(&encoded).unwrap();
            assert_eq!(read, verdict);
            let Verdict::Failed(failure) = read else { panic!("it failed") };
            assert!((1000..=1024).contains(&failure.message.len()), "{text:?} kept {}", failure.message.len());
        }
    }

    #[test]
    fn a_longer_message_of_before_does_not_shine_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let verdict = Verdict::Failed(Failure::new(Reason::JobLost, "gone"));
        write(&path, &verdict).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), encode(&verdict));
    }
}
