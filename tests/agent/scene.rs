//! A target volume, a member, a scripted tool, and the agent run against them.

use crate::agent::{Outcome, Running};
use crate::member::Member;
use graph_backup_operator::agent::store::manifest::Manifest;
use graph_backup_operator::api::{Endpoint, Mastership, ProbeMark, StoreId, Verification};
use graph_backup_operator::api::{Kind, Owner};
use graph_backup_operator::contract::task::{BackupRun, DrillRun, InspectRun, Place, Plan, PruneRun};
use graph_backup_operator::discovery::SourceUri;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub const STORE_ID: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };
pub const OTHER_STORE_ID: StoreId = StoreId { creation_time: 1_795_334_483_296, random_id: 7 };
pub const BACKUP_UID: &str = "1a2b3c4d-0000-4000-8000-000000000000";
pub const POINT: &str = "20261124T060000Z-before-upgrade-1a2b3c4d";
/// A store as small as it gets, and what the tool says about it.
pub const GOOD_TOOL: &str = r#"
mkdir -p "$target/index"
cp "$header" "$target/neostore"
cp "$log" "$target/nioneo_logical.log.v2"
echo nodes > "$target/neostore.nodestore.db"
: > "$target/index/lucene-store.db"
echo "Performing full backup from 'single://x'"
echo "Full consistency check" >&2
echo "....................  40%" >&2
echo "[3 Files copied]"
echo Done
"#;

/// Transaction 6 as a real master serves it: the last one of the stores that the scripted tools leave.
pub const SERVED: &[u8] = include_bytes!("../recorded/log/served");
/// A log with transactions 5 and 6 as the real tool leaves it, `nioneo_logical.log.v2`.
pub const LOG: &[u8] = include_bytes!("../recorded/log/incremental");
/// Transaction 5 in it.
pub const TRANSACTION_5: std::ops::Range<usize> = 16..568;

pub struct Scene {
    pub folder: TempDir,
    pub member: Member,
    pub run: BackupRun,
}

impl Scene {
    /// The tool is a shell script; `$target` is where it writes, `$header` a valid `neostore`, `$log` its log, `$scene`
    /// a folder for notes.
    pub fn with_tool(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("neostore"), neostore(STORE_ID, 6)).unwrap();
        fs::write(folder.path().join("log"), LOG).unwrap();
        fs::write(folder.path().join("other-neostore"), neostore(OTHER_STORE_ID, 6)).unwrap();
        let scene = folder.path().display();
        let tool = folder.path().join("tool");
        fs::write(
            &tool,
            format!(
                "scene={scene}\nheader={scene}/neostore\nlog={scene}/log\ntarget=$1\necho $$ >> {scene}/pids\n{script}"
            ),
        )
        .unwrap();
        let member = Member::serving(STORE_ID);
        member.holds(6, SERVED);
        let endpoint = Endpoint { host: "127.0.0.1".into(), port: member.port };
        let run = BackupRun {
            owner: Owner {
                kind: Kind::GraphBackup,
                namespace: "graph".into(),
                name: "before-upgrade".into(),
                uid: BACKUP_UID.into(),
            },
            attempt: 1,
            source: SourceUri::Single(endpoint.clone()),
            cluster_name: None,
            mastership: Mastership::Probe(ProbeMark { endpoint, store_id: STORE_ID }),
            plan: Plan::Full,
            command: ["sh", tool.to_str().unwrap(), "{target}", "{mode}", "{host}:{port}"].map(String::from).to_vec(),
            place: Place { directory: "team/graph".into(), cluster: STORE_ID, point: POINT.into() },
            verification: Verification::Quick,
            boot_command: None,
            bandwidth_limit: None,
            deadline_seconds: 300,
            image: "registry.example/neo4j:1.8".into(),
        };
        Self { folder, member, run }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn cluster_folder(&self) -> PathBuf {
        self.path("target/team/graph").join(STORE_ID.to_string())
    }

    pub fn point_folder(&self) -> PathBuf {
        self.cluster_folder().join(POINT)
    }

    /// Names in the cluster's folder but for the lock.
    pub fn in_cluster_folder(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.cluster_folder()) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }

    /// How often the tool was started.
    pub fn tool_runs(&self) -> usize {
        fs::read_to_string(self.path("pids")).unwrap_or_default().lines().count()
    }

    pub fn manifest(&self) -> Manifest {
        self.manifest_of(POINT)
    }

    pub fn manifest_of(&self, point: &str) -> Manifest {
        serde_json::from_slice(&fs::read(self.cluster_folder().join(point).join("manifest.json")).unwrap()).unwrap()
    }

    /// Starts `agent backup` in a pod with this UID.
    pub fn start(&self, pod: &str) -> Running {
        self.spawn("backup", pod, &self.run)
    }

    /// Starts `agent backup` by a command that ends with the program, such as a tracer.
    pub fn start_through(&self, command: &[String], pod: &str) -> Running {
        let verdict = self.path(&format!("verdict-{pod}"));
        Running::start_through(command, "backup", pod, &self.run, &self.path("target"), &verdict)
    }

    pub fn backup(&self, pod: &str) -> Outcome {
        self.start(pod).finish()
    }

    /// Runs `agent check`.
    pub fn check(&self) -> Outcome {
        self.start_check().finish()
    }

    /// Starts `agent check`.
    pub fn start_check(&self) -> Running {
        self.spawn("check", "check-pod", &self.run)
    }

    pub fn inspect(&self) -> Outcome {
        let run =
            InspectRun { owner: self.run.owner.clone(), place: self.run.place.clone(), adopt: false, clean: false };
        self.spawn("inspect", "inspect-pod", &run).finish()
    }

    /// Runs `agent prune`.
    pub fn prune(&self) -> Outcome {
        let run = PruneRun { owner: self.run.owner.clone(), places: vec![self.run.place.clone()] };
        self.spawn("prune", "prune-pod", &run).finish()
    }

    /// Starts `agent drill`.
    pub fn start_drill(&self, run: &DrillRun) -> Running {
        self.spawn("drill", "drill-pod", run)
    }

    /// The same by a command that ends with the program.
    pub fn start_drill_through(&self, command: &[String], run: &DrillRun) -> Running {
        let verdict = self.path("verdict-drill-pod");
        Running::start_through(command, "drill", "drill-pod", run, &self.path("target"), &verdict)
    }

    /// Starts a task of a restore.
    pub fn start_restore(&self, what: &str, run: &impl Serialize) -> Running {
        self.spawn(what, "restore-pod", run)
    }

    /// The same by a command that ends with the program.
    pub fn start_restore_through(&self, command: &[String], what: &str, run: &impl Serialize) -> Running {
        let verdict = self.path("verdict-restore-pod");
        Running::start_through(command, what, "restore-pod", run, &self.path("target"), &verdict)
    }

    fn spawn(&self, what: &str, pod: &str, run: &impl Serialize) -> Running {
        Running::start(what, pod, run, &self.path("target"), &self.path(&format!("verdict-{pod}")))
    }
}

/// A `neostore` of a store that was shut down cleanly: six records and the trailer.
pub fn neostore(store_id: StoreId, last_transaction: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [store_id.creation_time, store_id.random_id, 2, last_transaction, 0x0030_2e41_2e30_7606, -1] {
        bytes.push(1);
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(b"NeoStore v0.A.0");
    bytes
}

/// Whether a process of this id runs; one that has ended but was not reaped does not.
pub fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}
