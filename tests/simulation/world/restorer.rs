//! The agent of the Jobs of a restore: what it finds on the members' volumes, and what it writes to the new ones.

use super::agent::{failed, task};
use super::controllers::text;
use super::database::Database;
use super::ensemble::Data;
use super::members;
use super::volumes::volume_of;
use crate::apiserver::Store;
use graph_backup_operator::api::names::TASK_LABEL;
use graph_backup_operator::api::{Reason, Seed, StoreId};
use graph_backup_operator::contract::task::{CarryRun, StageRun, SurveyRun};
use graph_backup_operator::contract::verdict::{Carried, Staged, StoreFolder, Surveyed, Verdict};
use serde_json::Value;

/// Last transaction of the point that is restored.
pub const LAST_TRANSACTION: i64 = 40;
/// What was written to it.
pub const IN_POINT: &str = "point";
/// Files of the point, and their bytes.
pub const SIZE: (u64, u64) = (11, 3 << 20);
/// User and group that own the stores of the members.
const NEO4J: u32 = 7474;

/// What the agent of a Job of a restore does; nothing for other Jobs. `store_id` is that of the store that is staged.
pub fn work(store: &Store, database: &Database, job: &Value, store_id: StoreId) -> Option<Verdict> {
    Some(match job["metadata"]["labels"][TASK_LABEL].as_str()? {
        "survey" => survey(store, database, job),
        "stage" => stage(store, database, job, store_id),
        "carry" => carry(store, database, job),
        _ => return None,
    })
}

/// UID of a volume that a Job mounts.
fn volume(store: &Store, job: &Value, name: &str) -> Option<String> {
    let volumes = job["spec"]["template"]["spec"]["volumes"].as_array()?;
    let claim = &volumes.iter().find(|volume| volume["name"] == name)?["persistentVolumeClaim"]["claimName"];
    let volume = volume_of(store, text(&job["metadata"]["namespace"]), claim.as_str()?)?;
    Some(text(&volume["metadata"]["uid"]).to_owned())
}

fn lost() -> Verdict {
    failed(Reason::AgentFailed, "the volume is not there")
}

fn survey(store: &Store, database: &Database, job: &Value) -> Verdict {
    let _: SurveyRun = task(job);
    let Some(source) = volume(store, job, "source") else { return lost() };
    let folder = StoreFolder { uid: NEO4J, gid: NEO4J, folder_mode: 0o775, file_mode: 0o664, bytes: SIZE.1 };
    Verdict::Surveyed(Box::new(Surveyed {
        store: database.on(&source).map(|_| folder),
        outside_files: 1,
        outside_bytes: 10,
        capacity_bytes: 4 << 30,
        free_bytes: 3 << 30,
        root_uid: 0,
        root_gid: NEO4J,
        root_mode: 0o775,
    }))
}

fn stage(store: &Store, database: &Database, job: &Value, store_id: StoreId) -> Verdict {
    let run: StageRun = task(job);
    let Some(staged) = volume(store, job, "staged") else { return lost() };
    let Some(point) = run.point else { return Verdict::Prepared };
    if volume(store, job, "target").is_none() {
        return lost();
    }
    database.put(&staged, Data::new(store_id, LAST_TRANSACTION, &[IN_POINT]));
    Verdict::Staged(Box::new(Staged {
        manifest_digest: point.manifest_digest.unwrap(),
        store_id: point.place.cluster,
        last_transaction: LAST_TRANSACTION,
        files: SIZE.0,
        bytes: SIZE.1,
        seed: Seed::COMPLETE,
        free_bytes: None,
    }))
}

/// The member must not run: its files would change meanwhile.
fn carry(store: &Store, database: &Database, job: &Value) -> Verdict {
    let _: CarryRun = task(job);
    let Some((source, _)) = volume(store, job, "source").zip(volume(store, job, "staged")) else { return lost() };
    if store.list("Pod").any(|pod| members::id_of(pod).is_some()) {
        return failed(Reason::SourceChanged, "a member runs");
    }
    if database.on(&source).is_none() {
        return failed(Reason::StorePathUnfit, "the volume of the member has no store");
    }
    Verdict::Carried(Carried { files: 1, bytes: 10, other_owner_files: 0 })
}
