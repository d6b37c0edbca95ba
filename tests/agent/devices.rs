//! Real file systems on small devices, and a real first process of a container. These tests need root.

use crate::agent::program;
use crate::incremental::Chain;
use crate::scene::{GOOD_TOOL, POINT, Scene};
use graph_backup_operator::api::{CopiedBy, Reason, Verification};
use graph_backup_operator::contract::verdict::Verdict;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether this test can run. Without root it is left out, and says so; in CI that is a failure.
pub fn is_root(what: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI has to run this as root: {what}");
    #[allow(clippy::print_stderr, reason = "a test that is left out has to say so")]
    {
        eprintln!("left out, needs root: {what}");
    }
    false
}

pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Something that is mounted until this is dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// A file system in memory.
    pub fn tmpfs(at: &Path, mib: u32) -> Self {
        Self::tmpfs_with(at, &format!("size={mib}m"))
    }

    /// The same with these options.
    pub fn tmpfs_with(at: &Path, options: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()]);
        Self(at.to_owned())
    }

    /// A folder that can only be read.
    pub fn read_only(at: &Path) -> Self {
        let at = at.to_str().unwrap();
        run("mount", &["--bind", at, at]);
        let mounted = Self(at.into());
        run("mount", &["-o", "remount,bind,ro", at]);
        mounted
    }

    /// An ext4 on a sparse file of so many MiB.
    pub fn ext4(at: &Path, file: &Path, mib: u64) -> Self {
        Self::on_file(at, file, mib, &["mkfs.ext4", "-q"])
    }

    /// A file system made by `mkfs` with its options, on a sparse file of so many MiB.
    fn on_file(at: &Path, file: &Path, mib: u64, mkfs: &[&str]) -> Self {
        fs::File::create_new(file).unwrap().set_len(mib << 20).unwrap();
        run(mkfs[0], &[&mkfs[1..], &[file.to_str().unwrap()]].concat());
        run("mount", &["-o", "loop", file.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Later, if something still uses it: the device goes with it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Writes more than the device has, lets the kernel find out, and lets it forget the files. Then there is room again.
const TOOL_THAT_IS_LIED_TO: &str = r#"
mkdir -p "$target"
cp "$header" "$target/neostore"
for number in $(seq 40); do head -c 1000000 /dev/urandom > "$target/store.$number"; done
sync
echo 3 > /proc/sys/vm/drop_caches
rm "$scene/backing/others"
echo Done
"#;

#[test]
fn a_device_that_runs_out_under_its_file_system_makes_no_point() {
    if !is_root("an ext4 whose device runs out") {
        return;
    }
    for verification in [Verification::None, Verification::Quick] {
        let mut scene = Scene::with_tool(TOOL_THAT_IS_LIED_TO);
        scene.run.verification = verification;
        fs::create_dir(scene.path("backing")).unwrap();
        let _backing = Mounted::tmpfs(&scene.path("backing"), 24);
        // What takes the room now is gone later: everything else that the agent writes is kept.
        fs::write(scene.path("backing/others"), vec![1; 4 << 20]).unwrap();
        // All that the file system keeps for itself is on the device from the beginning: only data are lost.
        let options =
            ["-N", "256", "-O", "^has_journal,^metadata_csum,^resize_inode", "-E", "lazy_itable_init=0,nodiscard"];
        let mkfs = [&["mkfs.ext4", "-q"], &options[..]].concat();
        let _target = Mounted::on_file(&scene.path("target"), &scene.path("backing/disk"), 256, &mkfs);
        let Verdict::Failed(failure) = scene.backup("pod-1").verdict else { panic!("half of the files are zeros") };
        // The device says either, by the kernel's version.
        assert!([Reason::TargetFull, Reason::TargetIoError].contains(&failure.reason), "{failure:?}");
        assert!(failure.message.contains("could not write them to its device"), "{}", failure.message);
        assert!(!scene.point_folder().exists());
    }
}

#[test]
fn clones_share_their_blocks_and_nothing_else() {
    if !is_root("an XFS with reflinks") {
        return;
    }
    let (chain, _mounted) = Chain::on(crate::incremental::TOOL, |scene| {
        let mkfs = ["mkfs.xfs", "-q", "-m", "reflink=1"];
        Mounted::on_file(&scene.path("target"), &scene.path("disk"), 400, &mkfs)
    });
    let big = chain.parent_store("neostore.propertystore.db");
    let before = fs::read(chain.parent_store("neostore.nodestore.db")).unwrap();
    let second = chain.scene.backup("pod-2").published();
    assert_eq!((second.copied_by, second.depth), (Some(CopiedBy::Reflink), 1));
    assert!((300_000..second.bytes).contains(&second.shared_bytes), "{second:?}");
    assert_eq!(fs::read(chain.parent_store("neostore.nodestore.db")).unwrap(), before, "the parent changed");
    let store = chain.scene.cluster_folder().join("second/store");
    assert_ne!(fs::read(store.join("neostore.nodestore.db")).unwrap(), before);
    assert_ne!(fs::metadata(&big).unwrap().ino(), fs::metadata(store.join("neostore.propertystore.db")).unwrap().ino());
}

#[test]
fn a_mapped_file_on_a_full_volume() {
    if !is_root("a small tmpfs") {
        return;
    }
    let said = "echo 'java.lang.InternalError: a fault occurred in an unsafe memory access operation' >&2; exit 1";
    let scene = Scene::with_tool(&format!("head -c 3000000 /dev/zero > \"$target/neostore\"\n{said}"));
    let full = Mounted::tmpfs(&scene.path("target"), 2);
    scene.backup("pod-1").failed(Reason::TargetFull);
    drop(full);
    scene.backup("pod-2").failed(Reason::TargetIoError);
}

#[test]
fn the_first_process_of_a_container_ends_what_left_the_tools_group() {
    if !is_root("a process namespace") {
        return;
    }
    let leaves = "setsid sh -c 'echo $$ > \"$0/left\"; while :; do sleep 0.1; done' \"$scene\" > /dev/null 2>&1 &\n\
                  while [ ! -s \"$scene/left\" ]; do sleep 0.02; done";
    let mut scene = Scene::with_tool(&format!("{leaves}\n{GOOD_TOOL}"));
    scene.run.verification = Verification::Boot;
    let left = scene.path("left");
    let is_left = format!("kill -0 \"$(cat '{}')\" 2>/dev/null && exit 9; exit 0", left.display());
    scene.run.boot_command = Some(["sh", "-c", &is_left].map(str::to_owned).to_vec());
    let mut words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"].map(str::to_owned).to_vec();
    words.push(program());
    scene.start_through(&words, "pod-1").finish().published();
    assert_eq!(scene.in_cluster_folder(), [POINT]);
}
