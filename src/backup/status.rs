//! The status that follows from a step: a pure function of the status before.

use super::decide::is_observable;
use super::decide::wait::{reading, running};
use super::step::{Ending, Step, Waiting};
use super::validate::{ValidBackup, Work};
use crate::api::condition::{self, MASTER_STABLE, READY, RECONCILING, SEEDABLE, STALLED, SUCCEEDED, Truth, VERIFIED};
use crate::api::{
    Attempt, BackupType, Boot, GraphBackup, GraphBackupStatus, Inspection, Phase, Point, Reason, Seed, now_seconds,
};
use crate::contract::task::Mode;
use crate::contract::verdict::Published;
use chrono::{DateTime, Utc};

/// The status after a step was decided. `due` says whether a wait for the reason that stands there already is told
/// anew.
pub fn after(
    backup: &ValidBackup,
    before: &GraphBackupStatus,
    step: &Step,
    due: bool,
    now: DateTime<Utc>,
) -> GraphBackupStatus {
    let mut status = before.clone();
    let mut write = Writer { status: &mut status, generation: backup.generation, now };
    match step {
        Step::Wait(waiting) if !due && waits_for(before, waiting.reason) => {}
        Step::Wait(waiting) => write.of(backup).in_progress(waiting),
        Step::OpenAttempt { attempt, .. } | Step::CopyMember(attempt) | Step::RecreateJob(attempt) => {
            write.of(backup).started(backup, attempt);
        }
        Step::Inspect(inspection) | Step::Adopt(_, inspection) | Step::Unanswered(inspection, _) => {
            write.of(backup).asking(inspection);
        }
        Step::Checked => write.of(backup).checked(),
        Step::MemberMissing(note) => write.of(backup).member_missing(note),
        Step::CloseAttempt(ending) => write.of(backup).attempt_failed(ending),
        Step::StartMember(_) | Step::LeaveReplicas => write.of(backup).restored(),
        Step::Succeed(point) => write.of(backup).succeeded(backup, point),
        Step::Fail(ending) => write.of(backup).failed(ending),
        // Nothing that the object would have to tell, or told by `refused`.
        Step::Object(_)
        | Step::RecreateCheck
        | Step::StopMember(_)
        | Step::BreakLock(_)
        | Step::DeleteJob(_)
        | Step::Remove(_) => {}
    }
    status
}

/// The status of an object that cannot be worked on: `before` is what was recorded of it.
pub fn refused(
    object: &GraphBackup,
    before: &GraphBackupStatus,
    ending: &Ending,
    now: DateTime<Utc>,
) -> GraphBackupStatus {
    let mut status = before.clone();
    let generation = object.metadata.generation;
    status.uid.clone_from(&object.metadata.uid);
    status.observed_generation = generation;
    Writer { status: &mut status, generation: generation.unwrap_or_default(), now }.failed(ending);
    status
}

/// Whether the object says already that it waits for this reason.
pub fn waits_for(status: &GraphBackupStatus, reason: Reason) -> bool {
    let said = status.conditions.iter().find(|condition| condition.type_ == RECONCILING);
    said.is_some_and(|said| said.status == Truth::True.as_str() && said.reason == reason.as_str())
}

struct Writer<'a> {
    status: &'a mut GraphBackupStatus,
    generation: i64,
    now: DateTime<Utc>,
}

impl Writer<'_> {
    /// Writes whose status it is, and when the work began.
    fn of(&mut self, backup: &ValidBackup) -> &mut Self {
        self.status.uid = Some(backup.owner.uid.clone());
        self.status.observed_generation = Some(backup.generation);
        self.status.start_time.get_or_insert(now_seconds(self.now));
        self
    }

    fn set(&mut self, kind: &str, truth: Truth, reason: Reason, message: &str) {
        condition::set(&mut self.status.conditions, kind, truth, reason, message, Some(self.generation), self.now);
    }

    /// Sets a condition only when it says nothing yet: every condition is there from the first pass.
    fn introduce(&mut self, kind: &str) {
        if condition::get(&self.status.conditions, kind).is_none() {
            self.set(kind, Truth::Unknown, Reason::NotYetKnown, "");
        }
    }

    fn in_progress(&mut self, waiting: &Waiting) {
        let open = self.status.attempts.last().is_some_and(|attempt| attempt.completion_time.is_none());
        self.status.phase = Some(if open { Phase::Running } else { Phase::Pending });
        self.set(READY, Truth::False, waiting.reason, &waiting.message);
        self.set(RECONCILING, Truth::True, waiting.reason, &waiting.message);
        self.set(STALLED, Truth::False, waiting.reason, "");
        self.set(SUCCEEDED, Truth::Unknown, waiting.reason, &waiting.message);
        self.introduce(MASTER_STABLE);
        self.introduce(VERIFIED);
        self.introduce(SEEDABLE);
    }

    fn started(&mut self, backup: &ValidBackup, attempt: &Attempt) {
        match self.status.attempts.last_mut().filter(|last| last.number == attempt.number) {
            Some(last) => last.clone_from(attempt),
            None => self.status.attempts.push(attempt.clone()),
        }
        self.status.master = Some(attempt.mastership.endpoint().to_string());
        self.status.directory = Some(backup.place(attempt.store_id).to_string());
        let waiting = running(self.status);
        self.in_progress(&waiting);
    }

    fn restored(&mut self) {
        let now = now_seconds(self.now);
        if let Some(stopped) = self.status.attempts.last_mut().and_then(|attempt| attempt.stopped.as_mut()) {
            stopped.restored_time.get_or_insert(now);
        }
        if self.status.attempts.last().is_some_and(|attempt| attempt.completion_time.is_none()) {
            let waiting = running(self.status);
            self.in_progress(&waiting);
        }
    }

    /// The question to the volume as it stands now: of the open attempt, or of the object that adopts a point.
    fn asking(&mut self, question: &Inspection) {
        let waiting = if let Some(attempt) = self.status.attempts.last_mut() {
            attempt.inspection = Some(question.clone());
            running(self.status)
        } else {
            self.status.adoption = Some(question.clone());
            reading(question)
        };
        self.in_progress(&waiting);
    }

    fn member_missing(&mut self, note: &str) {
        if let Some(stopped) = self.status.attempts.last_mut().and_then(|attempt| attempt.stopped.as_mut()) {
            stopped.missing = Some(condition::shorten(note, condition::MESSAGE_BYTES_MAX));
        }
    }

    fn checked(&mut self) {
        let now = now_seconds(self.now);
        if let Some(stopped) = self.status.attempts.last_mut().and_then(|attempt| attempt.stopped.as_mut()) {
            stopped.checked_time.get_or_insert(now);
        }
    }

    fn close(&mut self, ending: &Ending) {
        let ended = now_seconds(self.now);
        if let Some(attempt) = self.status.attempts.last_mut().filter(|attempt| attempt.completion_time.is_none()) {
            attempt.completion_time = Some(ended);
            attempt.reason = Some(ending.reason.to_string());
            attempt.message = Some(condition::shorten(&ending.message, condition::MESSAGE_BYTES_MAX));
            attempt.pod_uid.clone_from(&ending.pod_uid);
        }
    }

    fn attempt_failed(&mut self, ending: &Ending) {
        self.close(ending);
        let message = format!("attempt {} failed: {}", self.status.attempts.len(), ending.message);
        self.judge_master(ending.reason, &ending.message);
        self.in_progress(&Waiting { reason: Reason::RetryScheduled, message, look_again: std::time::Duration::ZERO });
    }

    fn succeeded(&mut self, backup: &ValidBackup, point: &Published) {
        let ended = now_seconds(self.now);
        self.status.completion_time = Some(ended);
        if let Some(attempt) = self.status.attempts.last_mut() {
            attempt.completion_time.get_or_insert(ended);
        }
        self.status.phase = Some(Phase::Succeeded);
        self.status.master = Some(point.mastership_after.endpoint().to_string());
        self.status.directory = Some(backup.place(point.store_id).to_string());
        self.status.size = Some(human_size(point.bytes));
        self.status.free = point.free_bytes.map(human_size);
        self.status.point = Some(Point {
            backup_type: match point.mode {
                Mode::Full => BackupType::Full,
                Mode::Incremental => BackupType::Incremental,
            },
            parent: point.parent.clone(),
            depth: point.depth,
            shared_bytes: i64::try_from(point.shared_bytes).unwrap_or(i64::MAX),
            free_bytes: point.free_bytes.map(|free| i64::try_from(free).unwrap_or(i64::MAX)),
            copied_by: point.copied_by,
            boot: point.boot,
            seed: point.seed.clone(),
            manifest_digest: point.manifest_digest.clone(),
            store_id: point.store_id,
            last_transaction: point.last_transaction,
            files: i64::try_from(point.files).unwrap_or(i64::MAX),
            bytes: i64::try_from(point.bytes).unwrap_or(i64::MAX),
            data_from: point.data_from,
            data_to: point.data_to,
            attempt: point.attempt,
            owner_uid: Some(point.owner_uid.clone()).filter(|uid| *uid != backup.owner.uid),
        });
        let (reason, message) = success(point, &backup.owner.uid);
        let message = with_member(message, self.status);
        self.set(READY, Truth::True, reason, &message);
        self.set(RECONCILING, Truth::False, reason, "");
        self.set(STALLED, Truth::False, reason, "");
        self.set(SUCCEEDED, Truth::True, reason, &message);
        if is_observable(&point.mastership_after) {
            self.set(
                MASTER_STABLE,
                Truth::True,
                Reason::MasterUnchanged,
                "the master was the same right before and right after the tool",
            );
        } else {
            let why = match backup.work {
                Work::Online | Work::Adopt(_) => {
                    "single:// names a member: use ha:// to see whether the master changed"
                }
                Work::Cold(_) => "the copy is of a stopped member, so it does not matter which member was master",
            };
            self.set(MASTER_STABLE, Truth::Unknown, Reason::NotObservable, why);
        }
        let (truth, reason, message) = verified(point);
        self.set(VERIFIED, truth, reason, &message);
        let (truth, reason, message) = seedable(point);
        self.set(SEEDABLE, truth, reason, &message);
    }

    fn failed(&mut self, ending: &Ending) {
        self.close(ending);
        let ending = &Ending { message: with_member(ending.message.clone(), self.status), ..ending.clone() };
        self.status.completion_time = Some(now_seconds(self.now));
        self.status.phase = Some(Phase::Failed);
        let (reason, message) = (ending.reason, ending.message.as_str());
        self.judge_master(reason, message);
        self.set(READY, Truth::False, reason, message);
        self.set(RECONCILING, Truth::False, reason, "");
        self.set(STALLED, Truth::True, reason, message);
        self.set(SUCCEEDED, Truth::False, reason, message);
        self.introduce(MASTER_STABLE);
        self.introduce(SEEDABLE);
        match reason {
            Reason::VerificationFailed | Reason::ConsistencyFailed | Reason::BootFailed => {
                self.set(VERIFIED, Truth::False, reason, message);
            }
            _ => self.introduce(VERIFIED),
        }
    }

    fn judge_master(&mut self, reason: Reason, message: &str) {
        if reason == Reason::MasterChanged {
            self.set(MASTER_STABLE, Truth::False, reason, message);
        }
    }
}

fn verified(point: &Published) -> (Truth, Reason, String) {
    const READ_BACK: &str = "every file was read back and agrees with the manifest";
    match (&point.boot, point.verified) {
        (Some(Boot { seconds, nodes, relationships }), true) => {
            let told = |count: &Option<i64>| count.map_or("an unknown number of".to_owned(), |count| count.to_string());
            let (nodes, relationships) = (told(nodes), told(relationships));
            let found = format!("{nodes} nodes and {relationships} relationships");
            (
                Truth::True,
                Reason::StoreOpened,
                format!("the engine opened a copy in {seconds} s and found {found}; {READ_BACK}"),
            )
        }
        (None, true) => (Truth::True, Reason::ManifestVerified, READ_BACK.to_owned()),
        (_, false) => (Truth::Unknown, Reason::NotRequested, "spec.verification is None".to_owned()),
    }
}

fn seedable(point: &Published) -> (Truth, Reason, String) {
    let not_told = || {
        (
            Truth::Unknown,
            Reason::NotYetKnown,
            "the agent that made the point did not check \
        this"
                .to_owned(),
        )
    };
    point.seed.as_ref().map_or_else(not_told, Seed::condition)
}

/// A message, and what is to be said of the member that was stopped for a cold copy and is not back.
pub fn with_member(message: String, status: &GraphBackupStatus) -> String {
    let stopped = status.attempts.last().and_then(|attempt| attempt.stopped.as_ref());
    match stopped.and_then(|stopped| stopped.missing.as_ref()) {
        Some(note) => format!("{message}; {note}"),
        None => message,
    }
}

/// With which reason the object with this UID succeeded, and what there is to say.
pub fn success(point: &Published, uid: &str) -> (Reason, String) {
    let size = human_size(point.bytes);
    let Published { files, last_transaction, manifest_digest, .. } = point;
    let mut tail = format!("{size} in {files} files up to transaction {last_transaction}, manifest {manifest_digest}");
    if let Some(earlier) = &point.earlier {
        let more = format!("; an earlier object of this name made {earlier}: a GraphBackup with spec.adopt takes it");
        tail.push_str(&more);
    }
    if point.owner_uid != uid {
        return (Reason::Adopted, format!("{tail}; made for the object with UID {}", point.owner_uid));
    }
    match (&point.fell_back, &point.parent) {
        (Some(why), _) => (
            Reason::FellBackToFull,
            format!(
                "{tail}; the whole store was copied instead of an incremental backup: {}: {}",
                why.reason, why.message
            ),
        ),
        (None, Some(parent)) => (
            Reason::Succeeded,
            format!(
                "{tail}; {} transactions on top of {}, {} shared with it",
                last_transaction.saturating_sub(parent.last_transaction),
                parent.name,
                human_size(point.shared_bytes)
            ),
        ),
        (None, None) => (Reason::Succeeded, tail),
    }
}

/// A size for people: three significant digits at most, binary units.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["Ki", "Mi", "Gi", "Ti", "Pi"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths = (tenths + 512) / 1024;
        unit = next;
    }
    if tenths < 1000 { format!("{}.{}{unit}", tenths / 10, tenths % 10) } else { format!("{}{unit}", tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in
            [(0, "0"), (1023, "1023"), (1024, "1.0Ki"), (1536, "1.5Ki"), (300 << 20, "300Mi"), (u64::MAX, "16384Pi")]
        {
            assert_eq!(human_size(bytes), text);
        }
    }
}
