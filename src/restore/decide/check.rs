//! Step Check: the point, the members, the cluster, the volumes, the plan. Nothing of the cluster is changed.

use super::jobs::Work;
use super::{Pass, Said};
use crate::api::{Journal, MemberRecord, Reason, RestorePoint, RestoreStatus, RestoreStep, SeedState, SurveyRecord};
use crate::backup::world::LockState;
use crate::contract::task::Task;
use crate::contract::verdict::{Surveyed, Verdict};
use crate::discovery::ClusterView;
use crate::restore::plan;
use crate::restore::status;
use crate::restore::step::{Action, Obstacle};

impl Pass<'_> {
    pub(super) fn check(&self, status: &mut RestoreStatus) -> Result<Said, serde_json::Error> {
        if self.world.is_terminating {
            return Ok(Said::Wait(Obstacle::new(Reason::Pending, "the namespace is being deleted: nothing is begun")));
        }
        let point = match self.point(status) {
            Ok(point) => point,
            Err(obstacle) => return Ok(Said::Wait(obstacle)),
        };
        if let Err(obstacle) = self.is_safe(&point) {
            return Ok(Said::Wait(obstacle));
        }
        let members = match plan::members(self.restore, self.world) {
            Ok(members) => members,
            Err(obstacle) => return Ok(Said::Wait(obstacle)),
        };
        self.keep(status, members);
        match self.survey(status)? {
            Some(said) => Ok(said),
            None => Ok(self.approve(status, &point)),
        }
    }

    /// The point, chosen once.
    fn point(&self, status: &mut RestoreStatus) -> Result<RestorePoint, Obstacle> {
        if let Some(point) = &status.point {
            return Ok(point.clone());
        }
        let nothing = || Err(Obstacle::new(Reason::PointMissing, "no recovery point was found"));
        let point = self.world.point.clone().unwrap_or_else(nothing)?;
        status.point = Some(point.clone());
        Ok(point)
    }

    /// Whether the point may go into this cluster.
    fn is_safe(&self, point: &RestorePoint) -> Result<(), Obstacle> {
        if let Some(seed) = &point.seed {
            seedable(point, seed.state)?;
        }
        let view = match &self.world.cluster {
            Some(Ok(view)) => view,
            Some(Err(error)) => return Err(Obstacle::new(error.reason(), error.to_string())),
            None => return Err(Obstacle::new(Reason::Pending, "ZooKeeper has not been asked yet")),
        };
        if view.store_id != point.store_id {
            return Err(Obstacle::new(
                Reason::StoreMismatch,
                format!(
                    "the cluster has store {}, and GraphBackup {} is of store {}: its members would never start with it",
                    view.store_id, point.name, point.store_id
                ),
            ));
        }
        self.is_alone(view)
    }

    /// No member is registered that does not belong to the StatefulSet: it would undo the restore with its newer data.
    fn is_alone(&self, view: &ClusterView) -> Result<(), Obstacle> {
        let set = &self.restore.workload.stateful_set;
        let is_its = |host: &str| {
            let pod = host.split('.').next().unwrap_or_default();
            pod.strip_prefix(set.as_str())
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|ordinal| !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let foreign =
            view.members.iter().find(|member| member.endpoint.as_ref().is_none_or(|endpoint| !is_its(&endpoint.host)));
        match foreign {
            None => Ok(()),
            Some(member) => Err(Obstacle::new(
                Reason::StoreIdInUse,
                format!(
                    "member {} ({}) is registered with this cluster and is no pod of StatefulSet {set}: stop it, or \
                     its data would undo the restore",
                    member.id,
                    member.endpoint.as_ref().map_or("without an address", |endpoint| endpoint.host.as_str())
                ),
            )),
        }
    }

    /// Records the members; what was read on volumes that are still the same stays.
    fn keep(&self, status: &mut RestoreStatus, members: Vec<MemberRecord>) {
        let Some(set) = &self.world.set else { return };
        let known = status.journal.take().map(|journal| journal.members).unwrap_or_default();
        let members = members.into_iter().map(|mut member| {
            let same = known.iter().find(|old| old.pod == member.pod && old.original.uid == member.original.uid);
            member.survey = same.and_then(|old| old.survey.clone());
            member
        });
        status.journal = Some(Journal {
            stateful_set_uid: set.uid.clone(),
            replicas: set.replicas,
            rebound: None,
            started: false,
            members: members.collect(),
        });
    }

    /// Has the volume of each member read. `None` once all are.
    fn survey(&self, status: &mut RestoreStatus) -> Result<Option<Said>, serde_json::Error> {
        let mut journal = status.journal.take().unwrap_or_default();
        let (mut actions, mut waits, mut failed) = (Vec::new(), None, None);
        for member in journal.members.iter_mut().filter(|member| member.survey.is_none()) {
            match self.work(Task::Survey, member) {
                Work::Create => actions.push(Action::CreateJob(Box::new(self.made(member).survey()?))),
                Work::Works(words) => waits = Some(words),
                Work::Again(job, name) => {
                    actions.extend(job.map(Action::DeleteJob));
                    waits = Some(format!("Job {name} ended without an answer and is made again"));
                }
                Work::Failed(obstacle) => failed = Some(obstacle),
                Work::Answered(verdict) => match surveyed(member, &verdict) {
                    Ok(survey) => member.survey = Some(survey),
                    Err(obstacle) => failed = Some(obstacle),
                },
            }
        }
        let all = journal.members.iter().all(|member| member.survey.is_some());
        status.journal = Some(journal);
        if let Some(obstacle) = failed {
            return Ok(Some(Said::Fail(obstacle)));
        }
        if all {
            return Ok(self.without_jobs().map(|(actions, _)| {
                Said::Make(actions, Obstacle::new(Reason::Pending, "the Jobs that read the volumes are being removed"))
            }));
        }
        let words = waits.unwrap_or_else(|| "the volumes of the members are being read".to_owned());
        Ok(Some(Said::Make(actions, Obstacle::new(Reason::Pending, words))))
    }

    /// Shows the plan, waits for approval and for the lock, then begins.
    fn approve(&self, status: &mut RestoreStatus, point: &RestorePoint) -> Said {
        let members = status.journal.as_ref().map(|journal| journal.members.as_slice()).unwrap_or_default();
        let plan = plan::plan(self.restore, point, members);
        let hash = plan.hash.clone();
        status.plan = Some(plan);
        if self.restore.needs_approval && self.restore.approved.as_deref() != Some(hash.as_str()) {
            return Said::Wait(Obstacle::new(
                Reason::WaitingForApproval,
                format!(
                    "read status.plan, then approve it: kubectl -n {} annotate restore {} \
                     graphbackup.dev/approve-plan={hash}",
                    self.restore.owner.namespace, self.restore.owner.name
                ),
            ));
        }
        if !self.restore.has_finalizer() {
            let obstacle = Obstacle::new(Reason::Pending, "the restore is about to begin");
            return Said::Make(vec![self.finalizers(true)], obstacle);
        }
        match &self.world.lock {
            Some(LockState::Held(holder)) => Said::Wait(Obstacle::new(
                Reason::WaitingForLock,
                format!("{holder} works on this cluster: the restore waits for it"),
            )),
            Some(LockState::Ours) => {
                status::begin(status, RestoreStep::Stage, self.now);
                Said::Next
            }
            Some(LockState::Abandoned(lock)) => Said::Make(
                vec![Action::BreakLock(lock.clone())],
                Obstacle::new(Reason::Pending, "a lock that was left behind is removed"),
            ),
            Some(LockState::Free | LockState::NotObserved) | None => {
                let obstacle = Obstacle::new(Reason::Pending, "the restore takes the lock of the cluster");
                Said::Make(vec![Action::TakeLock(point.store_id)], obstacle)
            }
        }
    }
}

fn seedable(point: &RestorePoint, seed: SeedState) -> Result<(), Obstacle> {
    match seed {
        // A wrong header is corrected in the staged copy.
        SeedState::LogsComplete | SeedState::LogHeaderWrong => return Ok(()),
        SeedState::LogsUnreadable | SeedState::LastTransactionNotLogged => {}
    }
    Err(Obstacle::new(
        Reason::PointNotSeedable,
        format!(
            "members cannot join a cluster that starts from GraphBackup {}: see its condition Seedable; take an \
             incremental backup and restore that",
            point.name
        ),
    ))
}

fn surveyed(member: &MemberRecord, verdict: &Verdict) -> Result<SurveyRecord, Obstacle> {
    let pod = &member.pod;
    let unfit = |problem: String| Err::<SurveyRecord, _>(Obstacle::new(Reason::StorePathUnfit, problem));
    let Verdict::Surveyed(surveyed) = verdict else {
        return unfit(format!("the Job that reads the volume of member {pod} answered something else"));
    };
    let Surveyed { store, outside_files, outside_bytes, .. } = surveyed.as_ref();
    let Some(store) = store else {
        return unfit(format!(
            "the volume of member {pod} has no store at spec.into.workload.storePath: correct it in a new Restore"
        ));
    };
    if store.uid == 0 {
        return unfit(format!(
            "the store of member {pod} belongs to root, and no Job of the operator runs as root: run the members with \
             securityContext.runAsUser, and give their volumes to that user"
        ));
    }
    let mode = |mode: u32| i32::try_from(mode).unwrap_or_default();
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Ok(SurveyRecord {
        uid: store.uid.into(),
        gid: store.gid.into(),
        folder_mode: mode(store.folder_mode),
        file_mode: mode(store.file_mode),
        outside_files: number(*outside_files),
        outside_bytes: number(*outside_bytes),
    })
}
