//! How a restore stands, and how the cluster looks at the end of a run.

use super::invariants::{MEDDLED, Original};
use super::scenario::RESTORE;
use super::subject::KIND;
use crate::driver::Run;
use crate::fault::Mishap;
use crate::oracle::Budget;
use graph_backup_operator::api::names::RESTORE_UID_ANNOTATION;
use serde_json::Value;

/// The most that a pass asks: members, claims, volumes and Jobs, and a change of each.
pub const BUDGET: Budget = Budget { per_pass: 70, extra: 40_000 };
/// What may be there at the end.
pub const LASTING: [&str; 9] = [
    KIND,
    "GraphBackup",
    "Event",
    "Namespace",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "StorageClass",
    "StatefulSet",
    "Pod",
];

/// The steps in their order.
pub const fn steps() -> [&'static str; 9] {
    ["Check", "Stage", "Stop", "Carry", "Swap", "StartFirst", "StartAll", "CleanUp", "Ended"]
}

/// The step of a restore; nothing before its first status.
pub fn step(restore: &Value) -> &str {
    restore["status"]["step"].as_str().unwrap_or_default()
}

/// Whether its condition says that it has succeeded.
pub fn is_succeeded(restore: &Value) -> bool {
    let conditions = restore["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|it| it["type"] == "Succeeded" && it["status"] == "True"))
}

/// Name of the claim of a member's volume while it is not the member's.
pub fn member_claim(word: &str, ordinal: usize) -> String {
    format!("{RESTORE}-{word}-{ordinal}")
}

/// Phase of the restore at the end of a run, and the reason of its cause; `Gone` without an object.
pub fn ending(run: &Run) -> (String, String) {
    let restore = run.end.iter().find(|object| object["kind"] == KIND);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    restore.map_or_else(
        || ("Gone".to_owned(), String::new()),
        |restore| (text(&restore["status"]["phase"]), text(&restore["status"]["cause"]["reason"])),
    )
}

/// The objects at the end.
struct End<'a> {
    run: &'a Run,
    wrong: Vec<String>,
}

/// What is wrong at the end: the members have all the new volumes or all their own, and nothing is left of the work.
pub fn unfinished(run: &Run, originals: &[Original]) -> Vec<String> {
    let mut end = End { run, wrong: Vec::new() };
    end.judge(originals);
    end.wrong
}

impl End<'_> {
    fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        let found = self.run.end.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.map(|object| &***object)
    }

    fn require(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.wrong.push(what.into());
        }
    }

    /// Whether a claim is left. One that a replica creates after it was paused, and another one has done the work, has
    /// no volume, and gets none.
    fn has(&self, word: &str, ordinal: usize) -> bool {
        let claim = self.find("PersistentVolumeClaim", &member_claim(word, ordinal));
        let paused = self.run.records.iter().any(|record| record.mishap == Some(Mishap::Paused));
        claim.is_some_and(|claim| !paused || claim["status"]["phase"] == "Bound")
    }

    fn judge(&mut self, originals: &[Original]) {
        let (phase, _) = ending(self.run);
        let set = self.find("StatefulSet", "neo4j").unwrap();
        let (replicas, meddled) = (set["spec"]["replicas"].clone(), set["metadata"]["annotations"][MEDDLED] == "true");
        self.require(replicas == originals.len(), format!("{replicas} replicas at the end"));
        let under = |end: &Self, original: &Original| {
            end.find("PersistentVolumeClaim", &original.claim).map(|claim| claim["spec"]["volumeName"].clone())
        };
        let own = originals.iter().filter(|it| under(self, it).is_some_and(|name| name == it.name.as_str())).count();
        self.require(own == 0 || own == originals.len(), format!("{own} members have their own volumes"));
        let restored = own == 0;
        let ended = match phase.as_str() {
            "Succeeded" => restored,
            "RolledBack" | "Failed" => !restored,
            "Gone" => true,
            _ => false,
        };
        self.require(ended, format!("it ends {phase} with {own} own volumes"));
        for (ordinal, original) in originals.iter().enumerate() {
            self.volumes(ordinal, original, (restored, &phase, meddled));
        }
        for kind in ["Job", "Lease"] {
            let left = self.run.end.iter().any(|object| object["kind"] == kind);
            self.require(!left, format!("a {kind} is left"));
        }
        let held = |object: &Value| object["kind"] == KIND && object["metadata"]["finalizers"][0].is_string();
        let is_held = self.run.end.iter().any(|object| held(object));
        self.require(!is_held, "the restore is held");
    }

    fn volumes(&mut self, ordinal: usize, original: &Original, (restored, phase, meddled): (bool, &str, bool)) {
        let claim = self.find("PersistentVolumeClaim", &original.claim);
        let (bound, name) = claim.map_or((false, String::new()), |claim| {
            (claim["status"]["phase"] == "Bound", claim["spec"]["volumeName"].as_str().unwrap_or_default().to_owned())
        });
        self.require(bound, format!("{} is not bound", original.claim));
        let volume = self.find("PersistentVolume", &name).cloned().unwrap_or_default();
        let policy = &volume["spec"]["persistentVolumeReclaimPolicy"];
        self.require(policy == "Delete", format!("the volume of {} has policy {policy}", original.claim));
        let is_marked = volume["metadata"]["annotations"][RESTORE_UID_ANNOTATION].is_string();
        self.require(!is_marked, format!("the volume of {} is still marked", original.claim));
        self.require(!self.has("staged", ordinal), format!("a staged claim {ordinal} is left"));
        self.require(meddled || !self.has("stray", ordinal), format!("a stray claim {ordinal} is left"));
        let kept = self.has("original", ordinal);
        let is_there = self.find("PersistentVolume", &original.name).is_some();
        match (restored, phase) {
            (true, "Succeeded") => self.require(!kept && !is_there, format!("original {ordinal} has not expired")),
            // Its object went before they expired, or after.
            (true, _) => self.require(kept == is_there, format!("claim of original {ordinal}: {kept}")),
            (false, _) => {
                self.require(!kept && is_there, format!("claim of original {ordinal}: {kept}, volume: {is_there}"));
            }
        }
        self.require(!restored || !self.has("replaced", ordinal), format!("a replaced claim {ordinal} is left"));
        if self.has("replaced", ordinal) {
            let claim = self.find("PersistentVolumeClaim", &member_claim("replaced", ordinal)).cloned().unwrap();
            let volume = self.find("PersistentVolume", claim["spec"]["volumeName"].as_str().unwrap_or_default());
            let is_kept = volume.is_some_and(|it| it["spec"]["persistentVolumeReclaimPolicy"] == "Retain");
            self.require(is_kept && claim["status"]["phase"] == "Bound", format!("replaced volume {ordinal} may go"));
        }
    }
}
