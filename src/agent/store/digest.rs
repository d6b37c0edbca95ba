//! SHA-256 as the manifest writes it.

use sha2::{Digest as _, Sha256};
use std::fmt::Write;

/// A SHA-256 that is being computed. Uses the processor's instructions for it where there are any.
#[derive(Clone, Debug)]
pub struct Digest(Sha256);

impl Digest {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Of more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 64 lower-case hexadecimal digits.
    pub fn finish(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

/// `sha256:<hex>` of some bytes.
pub fn labelled(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(&Sha256::digest(bytes)))
}

/// Lower-case hexadecimal digits, two for each byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
