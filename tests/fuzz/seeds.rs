//! Inputs to start from: what real members, stores and tools wrote, and what the agent writes.

use graph_backup_operator::agent::report;
use graph_backup_operator::agent::store::digest;
use graph_backup_operator::agent::store::manifest::Manifest;
use graph_backup_operator::api::Reason;
use graph_backup_operator::contract::failure::Failure;
use graph_backup_operator::contract::verdict::{Drilled, Published, Verdict};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Identity of a real store.
pub const STORE_ID: &str = "000001a202462d5f-d1407c3bb8e8fb07";
/// The same as znode and backup port have it.
const STORE_ID_BYTES: [u8; 16] = 0x0000_01a2_0246_2d5f_d140_7c3b_b8e8_fb07_u128.to_be_bytes();
const STORE_VERSION: [u8; 8] = 0x0030_2e41_2e30_7606_u64.to_be_bytes();
const SERVED: &[u8] = include_bytes!("../recorded/log/served");
const LOGS: [&[u8]; 3] = [
    include_bytes!("../recorded/log/incremental"),
    include_bytes!("../recorded/log/full-from-master"),
    include_bytes!("../recorded/log/full-from-slave"),
];

/// The mastership of the object's attempt.
pub fn mastership() -> Value {
    json!({"master": {
        "memberId": 1, "endpoint": {"host": "neo4j-0.neo4j", "port": 6362}, "serverCreated": 8, "electionCreated": 9,
        "rebound": 1, "reboundModified": 15, "clusterModified": 3,
        "incarnation": {
            "serverCreatedAt": 1_795_500_000_080_i64, "serverSession": 117_000_001, "electionCreatedAt": 1_795_500_000_090_i64,
            "electionSession": 117_000_002, "reboundModifiedAt": 1_795_500_000_150_i64, "clusterModifiedAt": 1_795_500_000_030_i64
        }
    }})
}

pub fn zookeeper() -> Vec<Vec<u8>> {
    let servers: [&[u8]; 2] =
        [include_bytes!("../recorded/zookeeper/3.3.2"), include_bytes!("../recorded/zookeeper/3.9.3")];
    let two_gib = [servers[0], &i32::MAX.to_be_bytes()].concat();
    servers.map(<[u8]>::to_vec).into_iter().chain([two_gib, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]).collect()
}

pub fn znode() -> Vec<Vec<u8>> {
    let member = |port: &[u8], address: &str, padding: usize| {
        let text: Vec<u8> = address.encode_utf16().flat_map(u16::to_be_bytes).collect();
        [port, &[u8::try_from(text.len() / 2).unwrap()], &text, &vec![0; padding]].concat()
    };
    vec![
        [&STORE_ID_BYTES[..], &STORE_VERSION].concat(),
        STORE_ID_BYTES.to_vec(),
        member(&[0, 0, 24, 217], "127.0.0.1:6001", 95),
        member(&[0; 4], "db.example:6361", 0),
        member(&[], "neo4j-0:6361", 19),
        [(-2_i64).to_be_bytes().as_slice(), &(-2_i32).to_be_bytes()].concat(),
        [3_i64.to_be_bytes().as_slice(), &1_i32.to_be_bytes()].concat(),
        3_i64.to_be_bytes().to_vec(),
        (-6_i32).to_be_bytes().to_vec(),
        b"1_0000000002".to_vec(),
        b"1795334483295_-3368555925325939961".to_vec(),
    ]
}

fn manifests() -> [Value; 2] {
    let files = json!([
        {"path": "index/lucene-store.db", "bytes": 40, "sha256": "0".repeat(64)},
        {"path": "neostore", "bytes": 69, "sha256": "1".repeat(64)},
    ]);
    let full = json!({
        "formatVersion": 1, "owner": {"namespace": "graph", "name": "nightly", "uid": "backup-uid"}, "attempt": 1,
        "point": "20261124T060000Z-nightly-backup-u", "mode": "Full", "storeId": STORE_ID, "lastTransaction": 6,
        "dataFrom": "2026-11-24T06:00:01.25Z", "dataTo": "2026-11-24T06:00:02Z", "mastershipBefore": mastership(), "mastershipAfter": mastership(),
        "tool": {"image": "neo4j:1.8", "command": ["neo4j-backup", "-full"], "exitCode": 0,
                 "stdoutSha256": "2".repeat(64), "stderrSha256": "3".repeat(64)},
        "operatorVersion": "0.1.0", "tree": format!("sha256:{}", "4".repeat(64)), "bytes": 109, "files": files
    });
    let mut incremental = full.clone();
    let more = json!({
        "mode": "Incremental", "depth": 2, "copiedBy": "Reflink", "sharedBytes": 40,
        "parent": {"name": "earlier", "uid": "u", "point": "p", "lastTransaction": 4,
                   "manifestDigest": format!("sha256:{}", "5".repeat(64))},
        "fellBack": {"reason": "LogsPruned", "message": "the member no longer has the logs"},
        "boot": {"result": {"seconds": 9, "nodes": 7, "relationships": 3}, "command": ["neo4j-shell"],
                 "stdoutSha256": "6".repeat(64)},
    });
    let more_2 = json!({
        "formatVersion": 2, "catchUp": [full["tool"].clone()],
        "seed": {"state": "LastTransactionNotLogged", "problem": "the last transaction 6 of the copy is in no log",
                 "mended": [{"file": "index/lucene.log.v2", "from": 6, "to": 5}]},
    });
    incremental.as_object_mut().unwrap().extend(more_2.as_object().unwrap().clone());
    incremental.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    [full, incremental]
}

pub fn manifest() -> Vec<Vec<u8>> {
    let newer = json!({"formatVersion": 3, "files": {}});
    manifests().iter().chain([&newer]).map(|manifest| manifest.to_string().into_bytes()).collect()
}

pub fn verdict() -> Vec<Vec<u8>> {
    let [full, incremental] = manifests().map(|manifest| {
        let digest = digest::labelled(manifest.to_string().as_bytes());
        serde_json::from_value::<Manifest>(manifest).unwrap().published(digest, true)
    });
    let drilled = Verdict::Drilled(Box::new(Drilled {
        manifest_digest: full.manifest_digest.clone(),
        store_id: full.store_id,
        last_transaction: full.last_transaction,
        files: full.files,
        bytes: full.bytes,
        copy_seconds: 61,
        open_seconds: 9,
        total_seconds: 71,
        nodes: Some(7),
        relationships: None,
        finished: full.data_to,
    }));
    // Two that the types can hold and no object can.
    let deep = Published { depth: u32::MAX, ..incremental.clone() };
    let late = Published { data_to: "+10000-01-01T00:00:00Z".parse().unwrap(), ..full.clone() };
    let points = [full, incremental, deep, late].map(|point| Verdict::Published(Box::new(point)));
    let failed = Verdict::Failed(Failure::new(Reason::TargetFull, "free space on the target claim"));
    points.iter().chain([&failed, &Verdict::Pruned, &Verdict::Ready, &drilled]).map(report::encode).collect()
}

pub fn tool_output() -> Vec<Vec<u8>> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let recorded =
        if recorded.exists() { recorded } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recorded") };
    let mut seeds = vec![
        b"\0\x01\x07{\"NumberOfNodeIdsInUse\": 7, \"NumberOfRelationshipIdsInUse\": 3}\n.... 101%\nDone\n".to_vec(),
    ];
    for version in ["neo4j-backup-1.8.0", "neo4j-backup-1.8.2"] {
        let cases = fs::read_dir(recorded.join(version)).unwrap().map(|case| case.unwrap().path());
        for case in cases.filter(|case| case.is_dir()) {
            let said = |stream| fs::read(case.join(stream)).unwrap();
            let code = String::from_utf8(said("rc")).unwrap().trim().parse::<u8>().unwrap();
            seeds.push([&[code, 1, 99], &said("stdout")[..], &[0], &said("stderr")].concat());
        }
    }
    seeds.sort();
    seeds
}

pub fn store_header() -> Vec<Vec<u8>> {
    let headers: [&[u8]; 3] = [
        include_bytes!("../recorded/neostore/full-backup"),
        include_bytes!("../recorded/neostore/clean-shutdown"),
        include_bytes!("../recorded/neostore/killed"),
    ];
    headers.map(<[u8]>::to_vec).to_vec()
}

pub fn probe() -> Vec<Vec<u8>> {
    let head = [&STORE_ID_BYTES[..], &STORE_VERSION].concat();
    let name: Vec<u8> = "nioneodb".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut transaction = [&[1][..], &[0, 0, 0, 8], &name, &[1], &6_i64.to_be_bytes()].concat();
    let (whole, rest) = SERVED.as_chunks::<255>();
    for block in whole {
        transaction.push(0);
        transaction.extend(block);
    }
    transaction.push(u8::try_from(rest.len()).unwrap());
    transaction.extend(rest);
    let contents = [[&head[..], &[0]].concat(), [&head[..], &transaction, &[0]].concat()];
    let framed = contents
        .iter()
        .map(|content| [&u32::try_from(content.len() + 2).unwrap().to_be_bytes()[..], &[8, 1], &content[..]].concat());
    let exception =
        b"\0\0\0\x40\x0a\x01\xac\xed\0\x05sr\0\x1ajava.lang.RuntimeException txId:7 not found in any logical log";
    let cut = contents.iter().map(|content| [&[30], &content[..]].concat());
    framed.chain(cut).chain([exception.to_vec()]).collect()
}

pub fn history() -> Vec<Vec<u8>> {
    let of = |entries: &[u8], log: &[u8]| [&u16::try_from(entries.len()).unwrap().to_be_bytes(), entries, log].concat();
    let own = LOGS.iter().map(|log| of(&log[16..], log));
    LOGS.iter().map(|log| of(SERVED, log)).chain(own).collect()
}

pub fn transaction_log() -> Vec<Vec<u8>> {
    LOGS.iter().map(|log| log.to_vec()).chain([LOGS[0][..16].to_vec(), LOGS[0][..1100].to_vec()]).collect()
}

pub fn source() -> Vec<Vec<u8>> {
    ["single://10.0.0.1", "single://db:9999", "ha://zk", "ha://zk-0.zk:2181,zk-1.zk,zk-2.zk:2183", "ha://[::1]:2181"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}
