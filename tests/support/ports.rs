//! TCP ports that no other test run uses.

use std::{
    fs::{File, OpenOptions},
    net::TcpListener,
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Below the ports that Linux gives to connections (32768 and up).
const ALL: Range<u16> = 21_000..32_000;
/// How many ports a process reserves at a time.
const BLOCK: u16 = 100;

/// Reserved ports of this process: locks that hold them, and the ports not yet given out.
static RESERVED: Mutex<(Vec<File>, Vec<u16>)> = Mutex::new((Vec::new(), Vec::new()));

/// A port that is free and stays ours as long as this process lives.
pub fn next() -> u16 {
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    let (locks, ports) = &mut *reserved;
    loop {
        while let Some(port) = ports.pop() {
            // Somebody who does not know about the locks may listen there.
            if TcpListener::bind(("0.0.0.0", port)).is_ok() {
                return port;
            }
        }
        let (lock, block) = reserve();
        locks.push(lock);
        ports.extend(block.rev());
    }
}

/// Locks a block of ports: a file that the kernel unlocks when this process ends.
fn reserve() -> (File, Range<u16>) {
    let folder = std::env::temp_dir();
    for first in ALL.step_by(BLOCK.into()) {
        let path = folder.join(format!("graph-backup-operator-ports-{first}.lock"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        if let Ok(file) = file
            && file.try_lock().is_ok()
        {
            return (file, first..first + BLOCK);
        }
    }
    panic!("every port from {ALL:?} is reserved by a test run");
}
