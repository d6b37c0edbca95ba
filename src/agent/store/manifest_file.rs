//! `manifest.json` on the volume: written once, read by every later run and by the operator's inspection.

use crate::agent::store::digest::{self, Digest};
use crate::agent::store::manifest::{FILE_NAME, FORMAT_VERSION, Manifest};
use crate::agent::volume::io_kind;
use crate::api::Reason;
use crate::contract::failure::{Failure, cut};
use rustix::fs::OFlags;
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Neither written nor read beyond this. A manifest has some 150 bytes for each file of the store.
pub const BYTES_MAX: u64 = 64 << 20;
/// Longest text about what is wrong with one.
const PROBLEM_BYTES_MAX: usize = 200;
const FILE_MODE: u32 = 0o640;

/// A manifest cannot be written, or what is there is none.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not there.
    #[error("{0} is missing")]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More bytes than a manifest may have.
    #[error("the manifest has more than {} MiB", BYTES_MAX >> 20)]
    TooLarge,
    /// Written by a newer operator.
    #[error("the manifest has format {found}; this version of the operator reads up to {FORMAT_VERSION}")]
    Newer {
        /// Its format version.
        found: u64,
    },
    /// Not a manifest.
    #[error("{path} is not a manifest: {problem}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        problem: String,
    },
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let message = error.to_string();
        match error {
            ManifestError::Write { source, .. } => io_kind::target_failure(&message, &source),
            ManifestError::Read { source, .. } if io_kind::may_pass(&source) => {
                io_kind::target_failure(&message, &source)
            }
            ManifestError::Missing(_) => Self::new(Reason::ManifestMissing, message),
            ManifestError::Newer { .. } => {
                Self::new(Reason::VerificationFailed, format!("{message}; update the operator"))
            }
            ManifestError::Read { .. } | ManifestError::TooLarge | ManifestError::Decode { .. } => {
                Self::new(Reason::VerificationFailed, message)
            }
        }
    }
}

/// Writes the manifest into a partial's folder, which must not have one, and flushes it to the device.
///
/// Returns the digest of its bytes, `sha256:<hex>`.
pub fn write(folder: &Path, manifest: &Manifest) -> Result<String, ManifestError> {
    let path = folder.join(FILE_NAME);
    let refuse = |source| ManifestError::Write { path: path.clone(), source };
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path).map_err(refuse)?;
    let mut out = BufWriter::new(Hashed { file, digest: Digest::new(), bytes: 0 });
    // Not by way of a text in memory: a manifest may have many megabytes.
    serde_json::to_writer_pretty(&mut out, manifest).map_err(|error| refuse(error.into()))?;
    out.write_all(b"\n").map_err(refuse)?;
    let Hashed { file, digest, bytes } = out.into_inner().map_err(|error| refuse(error.into_error()))?;
    if bytes > BYTES_MAX {
        return Err(ManifestError::TooLarge);
    }
    file.sync_all().map_err(refuse)?;
    Ok(format!("sha256:{}", digest.finish()))
}

/// A file, with the digest of all that was written to it.
struct Hashed {
    file: File,
    digest: Digest,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads the manifest in a point's folder; with it the digest of its bytes, `sha256:<hex>`.
pub fn read(folder: &Path) -> Result<(Manifest, String), ManifestError> {
    let path = folder.join(FILE_NAME);
    let bytes = read_bounded(&path)?;
    let digest = digest::labelled(&bytes);
    Ok((decode(&path, &bytes)?, digest))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ManifestError> {
    let refuse = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ManifestError::Missing(path.to_owned()),
        _ => ManifestError::Read { path: path.to_owned(), source },
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(refuse)?;
    // At once: growing by doubling would take twice as much.
    let length = file.metadata().map_err(refuse)?.len().min(BYTES_MAX + 1);
    let mut bytes = Vec::with_capacity(usize::try_from(length + 1).unwrap_or_default());
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(refuse)?;
    if bytes.len() as u64 > BYTES_MAX { Err(ManifestError::TooLarge) } else { Ok(bytes) }
}

/// Decodes a manifest's bytes; errors name `path`. The version first: a newer manifest may hold anything else.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Manifest, ManifestError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        format_version: u64,
    }
    let refuse = |error| ManifestError::Decode { path: path.to_owned(), problem: problem(&error) };
    let Version { format_version: found } = serde_json::from_slice(bytes).map_err(refuse)?;
    if found > u64::from(FORMAT_VERSION) {
        return Err(ManifestError::Newer { found });
    }
    serde_json::from_slice(bytes).map_err(refuse)
}

/// An error in words. Where it quotes what it found, however long, the end is cut, but not the place.
fn problem(error: &serde_json::Error) -> String {
    let said = error.to_string();
    if said.len() <= PROBLEM_BYTES_MAX {
        return said;
    }
    format!("{}… at line {} column {}", cut(&said, PROBLEM_BYTES_MAX), error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_read_with_the_same_digest() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = testing::manifest();
        let digest = write(folder.path(), &manifest).unwrap();
        assert_eq!(read(folder.path()).unwrap(), (manifest.clone(), digest.clone()));
        let path = folder.path().join(FILE_NAME);
        assert_eq!(digest::labelled(&fs::read(&path).unwrap()), digest);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(matches!(write(folder.path(), &manifest), Err(ManifestError::Write { .. })), "it was overwritten");
    }

    /// As operators before format 2 wrote it.
    #[test]
    fn a_manifest_of_format_1_is_read() {
        let bytes = include_bytes!("../../../tests/recorded/manifest/version-1.json");
        let manifest = decode(Path::new("m"), bytes).unwrap();
        assert_eq!((manifest.format_version, manifest.last_transaction, manifest.files.len()), (1, 6, 2));
        assert_eq!((manifest.seed, manifest.catch_up), (None, Vec::new()));
    }

    #[test]
    fn what_is_no_manifest_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        assert!(matches!(read(folder.path()), Err(ManifestError::Missing(_))));
        let mut newer = serde_json::to_value(testing::manifest()).unwrap();
        newer["formatVersion"] = (FORMAT_VERSION + 1).into();
        newer["somethingNew"] = true.into();
        fs::write(&path, newer.to_string()).unwrap();
        assert!(matches!(read(folder.path()), Err(ManifestError::Newer { found: 3 })));
        for text in ["", "{", "[]", "{\"formatVersion\":1}", "{\"formatVersion\":-1}", "\0\0\0\0"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read(folder.path()), Err(ManifestError::Decode { .. })), "{text:?}");
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(read(folder.path()), Err(ManifestError::Read { .. })));
    }

    #[test]
    fn an_error_does_not_quote_endlessly() {
        let text = serde_json::to_string(&testing::manifest())
            .unwrap()
            .replace("\"Full\"", &format!("\"{}\"", "ü".repeat(1000)));
        let error = decode(Path::new("m"), text.as_bytes()).unwrap_err().to_string();
        let (problem, place) = error.split_once("… at line 1 column ").unwrap();
        assert!(problem.starts_with("m is not a manifest: unknown variant `ü") && problem.len() < 250, "{error}");
        assert!(place.parse::<u32>().is_ok(), "{error}");
    }

    #[test]
    fn an_endless_manifest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join(FILE_NAME)).unwrap();
        file.set_len(BYTES_MAX + 1).unwrap();
        assert!(matches!(read(folder.path()), Err(ManifestError::TooLarge)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_manifest_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(Path::new("m"), &bytes).is_err());
        }
    }
}
