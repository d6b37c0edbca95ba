//! Names and labels of everything that belongs to one of our objects. They are deterministic, so nothing can be created
//! twice.

use super::StoreId;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// Label of every object that the operator creates.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "graph-backup-operator";
/// Label that holds the name of the `GraphBackup` that a Job or pod belongs to.
pub const BACKUP_LABEL: &str = "graphbackup.dev/backup";
/// Label that holds the UID of that `GraphBackup`.
pub const BACKUP_UID_LABEL: &str = "graphbackup.dev/backup-uid";
/// Label that holds the number of the attempt.
pub const ATTEMPT_LABEL: &str = "graphbackup.dev/attempt";
/// Label that says what the pod does: `backup`, `check`, `inspect` or `prune`.
pub const TASK_LABEL: &str = "graphbackup.dev/task";

/// Label that holds the name of the `BackupSchedule` that took a backup.
pub const SCHEDULE_LABEL: &str = "graphbackup.dev/schedule";
/// Label that holds the UID of that `BackupSchedule`.
pub const SCHEDULE_UID_LABEL: &str = "graphbackup.dev/schedule-uid";
/// Annotation of a backup that a schedule took: its slot, in RFC 3339, UTC.
pub const SLOT_ANNOTATION: &str = "graphbackup.dev/slot";
/// Annotation of a backup that retention removes with its files, whatever its `deletionPolicy` says. It counts only with
/// the value of [`SCHEDULE_UID_LABEL`].
pub const PRUNE_ANNOTATION: &str = "graphbackup.dev/prune";
/// Annotation of a backup that retention never removes, with any value.
pub const PIN_ANNOTATION: &str = "graphbackup.dev/pin";
/// Annotation of a schedule: each new value asks for one backup at once.
pub const BACKUP_NOW_ANNOTATION: &str = "graphbackup.dev/backup-now";
/// Annotation of a schedule: the retention plan that a person approves.
pub const APPROVE_PLAN_ANNOTATION: &str = "graphbackup.dev/approve-plan";
/// Annotation of a schedule: UIDs of earlier schedules, separated by commas, whose backups are its own from now on.
pub const TAKE_OVER_ANNOTATION: &str = "graphbackup.dev/take-over";

/// Annotation of a restore, with any value while it runs, and with the hash of its plan afterwards: put the original
/// volumes back.
pub const ROLL_BACK_ANNOTATION: &str = "graphbackup.dev/roll-back";
/// Label that holds the name of the `Restore` that a Job, a pod or a claim belongs to.
pub const RESTORE_LABEL: &str = "graphbackup.dev/restore";
/// Label that holds the UID of that `Restore`.
pub const RESTORE_UID_LABEL: &str = "graphbackup.dev/restore-uid";
/// Annotation of a volume of a restore: `<namespace>/<name>` of the `Restore`.
pub const RESTORE_ANNOTATION: &str = "graphbackup.dev/restore";
/// Annotation of a volume or a claim of a restore: UID of the `Restore`.
pub const RESTORE_UID_ANNOTATION: &str = "graphbackup.dev/restore-uid";
/// Annotation of a volume or a claim of a restore: `original`, `staged` or `stray`.
pub const VOLUME_ROLE_ANNOTATION: &str = "graphbackup.dev/volume-role";
/// Annotation of a volume or a claim of a restore: the claim of the member whose volume it is or was.
pub const ORIGINAL_CLAIM_ANNOTATION: &str = "graphbackup.dev/original-claim";
/// Annotation of a claim of a restore, set when its volume has been pointed at it: the volume controller looks at a
/// claim that has changed at once, and at one that waits every 15 seconds.
pub const POINTED_AT_ANNOTATION: &str = "graphbackup.dev/pointed-at";

/// First eight characters of a UID, which distinguish an object from an earlier one of the same name.
fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}

/// Name of an attempt's Job: at most 63 characters for names of at most 52.
pub fn backup_job(name: &str, uid: &str, attempt: u32) -> String {
    // 52 + 1 + 5 + 1 + 2 = 61: five characters of the UID are enough beside the ownership check.
    format!("{name}-{}-{attempt}", uid.get(..5).unwrap_or(uid))
}

/// Name of a Job that inspects the volume to find out what became of an attempt. `number` counts the tries, 1 to 9.
pub fn inspect_job(name: &str, uid: &str, attempt: u32, number: u32) -> String {
    format!("{}i{}", backup_job(name, uid, attempt), of_try(number))
}

/// The first try has no number.
fn of_try(number: u32) -> String {
    if number > 1 { number.to_string() } else { String::new() }
}

/// Name of the Job that checks whether a cold copy can be made.
pub fn check_job(name: &str, uid: &str, attempt: u32) -> String {
    format!("{}c", backup_job(name, uid, attempt))
}

/// Name of a Job that reads back a point that is being adopted. `number` counts the tries, 1 to 9.
pub fn adopt_job(name: &str, uid: &str, number: u32) -> String {
    format!("{name}-{}-a{}", uid.get(..5).unwrap_or(uid), of_try(number))
}

/// Name of the Lease that one writer of a cluster holds. The store id takes 33 characters of a DNS label.
pub fn cluster_lock(store: StoreId) -> String {
    format!("graphbackup-{store}")
}

/// Name of the Job that removes the files of a deleted object.
pub fn prune_job(name: &str, uid: &str) -> String {
    format!("{name}-{}-p", uid.get(..5).unwrap_or(uid))
}

/// Folder name of a `GraphBackup`'s point: readable, unique, and sorted by time of creation.
pub fn point(name: &str, uid: &str, created: DateTime<Utc>) -> String {
    format!("{}-{name}-{}", created.format("%Y%m%dT%H%M%SZ"), short(uid))
}

/// Name of the Job of a restore drill: at most 58 characters for names of at most 38.
pub fn drill_job(schedule: &str, uid: &str, slot: DateTime<Utc>) -> String {
    format!("{schedule}-{}-d{}", uid.get(..5).unwrap_or(uid), slot.format("%Y%m%d%H%M"))
}

/// Name of a Job of a restore for the member with this ordinal: at most 63 characters for names of at most 48, and for
/// longer ones the name is cut. `letter` tells the tasks apart.
pub fn restore_job(restore: &str, uid: &str, letter: char, ordinal: i32) -> String {
    format!("{}-{}-{letter}{ordinal}", restore.get(..45).unwrap_or(restore), short(uid))
}

/// Name of the backup that a schedule takes for a slot: at most 52 characters for names of at most 38. The suffix has
/// always the same length, so two schedules never derive one name.
pub fn slot_backup(schedule: &str, slot: DateTime<Utc>) -> String {
    format!("{schedule}-{}", slot.format("%Y%m%d-%H%M"))
}

/// Name of the backup that a value of [`BACKUP_NOW_ANNOTATION`] asks for. The suffix is as long as that of a slot, and
/// none of a slot begins with a letter.
pub fn requested_backup(schedule: &str, token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    let start = digest.iter().take(6).fold(0_u64, |start, byte| start << 8 | u64::from(*byte));
    format!("{schedule}-n{start:012x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "1a2b3c4d-0000-4000-8000-000000000000";

    #[test]
    fn names_fit_their_limits() {
        let longest = "n".repeat(52);
        assert!(inspect_job(&longest, UID, 11, 9).len() <= 63);
        assert!(prune_job(&longest, UID).len() <= 63);
        let created = DateTime::from_timestamp(1_795_500_000, 0).unwrap();
        assert_eq!(point("nightly", UID, created), "20261124T060000Z-nightly-1a2b3c4d");
    }

    #[test]
    fn two_schedules_never_derive_one_name() {
        let slot = DateTime::from_timestamp(1_795_500_000, 0).unwrap();
        assert_eq!(slot_backup("nightly", slot), "nightly-20261124-0600");
        assert_eq!(slot_backup(&"n".repeat(38), slot).len(), 52);
        assert_eq!(requested_backup("a", "token").len(), slot_backup("a", slot).len());
        assert_ne!(requested_backup("a", "one"), requested_backup("a", "two"));
        // The suffixes differ in their first character.
        assert!(requested_backup("a", "one").starts_with("a-n"));
    }

    #[test]
    fn a_recreated_object_gets_other_names() {
        let other = "9a2b3c4d-0000-4000-8000-000000000000";
        assert_ne!(backup_job("b", UID, 1), backup_job("b", other, 1));
        assert_ne!(backup_job("b", UID, 1), backup_job("b", UID, 2));
        assert_ne!(backup_job("b", UID, 1), inspect_job("b", UID, 1, 1));
    }
}
