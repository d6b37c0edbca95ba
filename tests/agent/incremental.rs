//! Incremental backups: over a copy of an earlier point, which never changes, and only if it shares the master's
//! history.

use crate::scene::{LOG, POINT, SERVED, STORE_ID, Scene, TRANSACTION_5, neostore};
use graph_backup_operator::agent::store::digest;
use graph_backup_operator::agent::store::manifest::Manifest;
use graph_backup_operator::api::{CopiedBy, Reason, Verification};
use graph_backup_operator::contract::task::{Mode, Parent, Plan};
use graph_backup_operator::contract::verdict::Published;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// Full: a store up to transaction 5. Incremental: changes what it finds there, up to transaction 6.
pub const TOOL: &str = r#"
if [ "$2" = full ]; then
    if [ -e "$target/neostore" ]; then echo "$target already contains a database"; exit 1; fi
    mkdir -p "$target/index/empty"
    cp "$scene/header-5" "$target/neostore"
    cp "$scene/log" "$target/nioneo_logical.log.v2"
    echo nodes > "$target/neostore.nodestore.db"
    head -c 300000 /dev/zero > "$target/neostore.propertystore.db"
    : > "$target/index/lucene-store.db"
else
    if [ -e "$scene/complaint" ]; then : > "$target/half-done"; cat "$scene/complaint"; exit 1; fi
    [ -e "$target/neostore" ] && [ -d "$target/index/empty" ] || exit 1
    cp "$scene/header-6" "$target/neostore"
    cp "$scene/log-6" "$target/nioneo_logical.log.v2"
    echo more >> "$target/neostore.nodestore.db"
    echo "Performing incremental backup from 'single://x'"
    echo "[1 Transactions applied]"
fi
echo Done
"#;

pub struct Chain {
    pub scene: Scene,
    parent: Published,
    /// The last transaction of the store that a full copy gives.
    full_ends_with: i64,
}

impl Chain {
    /// A full point, and a run that starts from it.
    pub fn new() -> Self {
        Self::with_tool(TOOL)
    }

    pub fn with_tool(tool: &str) -> Self {
        Self::on(tool, |_| ()).0
    }

    /// The same after something was done with the target; what that gave lives as long as the scene.
    pub fn on<T>(tool: &str, prepare: impl FnOnce(&Scene) -> T) -> (Self, T) {
        let scene = Scene::with_tool(tool);
        let prepared = prepare(&scene);
        for last in 4..=6 {
            fs::write(scene.path(&format!("header-{last}")), neostore(STORE_ID, last)).unwrap();
        }
        fs::write(scene.path("log"), &LOG[..TRANSACTION_5.end]).unwrap();
        fs::write(scene.path("log-6"), LOG).unwrap();
        scene.member.holds(5, &LOG[TRANSACTION_5]);
        let parent = scene.backup("pod-1").published();
        let mut chain = Self { scene, parent, full_ends_with: 5 };
        chain.next("second", false);
        (chain, prepared)
    }

    /// The next run makes point `name` from the one that was made last.
    fn next(&mut self, name: &str, or_full: bool) {
        let run = &mut self.scene.run;
        let parent = Parent {
            name: run.owner.name.clone(),
            uid: run.owner.uid.clone(),
            point: run.place.point.clone(),
            manifest_digest: self.parent.manifest_digest.clone(),
            last_transaction: self.parent.last_transaction,
        };
        run.plan = Plan::Incremental { parent, or_full };
        run.owner.uid = format!("uid-{name}");
        run.place.point = name.into();
    }

    pub fn or_full(&mut self) {
        let Plan::Incremental { or_full, .. } = &mut self.scene.run.plan else { panic!("it is incremental") };
        *or_full = true;
    }

    /// The history that the master and a full copy of it have from now on: a transaction 5, or none.
    fn now_is(&mut self, transaction_5: Option<&[u8]>) {
        self.scene.member.forgets();
        if let Some(entries) = transaction_5 {
            self.scene.member.holds(5, entries);
        } else {
            self.full_ends_with = 1;
            fs::write(self.scene.path("header-5"), neostore(STORE_ID, 1)).unwrap();
        }
        let log = [&LOG[..TRANSACTION_5.start], transaction_5.unwrap_or_default()].concat();
        fs::write(self.scene.path("log"), log).unwrap();
    }

    pub fn parent_store(&self, file: &str) -> std::path::PathBuf {
        self.scene.point_folder().join("store").join(file)
    }

    /// Changes a byte in a file of the parent's store, `neostore.propertystore.db`.
    fn damage_parent(&self) {
        let file = self.parent_store("neostore.propertystore.db");
        let mut content = fs::read(&file).unwrap();
        content[1000] ^= 1;
        fs::write(&file, content).unwrap();
    }

    /// Runs into `reason`, and leaves nothing but the parent; the same with leave for a full copy makes one.
    #[track_caller]
    fn fails_or_falls_back(&mut self, reason: Reason) -> String {
        let failure = self.scene.backup("pod-2").failed(reason);
        assert!(!self.scene.cluster_folder().join("second").exists());
        assert!(!self.scene.in_cluster_folder().iter().any(|name| name.starts_with('.')));
        self.or_full();
        let published = self.scene.backup("pod-3").published();
        let fell_back = published.fell_back.clone().expect("it fell back");
        assert_eq!(fell_back.reason, reason);
        assert_eq!((published.mode, published.depth, published.shared_bytes), (Mode::Full, 0, 0));
        assert_eq!((published.parent, published.last_transaction), (None, self.full_ends_with));
        let manifest = self.scene.manifest_of("second");
        assert_eq!((manifest.fell_back, manifest.copied_by), (Some(fell_back), None));
        assert_eq!(manifest.tool.as_ref().unwrap().command[3], "full");
        let names: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        let expected = [
            "index/lucene-store.db",
            "neostore",
            "neostore.nodestore.db",
            "neostore.propertystore.db",
            "nioneo_logical.log.v2",
        ];
        assert_eq!(names, expected, "something of the parent's copy is left");
        failure.message
    }
}

/// Every file and folder: path, mode, time of the last change, content.
fn everything(folder: &Path) -> Vec<(String, u32, SystemTime, Option<Vec<u8>>)> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = metadata.is_file().then(|| fs::read(&path).unwrap());
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        found.push((name, metadata.permissions().mode(), metadata.modified().unwrap(), content));
    }
    found.sort();
    found
}

fn bytes_of(manifest: &Manifest, paths: &[&str]) -> u64 {
    manifest.files.iter().filter(|file| paths.contains(&file.path.as_str())).map(|file| file.bytes).sum()
}

#[test]
fn an_incremental_point_is_whole_and_leaves_its_parent_alone() {
    let mut chain = Chain::new();
    let before = everything(&chain.scene.point_folder());
    let outcome = chain.scene.backup("pod-2");
    let ended = outcome.log.iter().filter(|line| line["event"] == "ended");
    let steps: Vec<_> = ended.map(|line| line["step"].as_str().unwrap().to_owned()).collect();
    let expected = [
        "lock",
        "mastership-before",
        "parent",
        "forward",
        "compare",
        "tool",
        "judge",
        "seed",
        "mastership-after",
        "write-back",
        "hash",
        "manifest",
        "verify",
        "write-back",
        "publish",
        "report",
    ];
    assert_eq!(steps, expected);
    assert_eq!(outcome.tool_lines("stdout")[1], "[1 Transactions applied]");
    let second = outcome.published();
    assert_eq!(everything(&chain.scene.point_folder()), before, "the parent changed");
    assert!(second.free_bytes.is_some());
    let Plan::Incremental { parent, .. } = chain.scene.run.plan.clone() else { panic!("it is incremental") };
    assert_eq!((second.mode, &second.parent, second.depth), (Mode::Incremental, &Some(parent), 1));
    assert_eq!((second.last_transaction, second.verified, &second.fell_back), (6, true, &None));
    let manifest = chain.scene.manifest_of("second");
    let grown = (5 + LOG.len() - TRANSACTION_5.end) as u64;
    assert_eq!((second.files, second.bytes), (5, chain.parent.bytes + grown));
    let nodes = fs::read_to_string(chain.scene.cluster_folder().join("second/store/neostore.nodestore.db")).unwrap();
    assert_eq!(nodes, "nodes\nmore\n");
    let shared = match manifest.copied_by.unwrap() {
        CopiedBy::Reflink => bytes_of(&manifest, &["neostore.propertystore.db", "index/lucene-store.db"]),
        CopiedBy::Copy => 0,
    };
    assert_eq!(second.shared_bytes, shared);
    assert_eq!(manifest.tool.as_ref().unwrap().command[3], "incremental");
    let inspected = chain.scene.inspect().published();
    // Whether an object of this name had a point before is asked when one is made.
    assert_eq!(inspected, Published { free_bytes: None, earlier: None, ..second.clone() });

    // The chain goes on from the incremental one, whose parent may be gone.
    chain.parent = second;
    fs::remove_dir_all(chain.scene.point_folder()).unwrap();
    chain.next("third", false);
    let third = chain.scene.backup("pod-3").published();
    assert_eq!((third.depth, third.last_transaction, third.bytes), (2, 6, chain.parent.bytes + 5));
    assert_eq!(chain.scene.in_cluster_folder(), ["second", "third"]);
}

#[test]
fn holes_of_the_parent_stay_holes() {
    use std::os::unix::fs::MetadataExt;
    let chain = Chain::with_tool(&TOOL.replace("head -c 300000 /dev/zero >", "truncate -s 300M"));
    chain.scene.backup("pod-2").published();
    let copy = chain.scene.cluster_folder().join("second/store/neostore.propertystore.db");
    let metadata = fs::metadata(copy).unwrap();
    assert_eq!(metadata.len(), 300 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
}

#[test]
fn a_parent_that_is_gone() {
    let mut chain = Chain::new();
    fs::rename(chain.scene.point_folder(), chain.scene.path("moved-away")).unwrap();
    let message = chain.fails_or_falls_back(Reason::ParentDamaged);
    assert!(message.contains(&format!("{POINT} is not on the target")), "{message}");
    assert_eq!(chain.scene.tool_runs(), 2, "the tool ran on nothing");
}

#[test]
fn a_parent_whose_manifest_is_another() {
    let mut chain = Chain::new();
    let path = chain.scene.point_folder().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replace("registry.example", "registry.elsewhere")).unwrap();
    let message = chain.fails_or_falls_back(Reason::ParentDamaged);
    assert!(message.contains("digest"), "{message}");
}

#[test]
fn a_parent_with_a_file_changed_or_missing() {
    let mut chain = Chain::new();
    chain.damage_parent();
    let message = chain.fails_or_falls_back(Reason::ParentDamaged);
    assert!(message.contains("neostore.propertystore.db has other content"), "{message}");

    let mut chain = Chain::new();
    fs::remove_file(chain.parent_store("index/lucene-store.db")).unwrap();
    chain.fails_or_falls_back(Reason::ParentDamaged);
}

#[test]
fn a_master_of_another_history() {
    let mut chain = Chain::new();
    let mut other = LOG[TRANSACTION_5].to_vec();
    other[10] ^= 1;
    chain.now_is(Some(&other));
    let message = chain.fails_or_falls_back(Reason::HistoryMayDiffer);
    assert!(message.contains("what the master holds as transaction 5 is not in the logs"), "{message}");
    assert_eq!(chain.scene.tool_runs(), 2, "the tool was let at another history");
}

#[test]
fn a_master_that_is_behind_its_parent() {
    let mut chain = Chain::new();
    chain.now_is(None);
    let message = chain.fails_or_falls_back(Reason::HistoryMayDiffer);
    assert!(message.contains("has not come to its last transaction 5"), "{message}");
}

#[test]
fn a_master_without_the_logs() {
    let mut chain = Chain::new();
    chain.scene.member.loses_its_logs();
    let message = chain.fails_or_falls_back(Reason::LogsPruned);
    assert!(message.contains("not found in any logical log"), "{message}");
}

#[test]
fn a_master_that_fails_says_nothing_about_its_logs() {
    let mut chain = Chain::new();
    chain.scene.member.answers_with("java.lang.IllegalStateException: Database is switching its role");
    let message = chain.fails_or_falls_back(Reason::MemberFailed);
    assert!(message.contains("switching its role"), "{message}");
}

#[test]
fn a_master_that_fails_for_a_moment_costs_no_full_copy() {
    let chain = Chain::new();
    chain.scene.member.answers_with("java.lang.IllegalStateException: Database is switching its role");
    let mut running = chain.scene.start("pod-2");
    assert!(running.reaches("parent", "started"));
    let before = chain.scene.member.questions();
    crate::agent::eventually("the master was asked again", || chain.scene.member.questions() >= before + 2);
    chain.scene.member.recovers();
    assert_eq!(running.finish().published().depth, 1);
}

#[test]
fn a_master_that_got_another_history_before_the_tool_asked() {
    let mut chain = Chain::new();
    let mut other = SERVED.to_vec();
    other[10] ^= 1;
    // The tool brings what the master does not hold.
    chain.scene.member.holds(6, &other);
    let message = chain.fails_or_falls_back(Reason::HistoryMayDiffer);
    assert!(message.contains("what the master holds as transaction 6 is not in the logs"), "{message}");
    assert_eq!(chain.scene.tool_runs(), 4, "full, incremental, incremental, full");
}

#[test]
fn a_parent_whose_log_holds_more_than_its_header_names_is_told_by_that() {
    // As long as nothing is there to bring, the parent stays as the full copy left it.
    let tool = TOOL.replace("$scene/header-5", "$scene/header-4");
    let tool = tool.replace("else\n", "elif [ -e \"$scene/more\" ]; then\n");
    let mut chain = Chain::with_tool(&tool);
    assert_eq!(chain.parent.last_transaction, 4);
    fs::write(chain.scene.path("more"), "").unwrap();
    // Transaction 4 is nowhere in the parent.
    chain.scene.backup("pod-2").published();
    let mut other = LOG[TRANSACTION_5].to_vec();
    other[10] ^= 1;
    chain.scene.run.place.point = POINT.into();
    chain.scene.run.owner.uid = crate::scene::BACKUP_UID.into();
    chain.next("third", false);
    chain.now_is(Some(&other));
    chain.scene.backup("pod-3").failed(Reason::HistoryMayDiffer);
}

#[test]
fn a_tool_that_finds_no_logs_or_another_store() {
    for (complaint, reason) in [
        ("RuntimeException: x.NoSuchLogVersionException: No such log version:4", Reason::LogsPruned),
        ("ComException: StoreId[1] from response doesn't match my StoreId[2]", Reason::StoreMismatch),
    ] {
        let mut chain = Chain::new();
        fs::write(chain.scene.path("complaint"), complaint).unwrap();
        chain.fails_or_falls_back(reason);
        assert_eq!(chain.scene.tool_runs(), 4, "full, incremental, incremental, full");
    }
}

#[test]
fn what_a_full_copy_would_meet_too_is_no_reason_for_one() {
    for (complaint, reason) in [
        ("Couldn't connect to 'single://h:1'", Reason::MasterUnreachable),
        ("java.io.IOException: No space left on device", Reason::TargetFull),
        ("it broke", Reason::ToolFailed),
    ] {
        let mut chain = Chain::new();
        chain.or_full();
        fs::write(chain.scene.path("complaint"), complaint).unwrap();
        chain.scene.backup("pod-2").failed(reason);
        assert_eq!(chain.scene.tool_runs(), 2);
        assert_eq!(chain.scene.in_cluster_folder(), [POINT]);
    }
}

#[test]
fn a_tool_that_goes_back_in_time() {
    let mut chain = Chain::with_tool(&TOOL.replace("header-6", "header-4"));
    chain.or_full();
    let failure = chain.scene.backup("pod-2").failed(Reason::ToolLeftNoStore);
    assert!(failure.message.contains("ends with transaction 4, before the 5"), "{}", failure.message);
}

#[test]
fn a_target_without_room_for_another_copy() {
    let mut chain = Chain::new();
    let path = chain.scene.point_folder().join("manifest.json");
    let mut manifest = chain.scene.manifest();
    manifest.bytes = 1 << 60;
    let text = serde_json::to_vec(&manifest).unwrap();
    fs::write(path, &text).unwrap();
    chain.parent.manifest_digest = digest::labelled(&text);
    chain.scene.run.plan = Plan::Full;
    let failure = chain.scene.backup("pod-2").failed(Reason::TargetFull);
    let needs = format!("bytes free and the copy needs {}, as much as the newest point {POINT}", 1_u64 << 60);
    assert!(failure.message.contains(&needs), "{}", failure.message);

    chain.scene.run.place.point = POINT.into();
    chain.next("second", true);
    let outcome = chain.scene.backup("pod-3");
    if outcome.log.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("bytes cloned"))) {
        outcome.published();
    } else {
        outcome.failed(Reason::TargetFull);
        assert_eq!(chain.scene.tool_runs(), 1);
    }
}

#[test]
fn without_verification_damage_of_the_parent_is_not_handed_on() {
    let mut chain = Chain::new();
    chain.scene.run.verification = Verification::None;
    let outcome = chain.scene.backup("pod-2");
    assert!(!outcome.log.iter().any(|line| line["step"] == "verify"));
    assert!(!outcome.published().verified);

    let mut chain = Chain::new();
    chain.scene.run.verification = Verification::None;
    chain.damage_parent();
    let message = chain.fails_or_falls_back(Reason::ParentDamaged);
    assert!(message.contains("neostore.propertystore.db has other content"), "{message}");
}

#[test]
fn killed_at_any_step_it_leaves_its_parent_alone() {
    for step in ["parent", "forward", "compare", "tool", "hash"] {
        let mut chain = Chain::new();
        let before = everything(&chain.scene.point_folder());
        let mut running = chain.scene.start("pod-2");
        assert!(running.reaches(step, "started"), "{step}");
        running.kill();
        assert!(!chain.scene.cluster_folder().join("second").exists(), "{step}");
        chain.scene.run.attempt = 2;
        assert_eq!(chain.scene.backup("pod-3").published().depth, 1);
        assert_eq!(chain.scene.in_cluster_folder(), [POINT, "second"]);
        assert_eq!(everything(&chain.scene.point_folder()), before, "{step}");
    }
}

#[test]
fn a_report_of_inconsistencies_from_long_ago_condemns_nobody() {
    let old = ": > \"$target/inconsistencies-2012-11-24.06.00.report\"";
    // As in the store of a member that was copied cold.
    let mut cold = Chain::with_tool(TOOL);
    cold.scene.run.plan = Plan::Cold { store_path: "graph.db".into(), alone: true };
    let source = cold.scene.path("source/graph.db");
    fs::create_dir_all(source.join("index/empty")).unwrap();
    fs::write(source.join("neostore"), neostore(STORE_ID, 5)).unwrap();
    fs::write(source.join("nioneo_logical.log.v2"), LOG).unwrap();
    fs::write(source.join("inconsistencies-2012-11-24.06.00.report"), "").unwrap();
    cold.parent = cold.scene.backup("pod-2").published();
    cold.next("third", false);
    assert_eq!(cold.scene.backup("pod-3").published().depth, 1);

    // One that this run left counts.
    let chain = Chain::with_tool(&TOOL.replace("echo more", &format!("{old}\n    echo more")));
    chain.scene.backup("pod-2").failed(Reason::ConsistencyFailed);
}
