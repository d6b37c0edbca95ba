//! `agent drill`: the restore drill of a point. It is copied to a scratch volume as for a restore, compared with its
//! manifest on the way, and opened by the engine; the time that this takes is the measured recovery time.
//!
//! What was copied is removed at the end, whatever it is.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step, start};
use crate::agent::stop::Stop;
use crate::agent::tasks::restored::{self, Found, Room, Wanted};
use crate::agent::tool::boot;
use crate::agent::volume::io_kind::{Kind, kind};
use crate::agent::volume::layout::Layout;
use crate::agent::volume::space;
use crate::api::Reason;
use crate::contract::failure::{Failure, cut};
use crate::contract::task::DrillRun;
use crate::contract::verdict::{Drilled, Verdict};
use chrono::Utc;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Folder of the copy on the scratch volume.
const COPY_FOLDER: &str = "drill";
/// With less than this free, the scratch volume counts as full: file systems keep the last blocks for themselves.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// Bytes of the engine's failure in a message about the scratch volume: the advice must fit behind it.
const ENGINE_BYTES_MAX: usize = 512;
/// What to do about a scratch volume that is full. The target is not.
const MORE_SCRATCH: &str = "give the drill a larger scratch volume: raise spec.drill.scratch.size of the schedule, or \
                            set it if the drill uses the node's ephemeral storage";

/// Makes the drill with the claim mounted at `mount` and the scratch volume at `scratch`.
pub async fn drill(run: DrillRun, mount: &Path, scratch: &Path, stop: &Stop) -> Verdict {
    match make(run, mount, scratch, stop).await {
        Ok(drilled) => Verdict::Drilled(Box::new(drilled)),
        Err(failure) => Verdict::Failed(failure),
    }
}

async fn make(run: DrillRun, mount: &Path, scratch: &Path, stop: &Stop) -> Result<Drilled, Failure> {
    let command = run.boot_command.clone();
    let layout = Layout::new(mount, &run.place)?;
    let find = move || {
        let wanted =
            Wanted { place: &run.place, owner_uid: Some(&run.owner_uid), manifest_digest: Some(&run.manifest_digest) };
        restored::find(wanted, &layout)
    };
    let found = blocking(find).await?;
    let copy = scratch.join(COPY_FOLDER);
    // What a container left that was killed.
    remove(copy.clone()).await?;
    let drilled = restore_and_open(found, &copy, &command, stop).await;
    let _step = start(Step::CleanUp);
    match (drilled, remove(copy).await) {
        (Err(failure), Err(left)) => Err(failure.and(left.message)),
        (drilled, removed) => {
            if let Err(left) = removed {
                // What was shown stays true.
                progress::message(Step::CleanUp, &left.message);
            }
            drilled
        }
    }
}

async fn restore_and_open(found: Found, copy: &Path, command: &[String], stop: &Stop) -> Result<Drilled, Failure> {
    let began = Instant::now();
    let (to, stopped) = (copy.to_owned(), stop.clone());
    let (found, header) = blocking(move || {
        let room = Room { unwritable: &unwritable, too_small: &too_small };
        let header = found.restore(&to, &room, &stopped)?;
        Ok((found, header))
    })
    .await?;
    let copied = began.elapsed();
    let opened = boot::open(copy, command, stop).await;
    let total = began.elapsed();
    let finished = Utc::now();
    let boot = opened.map_err(|failure| unless_full(failure, copy))?.result;
    Ok(Drilled {
        manifest_digest: found.digest,
        store_id: header.store_id,
        last_transaction: header.last_transaction,
        files: found.manifest.files.len() as u64,
        bytes: found.manifest.bytes,
        copy_seconds: whole_seconds(copied),
        open_seconds: whole_seconds(total.saturating_sub(copied)),
        total_seconds: whole_seconds(total),
        nodes: boot.nodes,
        relationships: boot.relationships,
        finished,
    })
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The failure when the scratch volume cannot be written because of this error.
fn unwritable(problem: &str, error: &io::Error) -> Failure {
    let problem = format!("{problem} on the drill's scratch volume: {error}");
    match kind(error) {
        Kind::Full => full(&problem),
        Kind::Denied | Kind::ReadOnly | Kind::Medium | Kind::Away | Kind::Other => Failure::new(
            Reason::AgentFailed,
            format!("{problem}; check that volume, and that the pod's user or group may write there"),
        ),
    }
}

fn too_small(free: u64, needed: u64) -> Failure {
    let problem = format!("the drill's scratch volume has {free} bytes free and the point has {needed}");
    full(&format!("{problem}; nothing was copied"))
}

fn full(problem: &str) -> Failure {
    Failure::new(Reason::ScratchFull, format!("{problem}; {MORE_SCRATCH}"))
}

/// An engine that had no room to write says nothing of the store.
fn unless_full(failure: Failure, copy: &Path) -> Failure {
    let free = space::free(copy).ok().flatten();
    match (failure.reason, free) {
        (Reason::BootFailed, Some(free)) if free < FREE_BYTES_MIN => {
            let kept = cut(&failure.message, ENGINE_BYTES_MAX);
            full(&format!("the drill's scratch volume has only {free} bytes left after the engine failed: {kept}"))
        }
        _ => failure,
    }
}

async fn remove(copy: PathBuf) -> Result<(), Failure> {
    blocking(move || match fs::remove_dir_all(&copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(unwritable(&format!("cannot remove {}", copy.display()), &error))
        }
        _ => Ok(()),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn an_error_of_the_copy_is_told_of_the_scratch_volume() {
        let write = |errno: Errno| unwritable("cannot make x", &errno.into());
        assert_eq!([write(Errno::NOSPC).reason, write(Errno::DQUOT).reason], [Reason::ScratchFull; 2]);
        assert_eq!([write(Errno::IO).reason, write(Errno::ACCESS).reason], [Reason::AgentFailed; 2]);
        assert!(write(Errno::ROFS).message.contains("scratch volume"), "{}", write(Errno::ROFS).message);
        assert_eq!(too_small(1, 2).reason, Reason::ScratchFull);
    }
}
