//! Copies that a cluster can start from, or cannot: what the real tool left (`tests/recorded/seed`), judged and mended.

use crate::member::Member;
use crate::scene::{POINT, Scene};
use graph_backup_operator::agent::stop::Stop;
use graph_backup_operator::agent::store::digest;
use graph_backup_operator::agent::store::files;
use graph_backup_operator::agent::store::manifest::Manifest;
use graph_backup_operator::agent::store::transaction_log::{self, Commits, TransactionLog};
use graph_backup_operator::api::{
    Endpoint, Mastership, MendedHeader, ProbeMark, Reason, Seed, SeedState, StoreId, Verification,
};
use graph_backup_operator::contract::failure::Failure;
use graph_backup_operator::contract::task::{Mode, Parent, Plan};
use graph_backup_operator::contract::verdict::Published;
use std::fs;
use std::path::{Path, PathBuf};

/// Identity of the recorded stores.
const RECORDED: StoreId = StoreId { creation_time: 0x0000_01a2_1550_5440, random_id: 0x4852_8249_7639_653d };
/// Leaves the store in `$scene/full`, or in `$scene/incremental` if there is one.
const TOOL: &str = r#"
if [ "$2" = full ]; then
    mkdir -p "$target"
    cp -r "$scene/full/." "$target"
elif [ -e "$scene/complaint" ]; then
    cat "$scene/complaint"
    exit 1
elif [ -e "$scene/incremental" ]; then
    rm -r "$target/index" "$target"/nioneo_logical.log.*
    cp -r "$scene/incremental/." "$target"
    echo "[34 Transactions applied]"
else
    echo "[0 Transactions applied]"
fi
echo Done
"#;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/seed").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() { copy(&entry.path(), &to) } else { drop(fs::copy(entry.path(), to)) }
    }
}

/// The tool leaves the recorded store `full`, then `incremental`, if that is not empty.
fn scene(full: &str, incremental: &str) -> Scene {
    let mut scene = Scene::with_tool(TOOL);
    scene.member = Member::serving(RECORDED);
    let endpoint = Endpoint { host: "127.0.0.1".into(), port: scene.member.port };
    scene.run.source = format!("single://{endpoint}").parse().unwrap();
    scene.run.mastership = Mastership::Probe(ProbeMark { endpoint, store_id: RECORDED });
    scene.run.place.cluster = RECORDED;
    copy(&recorded(full), &scene.path("full"));
    serve(&scene.member, full);
    if !incremental.is_empty() {
        copy(&recorded(incremental), &scene.path("incremental"));
        serve(&scene.member, incremental);
    }
    scene
}

/// The member has the last transaction that the logs of the recorded store hold. All in one log are equally long.
fn serve(member: &Member, name: &str) {
    let files = files::list(&recorded(name)).unwrap().files;
    let files = files.iter().map(|(path, _)| path.as_str());
    let newest = transaction_log::newest(&recorded(name), files, transaction_log::GRAPH_LOGS, &Stop::never());
    let (log, TransactionLog { commits, .. }) = newest.unwrap().unwrap();
    let Commits { first, last } = commits.unwrap();
    let entries = fs::read(recorded(name).join(log)).unwrap().split_off(16);
    let length = entries.len() / usize::try_from(last - first + 1).unwrap();
    member.holds(last, &entries[entries.len() - length..]);
}

fn folder(scene: &Scene, point: &str) -> PathBuf {
    scene.path("target/team/graph").join(RECORDED.to_string()).join(point)
}

fn manifest(scene: &Scene, point: &str) -> Manifest {
    serde_json::from_slice(&fs::read(folder(scene, point).join("manifest.json")).unwrap()).unwrap()
}

fn in_store(scene: &Scene, point: &str, file: &str) -> Vec<u8> {
    fs::read(folder(scene, point).join("store").join(file)).unwrap()
}

fn with_header(log: &Path, last_before: i64) -> Vec<u8> {
    let mut bytes = fs::read(log).unwrap();
    bytes[8..16].copy_from_slice(&last_before.to_be_bytes());
    bytes
}

/// A point as operators before format 2 made it: nobody looked at its logs.
fn older_point(name: &str) -> (Scene, Published) {
    let scene = scene(name, "");
    scene.backup("pod-1").published();
    let mut manifest = manifest(&scene, POINT);
    (manifest.format_version, manifest.seed) = (1, None);
    for file in &mut manifest.files {
        let path = folder(&scene, POINT).join("store").join(&file.path);
        fs::copy(recorded(name).join(&file.path), &path).unwrap();
        file.sha256 = digest::labelled(&fs::read(path).unwrap()).replace("sha256:", "");
    }
    manifest.tree = files::tree_digest(&manifest.files);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    fs::write(folder(&scene, POINT).join("manifest.json"), &bytes).unwrap();
    let published = scene.inspect().published();
    assert_eq!(published.manifest_digest, digest::labelled(&bytes));
    (scene, published)
}

#[test]
fn a_header_that_names_the_last_transaction_is_mended_before_anything_is_hashed() {
    let scene = scene("header-names-last-of-two", "");
    let published = scene.backup("pod-1").facts();
    let file = "nioneo_logical.log.v15";
    let seed = Seed { mended: vec![MendedHeader { file: file.into(), from: 334, to: 332 }], ..Seed::COMPLETE };
    assert_eq!(published.seed.as_ref(), Some(&seed));
    let manifest = manifest(&scene, POINT);
    assert_eq!((manifest.seed, manifest.catch_up, manifest.last_transaction), (Some(seed), Vec::new(), 334));
    assert_eq!(in_store(&scene, POINT, file), with_header(&recorded("header-names-last-of-two").join(file), 332));
    for other in manifest.files.iter().filter(|other| other.path != file) {
        let as_left = fs::read(recorded("header-names-last-of-two").join(&other.path)).unwrap();
        assert_eq!(in_store(&scene, POINT, &other.path), as_left, "{}", other.path);
    }
    assert_eq!(scene.tool_runs(), 1);
    assert_eq!(scene.inspect().published(), published);
}

#[test]
fn a_copy_without_its_last_transaction_gets_the_next_ones() {
    for name in ["last-missing", "index-last-missing"] {
        let scene = scene(name, "last-missing-caught-up");
        let published = scene.backup("pod-1").facts();
        assert_eq!((published.mode, published.last_transaction), (Mode::Full, 759));
        assert_eq!(published.seed, Some(Seed::COMPLETE), "{name}");
        let manifest = manifest(&scene, POINT);
        let modes = |tool: &graph_backup_operator::agent::store::manifest::ToolRecord| tool.command[3].clone();
        assert_eq!(manifest.tool.as_ref().map(modes).as_deref(), Some("full"));
        assert_eq!(manifest.catch_up.iter().map(modes).collect::<Vec<_>>(), ["incremental"]);
        assert_eq!(scene.tool_runs(), 2);
        assert_eq!(scene.inspect().published(), published);
    }
}

#[test]
fn a_copy_that_gets_nothing_more_is_published_and_says_so() {
    let scene = scene("last-missing", "");
    let published = scene.backup("pod-1").facts();
    let seed = published.seed.clone().unwrap();
    assert_eq!(seed.state, SeedState::LastTransactionNotLogged);
    assert!(seed.problem.as_deref().unwrap().contains("transaction 742 of the copy is in no log"), "{seed:?}");
    assert_eq!((scene.tool_runs(), manifest(&scene, POINT).catch_up.len()), (2, 1), "it asked in vain once");
    assert_eq!(scene.inspect().published(), published);
}

#[test]
fn a_tool_that_always_copies_the_whole_store_is_not_run_again() {
    let mut scene = scene("last-missing", "last-missing-caught-up");
    scene.run.command[3] = "full".into();
    let published = scene.backup("pod-1").published();
    assert_eq!(published.seed.unwrap().state, SeedState::LastTransactionNotLogged);
    assert_eq!(scene.tool_runs(), 1);
}

#[test]
fn a_further_run_that_only_finds_no_member_costs_nothing() {
    let scene = scene("last-missing", "");
    fs::write(scene.path("complaint"), "Couldn't connect to 'single://h:1'").unwrap();
    let seed = scene.backup("pod-1").published().seed.unwrap();
    assert_eq!(seed.state, SeedState::LastTransactionNotLogged);
    assert!(seed.problem.unwrap().contains("the tool fetched nothing more: "));
}

#[test]
fn a_further_run_that_leaves_a_doubtful_store_is_a_failure() {
    let fails = |scene: &Scene, reason| -> Failure {
        let failure = scene.backup("pod-1").failed(reason);
        assert!(!folder(scene, POINT).exists());
        failure
    };
    let broken = scene("last-missing", "");
    fs::write(broken.path("complaint"), "it broke").unwrap();
    assert!(fails(&broken, Reason::ToolFailed).message.contains("it broke"));

    let mut killed = scene("last-missing", "");
    fs::write(killed.path("complaint"), "Couldn't connect to 'single://h:1'").unwrap();
    let script = fs::read_to_string(killed.path("tool")).unwrap();
    let unclean = "truncate -s 54 \"$target/neostore\"\n    cat \"$scene/complaint\"";
    fs::write(killed.path("tool"), script.replace("cat \"$scene/complaint\"", unclean)).unwrap();
    fails(&killed, Reason::MasterUnreachable);

    killed = scene("last-missing-caught-up", "last-missing");
    fs::remove_file(killed.path("full/nioneo_logical.log.v26")).unwrap();
    let failure = fails(&killed, Reason::ToolLeftNoStore);
    assert!(failure.message.contains("more than transaction 759, but its store ends with 742"), "{failure:?}");
}

#[test]
fn a_cold_copy_is_mended_and_the_member_is_not() {
    let mut scene = scene("idle", "");
    scene.run.plan = Plan::Cold { store_path: "graph.db".into(), alone: true };
    let source = scene.path("source/graph.db");
    copy(&recorded("header-names-last"), &source);
    let seed = scene.backup("pod-1").published().seed.unwrap();
    let file = "nioneo_logical.log.v3";
    assert_eq!(seed.mended, [MendedHeader { file: file.into(), from: 5, to: 4 }]);
    assert_eq!(in_store(&scene, POINT, file), with_header(&source.join(file), 4));
    assert_eq!(fs::read(source.join(file)).unwrap(), fs::read(recorded("header-names-last").join(file)).unwrap());
    assert_eq!(scene.tool_runs(), 0);
}

#[test]
fn the_engine_opens_what_was_mended() {
    let mut scene = scene("header-names-last", "");
    scene.run.verification = Verification::Boot;
    let file = "nioneo_logical.log.v3";
    fs::write(scene.path("mended"), with_header(&recorded("header-names-last").join(file), 4)).unwrap();
    let script = format!("cmp {} \"$1/{file}\"", scene.path("mended").display());
    scene.run.boot_command = Some(["sh", "-c", &script, "boot", "{store}"].map(str::to_owned).to_vec());
    scene.backup("pod-1").published();
}

#[test]
fn an_older_point_is_judged_and_stays_as_it_is() {
    for (name, state) in [
        ("header-names-last", SeedState::LogHeaderWrong),
        ("last-missing", SeedState::LastTransactionNotLogged),
        ("idle", SeedState::LogsComplete),
    ] {
        let (scene, published) = older_point(name);
        let seed = published.seed.unwrap();
        assert_eq!((seed.state, seed.mended.len()), (state, 0), "{name}");
        for file in manifest(&scene, POINT).files {
            assert_eq!(in_store(&scene, POINT, &file.path), fs::read(recorded(name).join(&file.path)).unwrap());
        }
    }
}

#[test]
fn the_header_that_came_from_the_parent_is_mended() {
    let (mut scene, parent) = older_point("header-names-last");
    let file = "nioneo_logical.log.v3";
    let parent = Parent {
        name: "older".into(),
        uid: parent.owner_uid,
        point: POINT.into(),
        manifest_digest: parent.manifest_digest,
        last_transaction: 5,
    };
    scene.run.plan = Plan::Incremental { parent, or_full: false };
    scene.run.owner.uid = "uid-second".into();
    scene.run.place.point = "second".into();
    let published = scene.backup("pod-2").published();
    assert_eq!((published.mode, published.last_transaction), (Mode::Incremental, 5));
    assert_eq!(published.seed.unwrap().mended, [MendedHeader { file: file.into(), from: 5, to: 4 }]);
    assert_eq!(in_store(&scene, "second", file), with_header(&recorded("header-names-last").join(file), 4));
    assert_eq!(in_store(&scene, POINT, file), fs::read(recorded("header-names-last").join(file)).unwrap());
}
