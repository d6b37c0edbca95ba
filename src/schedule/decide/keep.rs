//! Which points and failed backups go, one at a time. Pure.

use crate::api::condition::{self, RETENTION_APPLIED, Truth};
use crate::api::{Approved, BackupScheduleStatus, Keeps, Reason, Removes, RetentionStatus};
use crate::controller::pace::since;
use crate::schedule::children::{Child, ChildState, Whose};
use crate::schedule::retention::{Candidate, Plan, Standing, Why, plan};
use crate::schedule::step::Note;
use crate::schedule::validate::{Rules, ValidSchedule};
use crate::schedule::world::World;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::time::Duration;

/// Points that the status lists, of those that stay and of those that go.
const LISTED: usize = 50;

/// Points of a deleted schedule that are removed at the same time: each has a Job that removes its files, and only one
/// Job has the lock of the target's folder.
const AT_ONCE: usize = 4;

/// From such a difference on it is told that the operator's clock is ahead of the API server's.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(1);

/// A backup that nothing keeps.
pub enum Removal {
    /// A failed one.
    Forget(Child),
    /// A recovery point.
    Prune(Child),
    /// Only the mark that an earlier pass has left on a point that stays.
    Unmark(Child),
}

/// Whether the last removal was refused, as far as it is told.
pub fn is_refused(status: &BackupScheduleStatus) -> bool {
    condition::reason(&status.conditions, RETENTION_APPLIED) == Some(Reason::RemovalRefused.as_str())
}

/// Tells what stays and what goes, and gives the next one to remove. Only one is removed at a time: each may have a Job
/// that removes its files.
pub fn retain(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> Option<Removal> {
    let going = world.children.iter().find(|child| child.whose == Whose::Ours && child.is_deleted);
    let Some(rules) = &schedule.retention else {
        status.retention = None;
        let removal = unmarked(world, |_| false).or_else(|| forgotten(schedule, world).filter(|_| going.is_none()));
        let told = (Truth::Unknown, Reason::NotRequested, "spec.retention is not set: every point stays".to_owned());
        set(schedule, status, told, removal.is_some(), now);
        return removal;
    };
    let candidates = candidates(schedule, status, world);
    let plan = plan(&rules.policy, &schedule.zone, &candidates, world.server_time.map_or(now, |time| time.min(now)));
    let going = going.map(|child| child.name.as_str());
    let is_ahead = world.server_time.is_some_and(|time| now - time > CLOCKS_APART);
    let planned = Planned { rules, plan: &plan, candidates: &candidates, going, is_ahead };
    let (may_run, told) = tell(schedule, status, notes, &planned);
    let goes = |uid: &str| may_run && plan.prune.iter().any(|pruned| pruned.uid == uid);
    let removal = unmarked(world, goes).or_else(|| {
        // The oldest first: after a crash the newest are still there.
        let pruned = plan.prune.last().filter(|_| may_run);
        let pruned = pruned.and_then(|pruned| world.children.iter().find(|child| child.uid == pruned.uid));
        let next = forgotten(schedule, world).or_else(|| Some(Removal::Prune(pruned?.clone())));
        next.filter(|_| going.is_none())
    });
    set(schedule, status, told, removal.is_some(), now);
    removal
}

/// Sets the condition. That a removal was refused is told until one succeeds, or none is left.
fn set(schedule: &ValidSchedule, status: &mut BackupScheduleStatus, told: Told, is_removing: bool, now: DateTime<Utc>) {
    let (truth, reason, message) = told;
    if !(is_removing && is_refused(status) && reason != Reason::ApprovalRequired) {
        super::facts::set(status, schedule, RETENTION_APPLIED, (truth, reason, &message), now);
    }
}

/// A point that stays and has a mark, as after a crash between the mark and the deletion, and a change of the rules:
/// whoever deletes its object later would remove its files.
fn unmarked(world: &World<'_>, goes: impl Fn(&str) -> bool) -> Option<Removal> {
    let of_name = |child: &&Child| matches!(child.whose, Whose::Ours | Whose::Earlier);
    let is_marked = |child: &&Child| child.point().is_some_and(|point| point.is_marked) && !goes(&child.uid);
    world.children.iter().filter(of_name).find(is_marked).cloned().map(Removal::Unmark)
}

/// Whether a point would go for its age.
pub fn has_expired(
    schedule: &ValidSchedule,
    status: &BackupScheduleStatus,
    world: &World<'_>,
    now: DateTime<Utc>,
) -> bool {
    let Some(rules) = &schedule.retention else { return false };
    let is_old = |child: &Child| {
        let age = child.good().filter(|_| child.whose == Whose::Ours).map(|point| since(point.data_from, now));
        age > rules.policy.max_age
    };
    if rules.policy.max_age.is_none() || !world.children.iter().any(is_old) {
        return false;
    }
    let plan = plan(&rules.policy, &schedule.zone, &candidates(schedule, status, world), now);
    plan.prune.iter().any(|pruned| pruned.why == Why::OlderThanMaxAge)
}

/// Failed backups beyond their limit have their own turn, and take no place of a point.
fn forgotten(schedule: &ValidSchedule, world: &World<'_>) -> Option<Removal> {
    let mut failed: Vec<(&Child, DateTime<Utc>)> = world
        .children
        .iter()
        .filter(|child| child.whose == Whose::Ours && !child.is_deleted)
        .filter_map(|child| match child.state {
            // A foreign status tells where the point of another object is.
            ChildState::Failed { time, is_pinned: false, ref reason } if *reason != Reason::ForeignStatus.as_str() => {
                Some((child, time))
            }
            ChildState::Failed { .. } | ChildState::Working { .. } | ChildState::Good(_) => None,
        })
        .collect();
    failed.sort_by(|(a, a_time), (b, b_time)| (b_time, &b.name).cmp(&(a_time, &a.name)));
    failed.get(schedule.failed_history_limit..)?.last().map(|(child, _)| Removal::Forget((*child).clone()))
}

/// The points on the schedule's target, as retention sees them.
fn candidates(schedule: &ValidSchedule, status: &BackupScheduleStatus, world: &World<'_>) -> Vec<Candidate> {
    let tried = status.drill.as_ref().and_then(|drill| drill.running.as_ref()).map(|running| running.uid.as_str());
    let users = world.children.iter().filter_map(|child| match &child.state {
        ChildState::Working { parent: Some(parent), .. } => Some((parent.as_str(), child)),
        ChildState::Working { parent: None, .. } | ChildState::Good(_) | ChildState::Failed { .. } => None,
    });
    let users: HashMap<&str, &Child> = users.collect();
    let standing = |child: &Child| {
        let point = child.point()?;
        Some(match child.whose {
            _ if point.is_adopted => Standing::Adopted,
            Whose::Ours if point.is_broken => Standing::Broken,
            Whose::Ours if point.is_pinned => Standing::Pinned,
            Whose::Ours if tried == Some(&child.uid) => Standing::InUse("a restore drill".to_owned()),
            Whose::Ours => match users.get(child.uid.as_str()) {
                Some(user) => Standing::InUse(user.name.clone()),
                None => Standing::Own,
            },
            Whose::Earlier => Standing::OtherSchedule(format!("{}, before it was created anew", schedule.owner.name)),
            Whose::OtherSchedule => Standing::OtherSchedule(child.schedule.clone().unwrap_or_default()),
            Whose::Manual => Standing::Manual,
        })
    };
    let candidate = |child: &Child| {
        let standing = standing(child)?;
        let data_from = child.point()?.data_from;
        Some(Candidate { name: child.name.clone(), uid: child.uid.clone(), data_from, standing })
    };
    world.children.iter().filter_map(candidate).collect()
}

/// What a plan is judged by.
struct Planned<'a> {
    rules: &'a Rules,
    plan: &'a Plan,
    candidates: &'a [Candidate],
    /// A backup that is being deleted.
    going: Option<&'a str>,
    /// Whether the API server's time counts for `maxAge`, because the operator's is ahead of it.
    is_ahead: bool,
}

/// What a condition says.
type Told = (Truth, Reason, String);

/// Shows the plan, and says whether it may run.
fn tell(
    schedule: &ValidSchedule,
    status: &mut BackupScheduleStatus,
    notes: &mut Vec<Note>,
    planned: &Planned<'_>,
) -> (bool, Told) {
    let Planned { rules, plan, .. } = *planned;
    let known = status.retention.take().unwrap_or_default();
    let (digest, removing) = (plan.digest(), plan.prune.len());
    let approved = approved(schedule, known.approved.as_ref(), planned, &digest);
    let by_uid: HashMap<&str, &Candidate> =
        planned.candidates.iter().map(|candidate| (candidate.uid.as_str(), candidate)).collect();
    let covered = |uid: &str| {
        let point = by_uid.get(uid);
        point.zip(approved.as_ref()).is_some_and(|(point, approved)| point.data_from <= approved.until)
    };
    let open = plan.prune.iter().filter(|pruned| !covered(&pruned.uid)).count();
    let may_run = open <= rules.approve_above;
    let was = condition::reason(&status.conditions, RETENTION_APPLIED) == Some(Reason::ApprovalRequired.as_str());
    let is_told = was && known.plan.as_deref() == Some(&digest);
    status.retention = Some(shown(planned, approved.filter(|_| removing > 0)));
    let told = match (removing, may_run, planned.going) {
        (0, ..) => (Truth::True, Reason::RetentionApplied, "every point is kept by a rule".to_owned()),
        (_, true, Some(going)) => (
            Truth::False,
            Reason::RemovingPoints,
            format!("{removing} points go after {going}, which is being deleted"),
        ),
        (_, true, None) => (Truth::False, Reason::RemovingPoints, format!("{removing} points are being removed")),
        (_, false, _) => {
            let text = format!(
                "{open} points would be removed at once, and approveAbove is {}: look at status.retention.removes, and \
                 set the annotation graphbackup.dev/approve-plan to {digest}",
                rules.approve_above
            );
            if !is_told {
                notes.push(Note::new(Reason::ApprovalRequired, text.clone(), format!("plan.{digest}")));
            }
            (Truth::False, Reason::ApprovalRequired, text)
        }
    };
    let (truth, reason, mut message) = told;
    if planned.is_ahead {
        message.push_str("; the operator's clock is ahead of the API server's, which counts for maxAge");
    }
    (may_run, (truth, reason, message))
}

/// What a person has approved of the rules as they are now.
fn approved(
    schedule: &ValidSchedule,
    known: Option<&Approved>,
    planned: &Planned<'_>,
    digest: &str,
) -> Option<Approved> {
    if planned.rules.approved.as_deref() != Some(digest) {
        return known.filter(|known| known.generation == schedule.generation).cloned();
    }
    let removed = planned.candidates.iter().filter(|point| planned.plan.prune.iter().any(|p| p.uid == point.uid));
    Some(Approved { generation: schedule.generation, until: removed.map(|point| point.data_from).max()? })
}

/// The plan as the status shows it.
fn shown(planned: &Planned<'_>, approved: Option<Approved>) -> RetentionStatus {
    let Planned { plan, candidates, .. } = *planned;
    let count = |points: usize| u32::try_from(points).unwrap_or(u32::MAX);
    let by_name: HashMap<&str, &Standing> =
        candidates.iter().map(|candidate| (candidate.name.as_str(), &candidate.standing)).collect();
    let is_own = |name: &str| {
        let standing = by_name.get(name).copied();
        matches!(standing, Some(Standing::Own | Standing::Pinned | Standing::InUse(_) | Standing::Broken))
    };
    let (own, others): (Vec<_>, Vec<_>) = plan.kept.iter().partition(|kept| is_own(&kept.name));
    let keeps = own.iter().chain(&others).take(LISTED);
    RetentionStatus {
        keeps: keeps
            .map(|kept| Keeps { name: kept.name.clone(), rules: kept.rules.iter().map(ToString::to_string).collect() })
            .collect(),
        kept: count(own.len()),
        others: count(others.len()),
        removes: plan
            .prune
            .iter()
            .take(LISTED)
            .map(|pruned| Removes { name: pruned.name.clone(), why: pruned.why.to_string() })
            .collect(),
        removing: count(plan.prune.len()),
        approved,
        plan: (!plan.prune.is_empty()).then(|| plan.digest()),
    }
}

/// When the next point gets too old.
pub fn next_expiry(schedule: &ValidSchedule, children: &[Child], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let max_age = schedule.retention.as_ref()?.policy.max_age?;
    let ours = children.iter().filter(|child| child.whose == Whose::Ours).filter_map(Child::good);
    // One second later: a point is too old when it is older than that.
    ours.map(|point| point.data_from + max_age + Duration::from_secs(1)).filter(|expiry| *expiry > now).min()
}

/// What comes next for a deleted schedule.
pub enum OfDeleted {
    /// A backup that is not over is deleted.
    Stop(Child),
    /// Another one is removed.
    Remove(Removal),
    /// A point is in use.
    Wait,
    /// None is left but those that are pinned.
    Done,
}

/// What comes next for a deleted schedule; `all_go`: its points go with it.
pub fn next_of_deleted(world: &World<'_>, all_go: bool) -> OfDeleted {
    let is_used = |uid: &str| {
        world
            .children
            .iter()
            .any(|child| matches!(&child.state, ChildState::Working { parent: Some(parent), .. } if parent == uid))
    };
    let goes = |child: &Child| {
        all_go && child.whose == Whose::Ours && child.point().is_some_and(|point| !point.is_pinned && !point.is_adopted)
    };
    // The marks of those that stay are taken off last: one that cannot be taken off must not keep the others.
    let done = || {
        let mark = unmarked(world, |uid| world.children.iter().any(|child| child.uid == uid && goes(child)));
        mark.map_or(OfDeleted::Done, OfDeleted::Remove)
    };
    if !all_go {
        return done();
    }
    let going = world.children.iter().filter(|child| child.whose == Whose::Ours && child.is_deleted).count();
    if going >= AT_ONCE {
        return OfDeleted::Wait;
    }
    let ours = || world.children.iter().filter(|child| child.whose == Whose::Ours && !child.is_deleted);
    if let Some(child) = ours().find(|child| matches!(child.state, ChildState::Working { .. })) {
        return OfDeleted::Stop(child.clone());
    }
    if let Some(child) = ours().find(|child| matches!(child.state, ChildState::Failed { is_pinned: false, .. })) {
        return OfDeleted::Remove(Removal::Forget(child.clone()));
    }
    let mut points = ours().filter(|child| goes(child)).peekable();
    match (points.peek().is_some(), points.find(|child| !is_used(&child.uid))) {
        (_, Some(child)) => OfDeleted::Remove(Removal::Prune(child.clone())),
        (true, None) => OfDeleted::Wait,
        (false, None) => done(),
    }
}
