//! The mounts of this process, as `/proc/self/mountinfo` lists them (`proc_pid_mountinfo(5)`).
//!
//! ```text
//! 36 35 0:52 / /target rw,relatime shared:1 - nfs nfs:/export rw,vers=3,nolock,local_lock=all,addr=10.0.0.1
//! ```
//!
//! The third field is the device of its files, major and minor. After the field `-` come the type, the source and the
//! options of the file system.

use rustix::fs::{major, minor};

/// Where the kernel lists them.
pub const FILE: &str = "/proc/self/mountinfo";

/// The option by which a network file system keeps its locks on this node, with the type of the file system; nothing
/// where it does not, or where no mount has this device. `device` is the `st_dev` of a file.
///
/// NFS turns `flock` into a lock of the server unless it is told not to (`nolock`, `local_lock`). CIFS does so unless
/// `nobrl`, and the cluster file systems unless `localflock` or `localflocks`.
pub fn local_locks(mountinfo: &str, device: u64) -> Option<(String, String)> {
    let device = format!("{}:{}", major(device), minor(device));
    let (kind, options) =
        mountinfo.lines().filter_map(parse).find(|(of, ..)| *of == device).map(|(_, kind, o)| (kind, o))?;
    let keeps_local: &[&str] = match kind {
        "nfs" | "nfs4" => &["nolock", "local_lock=flock", "local_lock=all"],
        "cifs" | "smb3" => &["nobrl", "nolock"],
        "lustre" => &["localflock"],
        "ocfs2" | "gfs2" => &["localflocks"],
        _ => &[],
    };
    let option = options.split(',').find(|option| keeps_local.contains(option))?;
    Some((kind.to_owned(), option.to_owned()))
}

/// Device, type and options of the file system of one line.
fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    Some((mount.split(' ').nth(2)?, file_system.next()?, file_system.nth(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::makedev;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw,nolock
40 22 0:50 / /a rw - nfs h:/a rw,vers=3,nolock,proto=tcp,local_lock=all,addr=10.0.0.1
41 22 0:51 / /b rw,relatime shared:7 master:2 - nfs4 h:/b rw,vers=4.2,local_lock=none,addr=10.0.0.1
42 22 0:52 / /c rw - nfs h:/c rw,vers=3,local_lock=flock
43 22 0:53 / /d rw - cifs //h/d rw,nobrl,file_mode=0755
44 22 0:54 / /with\\040blank rw - nfs h:/e rw,vers=3,local_lock=posix
45 22 0:55 / /f rw - lustre h:/f rw,flock
46 22 0:56 / /g
";

    #[test]
    fn locks_that_no_other_node_sees_are_known_by_the_mount_options() {
        let of = |minor| local_locks(MOUNTS, makedev(0, minor)).map(|(kind, option)| format!("{kind} {option}"));
        assert_eq!(of(50).as_deref(), Some("nfs nolock"));
        assert_eq!(of(52).as_deref(), Some("nfs local_lock=flock"));
        assert_eq!(of(53).as_deref(), Some("cifs nobrl"));
        for shared in [51, 54, 55, 56, 99] {
            assert_eq!(of(shared), None, "{shared}");
        }
        assert_eq!(local_locks(MOUNTS, makedev(254, 0)), None);
    }

    #[test]
    fn this_system_has_mounts_that_can_be_read() {
        let mounts = std::fs::read_to_string(FILE).unwrap();
        assert!(mounts.lines().filter_map(parse).count() > 0, "{mounts}");
    }
}
