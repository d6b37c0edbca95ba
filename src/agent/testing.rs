//! Values for the tests of this layer.

use crate::agent::stop::Stop;
use crate::agent::store::files;
use crate::agent::store::manifest::STORE_FOLDER;
use crate::agent::store::manifest::{FORMAT_VERSION, FileRecord, Manifest, ToolRecord};
use crate::agent::store::manifest_file;
use crate::agent::volume::layout::Layout;
use crate::agent::volume::target;
use crate::api::{Endpoint, Kind, Mastership, Owner, ProbeMark, Seed, Source, StoreId};
use crate::contract::task::{Mode, Place};
use chrono::DateTime;
use std::fs;

pub(super) const STORE_ID: StoreId =
    StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };

pub(super) fn mastership() -> Mastership {
    Mastership::Probe(ProbeMark { endpoint: Endpoint { host: "neo4j-0".into(), port: 6362 }, store_id: STORE_ID })
}

pub(super) fn owner() -> Owner {
    Owner {
        kind: Kind::GraphBackup,
        namespace: "graph".into(),
        name: "before-upgrade".into(),
        uid: "backup-uid".into(),
    }
}

pub(super) fn manifest() -> Manifest {
    let files = vec![FileRecord { path: "neostore".into(), bytes: 69, sha256: "0".repeat(64) }];
    Manifest {
        format_version: FORMAT_VERSION,
        owner: owner(),
        attempt: 1,
        point: "20261124T060000Z-before-upgrade-backup-u".into(),
        mode: Mode::Full,
        parent: None,
        depth: 0,
        fell_back: None,
        copied_by: None,
        shared_bytes: 0,
        boot: None,
        catch_up: Vec::new(),
        seed: Some(Seed::COMPLETE),
        store_id: STORE_ID,
        last_transaction: 6,
        data_from: DateTime::from_timestamp(1_795_500_000, 0).unwrap(),
        data_to: DateTime::from_timestamp(1_795_500_010, 0).unwrap(),
        mastership_before: mastership(),
        mastership_after: mastership(),
        tool: Some(ToolRecord {
            image: "neo4j:1.8".into(),
            command: vec!["neo4j-backup".into()],
            exit_code: 0,
            stdout_sha256: "1".repeat(64),
            stderr_sha256: "2".repeat(64),
        }),
        source: Some(Source { uri: "ha://zk".into(), cluster_name: None }),
        operator_version: "0.1.0".into(),
        tree: files::tree_digest(&files),
        bytes: 69,
        files,
    }
}

/// A published point as small as it gets: the mounted target, its place, and the digest of its manifest.
pub(super) fn published() -> (tempfile::TempDir, Place, String) {
    let place = Place { directory: "d".into(), cluster: STORE_ID, point: manifest().point };
    let mount = tempfile::tempdir().unwrap();
    let layout = Layout::new(mount.path(), &place).unwrap();
    target::prepare(&layout).unwrap();
    let partial = layout.partial_folder("backup-uid", "pod-uid").unwrap();
    target::make_partial(&partial).unwrap();
    let header = include_bytes!("testing/neostore");
    fs::write(partial.join("store/neostore"), header).unwrap();
    let mut manifest = manifest();
    manifest.files = files::read(&partial.join(STORE_FOLDER), files::Purpose::Keep, &Stop::never()).unwrap();
    manifest.bytes = header.len() as u64;
    manifest.tree = files::tree_digest(&manifest.files);
    let digest = manifest_file::write(&partial, &manifest).unwrap();
    target::publish(&partial, &layout.point_folder()).unwrap();
    (mount, place, digest)
}
