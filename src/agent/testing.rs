//! Values for the tests of this layer.

use crate::agent::store::files;
use crate::agent::store::manifest::{FORMAT_VERSION, FileRecord, Manifest, ToolRecord};
use crate::api::{Endpoint, Kind, Mastership, Owner, ProbeMark, Seed, Source, StoreId};
use crate::contract::task::Mode;
use chrono::DateTime;

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
