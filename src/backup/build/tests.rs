use super::*;
use crate::backup::testing::{STORE, UID};
use crate::contract::task::RUN_VARIABLE;
use serde_json::{Value, json};

fn backup(cold: bool) -> ValidBackup {
    let backup = crate::backup::testing::backup().spec("deadlines", json!({"run": "2h", "podStart": "5m"}));
    if cold { backup.cold().valid() } else { backup.valid() }
}

fn attempt(cold: bool) -> Attempt {
    let mut attempt = crate::backup::testing::backup().attempted().object().status.unwrap().attempts.remove(0);
    if cold {
        let stopped = json!({"pod": "neo4j-2", "memberId": 3, "statefulSetUid": "u", "generation": 1, "replicas": 3});
        attempt.stopped = serde_json::from_value(stopped).unwrap();
    }
    attempt
}

/// One of every kind, by what it does.
fn jobs() -> Vec<(&'static str, Value)> {
    let now = "2026-11-24T06:00:00Z".parse().unwrap();
    let status = GraphBackupStatus { attempts: vec![attempt(false)], ..GraphBackupStatus::default() };
    let made = |cold, task| backup_job(&backup(cold), &status, &attempt(cold), task, "operator:1", now).unwrap();
    let all = [
        ("backup", made(false, Task::Backup)),
        ("cold", made(true, Task::Backup)),
        ("check", made(true, Task::Check)),
        ("inspect", inspect_job(&backup(false), &attempt(false), "nightly-1a2b3-1i", "operator:1").unwrap()),
        ("adopt", adopt_job(&backup(false), STORE, "nightly-1a2b3-a", "operator:1").unwrap()),
        ("prune", prune_job(&backup(false), &status, "operator:1").unwrap()),
    ];
    all.into_iter().map(|(kind, job)| (kind, serde_json::to_value(job).unwrap())).collect()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

#[test]
fn every_job_runs_once_ends_in_time_and_goes() {
    let seconds =
        [("backup", 7260), ("cold", 7260), ("check", 360), ("inspect", 7500), ("adopt", 7500), ("prune", 3600)];
    for (kind, job) in jobs() {
        let spec = &job["spec"];
        assert_eq!((&spec["backoffLimit"], &spec["podReplacementPolicy"]), (&json!(0), &json!("Failed")), "{kind}");
        assert_eq!((&spec["completions"], &spec["parallelism"]), (&json!(1), &json!(1)), "{kind}");
        assert_eq!(spec["ttlSecondsAfterFinished"], 3600, "{kind}");
        let wanted = seconds.iter().find(|(of, _)| *of == kind).unwrap().1;
        assert_eq!(spec["activeDeadlineSeconds"], wanted, "{kind}");
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never", "{kind}");
        assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], UID, "{kind}");
    }
}

#[test]
fn every_container_is_restricted() {
    for (kind, job) in jobs() {
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false, "{kind}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{kind}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{kind}");
        for container in [list(&pod["initContainers"]), list(&pod["containers"])].concat() {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{kind}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{kind}");
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{kind}");
        }
    }
}

/// Which claims a Job may write: a member's volume never, the target only where something is made or removed.
#[test]
fn what_is_only_read_is_mounted_read_only() {
    for (kind, job) in jobs() {
        let pod = &job["spec"]["template"]["spec"];
        let mounts = |volume: &str| -> Vec<Value> {
            let containers = [list(&pod["initContainers"]), list(&pod["containers"])].concat();
            let mounts = containers.iter().flat_map(|container| list(&container["volumeMounts"]));
            mounts.filter(|mount| mount["name"] == volume).collect()
        };
        let claims: Vec<Value> =
            list(&pod["volumes"]).into_iter().filter(|volume| !volume["persistentVolumeClaim"].is_null()).collect();
        let member = claims.iter().find(|volume| volume["persistentVolumeClaim"]["claimName"] == "data-neo4j-2");
        assert_eq!(member.is_some(), matches!(kind, "cold" | "check"), "{kind}");
        assert_eq!(claims.len(), 1 + usize::from(member.is_some()), "{kind}");
        if let Some(member) = member {
            assert_eq!(member["persistentVolumeClaim"]["readOnly"], true, "{kind}");
            let mounted = mounts(member["name"].as_str().unwrap());
            assert!(mounted.len() == 1 && mounted[0]["readOnly"] == true, "{kind}: {mounted:?}");
        }
        let target = mounts("target");
        assert!(target.len() == 1 && (target[0]["readOnly"] == true) == (kind == "adopt"), "{kind}: {target:?}");
    }
}

#[test]
fn the_agent_ends_before_its_job() {
    for (kind, job) in jobs().into_iter().filter(|(kind, _)| matches!(*kind, "backup" | "cold")) {
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        let run = list(&container["env"]).into_iter().find(|variable| variable["name"] == RUN_VARIABLE).unwrap();
        let run: BackupRun = serde_json::from_str(&run["value"].as_str().unwrap().replace("$$", "$")).unwrap();
        assert_eq!(run.deadline_seconds, 7200, "{kind}");
        assert!(job["spec"]["activeDeadlineSeconds"].as_u64().unwrap() > run.deadline_seconds, "{kind}");
    }
}
