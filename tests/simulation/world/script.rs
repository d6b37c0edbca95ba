//! What a script says about the world.

use super::database::STORE;
use super::pods::Stuck;
use crate::apiserver::Store;
use graph_backup_operator::api::{Reason, StoreId};
use graph_backup_operator::contract::verdict::Published;

/// What becomes of a Job.
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// The agent does what it is asked for, and reports it.
    Honest,
    /// The agent reports a failure.
    Fails(Reason),
    /// The agent reports a failure in more than 1 KiB of text beyond ASCII.
    Rambles,
    /// The master changes before the agent starts the tool.
    MasterMovesBefore,
    /// The master changes while the tool runs.
    MasterMovesDuring,
    /// The master changes while the tool runs, and the agent publishes all the same.
    MixesHistories,
    /// The container is killed: it leaves no word.
    Dies { published: bool },
    /// The container exits with 0 and leaves no word: the Job is complete.
    SaysNothing,
    /// The container exits with 0 and leaves this: the Job is complete.
    Says(&'static str),
    /// The agent reports a point that is not what is on the volume.
    Forges(fn(&mut Published)),
    /// The pod is evicted, or its node is lost.
    PodVanishes { published: bool },
    /// The pod's node does not answer any more: the pod is marked as deleted and stays, with its Job.
    NodeDies { published: bool },
    /// Somebody deletes the Job.
    JobVanishes { published: bool },
    /// The pod does not start.
    Stuck(Stuck),
    /// The tool never ends.
    Hangs,
}

/// What somebody does.
pub type Act = fn(&mut Store);

/// What a script says about the world.
#[derive(Clone, Debug)]
pub struct Script {
    /// Backup Jobs by attempt; those beyond the end are honest.
    pub backups: Vec<Behaviour>,
    /// Jobs that check whether a cold copy can be made, by attempt; those beyond the end are honest.
    pub checks: Vec<Behaviour>,
    /// Inspect Jobs by attempt; those beyond the end are honest.
    pub inspections: Vec<Behaviour>,
    /// Further inspect Jobs of an attempt, after its first.
    pub inspections_again: Behaviour,
    /// The first Job that removes files; further ones are honest.
    pub prune: Behaviour,
    /// The first Job of a restore drill; further ones are honest.
    pub drill: Behaviour,
    /// The Jobs of a restore that write new volumes.
    pub stage: Behaviour,
    /// Store id of what they write.
    pub staged_store: StoreId,
    /// Seconds that the tool needs.
    pub tool_seconds: u64,
    /// Whether a member that is told to stop never does.
    pub member_hangs: bool,
    /// Whether a member that is started again hangs in its start.
    pub member_stays_away: bool,
    /// Whether every pod gets another container that never ends.
    pub sidecar: bool,
    /// Seconds that an ended Job lives for, where a policy changes it.
    pub ttl: Option<u64>,
    /// Seconds that a Job may take, where a policy changes it.
    pub job_deadline: Option<u64>,
    /// What people do, and after how many seconds.
    pub people: Vec<(u64, Act)>,
    /// What people do while the first backup Job runs.
    pub people_in_mid_run: Vec<Act>,
    /// Seconds for which the operator is down from the beginning, ...
    pub down_at_first: u64,
    /// ... and from the time when the first backup Job runs.
    pub down_in_mid_run: u64,
}

/// How the members of the database take it that they are stopped and started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// One that is told to stop never does.
    pub hang: bool,
    /// One that is started hangs in its start.
    pub stay_away: bool,
}

impl Script {
    /// How the members behave.
    pub const fn members(&self) -> Manners {
        Manners { hang: self.member_hangs, stay_away: self.member_stays_away }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self {
            backups: Vec::new(),
            checks: Vec::new(),
            inspections: Vec::new(),
            inspections_again: Behaviour::Honest,
            prune: Behaviour::Honest,
            drill: Behaviour::Honest,
            stage: Behaviour::Honest,
            staged_store: STORE,
            tool_seconds: 15,
            member_hangs: false,
            member_stays_away: false,
            sidecar: false,
            ttl: None,
            job_deadline: None,
            people: Vec::new(),
            people_in_mid_run: Vec::new(),
            down_at_first: 0,
            down_in_mid_run: 0,
        }
    }
}
