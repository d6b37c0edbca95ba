//! Errors of writing back: what the kernel took from the tool, and could not bring to the device.
//!
//! Written data reach the device later. If that fails, the kernel tells whoever has the file open, and later whoever
//! opens it, as long as it remembers the file. A file that the tool has closed may be forgotten together with its
//! error, and then reads as zeros. The file system remembers longer: `syncfs(2)` returns every error since its
//! descriptor was opened (Linux 5.8 or newer). For this the descriptor must be older than the first byte of the copy.

use crate::agent::progress::{self, Step};
use crate::agent::volume::io_kind::{Kind, Volume, kind};
use crate::contract::failure::Failure;
use rustix::fs::syncfs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A descriptor of a volume's file system.
#[derive(Clone, Debug)]
pub struct WriteBack {
    volume: Volume,
    file: Arc<File>,
}

impl WriteBack {
    /// Opens it by a folder of the volume, before anything of the copy is written. What is said is of this step.
    ///
    /// Blocks until what others wrote has reached the device: errors of theirs, told now, are none of this copy.
    pub fn watch(volume: Volume, folder: &Path, step: Step) -> Result<Self, Failure> {
        let file = File::open(folder).map_err(|error| {
            volume.failure(&format!("cannot open the folder {}: {error}", folder.display()), &error)
        })?;
        if let Err(error) = syncfs(&file) {
            let name = volume.name();
            let message = format!("{name}'s file system lost data that was written before this run: {error}");
            progress::message(step, &message);
        }
        Ok(Self { volume, file: Arc::new(file) })
    }

    /// Waits until everything that was written has reached the device. An error since the last call fails.
    pub fn finish(&self) -> Result<(), Failure> {
        syncfs(&self.file).map_err(|errno| {
            let error = io::Error::from(errno);
            let name = self.volume.name();
            let message = format!("{name}'s file system took data and could not write them to its device: {error}");
            match kind(&error) {
                // It could be written when the run began: the file system failed, and stopped itself.
                Kind::ReadOnly => {
                    Failure::new(self.volume.broken(), format!("{message}; check the volume and its device"))
                }
                _ => self.volume.failure(&message, &error),
            }
        })
    }
}
