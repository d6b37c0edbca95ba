//! Whether one member was master from before the tool until after it, and whether the copy is of that member's history.
//!
//! Before the tool one look is enough: a run that ends there has lost nothing and is tried again. After the tool there
//! is a copy that may have taken hours, and most of what can go wrong with a look passes: a connection breaks,
//! ZooKeeper elects its leader. A later equal reading proves more than an earlier one, so the agent asks until the
//! run's deadline.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step, start};
use crate::agent::stop::{Stop, StopCause};
use crate::agent::store::files::{self, TreeError};
use crate::agent::store::witness::{self, Judgement, Witness, WitnessError};
use crate::api::{Mastership, Movement, Reason, Remedy};
use crate::contract::failure::Failure;
use crate::contract::task::BackupRun;
use crate::discovery::probe::{ProbeError, Transaction};
use crate::discovery::{Discovery, DiscoveryError, Network};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two looks.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// How often the master may answer with an exception before what it was asked counts as not to be told.
pub(super) const EXCEPTIONS_MAX: u32 = 5;
/// How long a master whose mastership stands may leave a question unanswered before that counts as not to be told. A
/// master that died loses its registration sooner, and with it its mastership.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// What is watched, and how.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Names the source, and the mastership as the operator saw it.
    pub run: &'a BackupRun,
    /// Finds the master and asks it.
    pub network: &'a Network,
    /// Says when the run has to end.
    pub stop: &'a Stop,
}

impl Reader<'_> {
    /// Reads the mastership right before the tool, which must be as the operator saw it.
    ///
    /// Takes [`LOOK_UP_BOUND`](crate::discovery::LOOK_UP_BOUND) at most.
    pub async fn before(&self) -> Result<Mastership, Failure> {
        let _step = start(Step::MastershipBefore);
        let look = self.stop.unless_stopped(self.look("since the operator looked, before the tool ran")).await?;
        look.map_err(|(Halt::Final(failure) | Halt::Passing(failure))| failure)
    }

    /// Reads the mastership after the tool, and holds the copy's witness against what the master serves.
    ///
    /// A look-up that fails is repeated until the run's deadline, the only bound on the time that this takes. What the
    /// master cannot show, or does not answer within [`SILENCE_MAX`], is told in the log and is no failure: the
    /// mastership did not change, and a parent's history was proved before.
    pub async fn after(&self, witness: Option<&Witness>) -> Result<Mastership, Failure> {
        let _step = start(Step::MastershipAfter);
        let mut unanswered = Unanswered::default();
        let mut problem = None;
        loop {
            let look = self.stop.unless_stopped(self.look_and_compare(witness, &mut unanswered)).await;
            let failure = match look {
                Err(cause) => return Err(unproved(cause, problem)),
                Ok(Ok(mastership)) => return Ok(mastership),
                Ok(Err(Halt::Final(failure))) => return Err(failure),
                Ok(Err(Halt::Passing(failure))) => failure,
            };
            if problem.as_ref() != Some(&failure) {
                progress::message(Step::MastershipAfter, &format!("asking again: {}", failure.message));
            }
            problem = Some(failure);
            if let Err(cause) = self.stop.unless_stopped(tokio::time::sleep(PAUSE)).await {
                return Err(unproved(cause, problem));
            }
        }
    }

    /// One reading of the mastership. `when` completes the sentence "the master changed …".
    async fn look(&self, when: &str) -> Result<Mastership, Halt> {
        let located = self.network.locate(&self.run.source, self.run.cluster_name.as_deref()).await;
        let located = located.map_err(|error| Halt::of(&error))?;
        if let Movement::Moved(what) = self.run.mastership.movement(&located.mastership) {
            return Err(Halt::Final(Failure::new(Reason::MasterChanged, format!("the master changed {when}: {what}"))));
        }
        if located.store_id != self.run.place.cluster {
            return Err(Halt::Final(Failure::new(
                Reason::StoreMismatch,
                format!("the source served store {} and now serves {}", self.run.place.cluster, located.store_id),
            )));
        }
        Ok(located.mastership)
    }

    async fn look_and_compare(
        &self,
        witness: Option<&Witness>,
        unanswered: &mut Unanswered,
    ) -> Result<Mastership, Halt> {
        let mastership = self.look("while the tool ran").await?;
        let Some(witness) = witness else { return Ok(mastership) };
        let (id, member) = (witness.id(), mastership.endpoint());
        match judge(witness, self.network.transaction(member, id).await, self.stop).await? {
            Judgement::Shared => tell(&format!("the master holds transaction {id} as the copy does")),
            Judgement::Differs(problem) => {
                return Err(Halt::Final(differs(&problem)));
            }
            Judgement::LogsGone(said) => tell(&format!("the master no longer holds transaction {id}: {said}")),
            Judgement::Untold(problem) => tell(&problem),
            Judgement::NoAnswer(error) => {
                let failure = witness::no_answer(member, &error);
                if unanswered.again(failure.reason, Instant::now()) {
                    return Err(Halt::Passing(failure));
                }
                tell(&failure.message);
            }
        }
        Ok(mastership)
    }
}

/// Questions that a master with its mastership did not answer.
#[derive(Default)]
struct Unanswered {
    exceptions: u32,
    /// When the first question had no answer.
    since: Option<Instant>,
}

impl Unanswered {
    /// Counts one more, at `now`, and says whether to ask again.
    fn again(&mut self, reason: Reason, now: Instant) -> bool {
        self.exceptions += u32::from(reason == Reason::MemberFailed);
        let since = *self.since.get_or_insert(now);
        self.exceptions < EXCEPTIONS_MAX && now.duration_since(since) < SILENCE_MAX
    }
}

/// Why one look proved nothing.
pub enum Halt {
    /// The next look finds the same, or must not find anything else.
    Final(Failure),
    /// A later look may prove it.
    Passing(Failure),
}

impl Halt {
    /// Of a look-up without an answer.
    pub fn of(error: &DiscoveryError) -> Self {
        let failure = Failure::new(error.reason(), error.to_string());
        match failure.reason.remedy() {
            Remedy::Retry => Self::Passing(failure),
            Remedy::Act => Self::Final(failure),
        }
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

/// The failure of a copy that is not of the master's history; `problem` says by what that is told.
pub fn differs(problem: &str) -> Failure {
    Failure::new(Reason::HistoryMayDiffer, format!("the copy may be of a different history from the master: {problem}"))
}

/// The witness of the copy in `store`, whose header names `last_transaction`.
pub async fn witness_of(store: PathBuf, last_transaction: i64, stop: &Stop) -> Result<Option<Witness>, Failure> {
    let stop = stop.clone();
    blocking(move || {
        let files = files::list(&store)?.files;
        let files = files.iter().map(|(path, _)| path.as_str());
        Witness::of(&store, files, last_transaction, &stop).map_err(unreadable)
    })
    .await
}

/// [`Witness::judge`] beside the runtime.
pub async fn judge(
    witness: &Witness,
    answer: Result<Option<Transaction>, ProbeError>,
    stop: &Stop,
) -> Result<Judgement, Failure> {
    let (witness, stop) = (witness.clone(), stop.clone());
    blocking(move || witness.judge(answer, &stop).map_err(unreadable)).await
}

/// A failure to read the copy's own logs.
fn unreadable(error: WitnessError) -> Failure {
    match error {
        WitnessError::Stopped(cause) => cause.into(),
        WitnessError::Read { log, source } => TreeError::Io { action: "read", path: log.into(), source }.into(),
    }
}

fn tell(message: &str) {
    progress::message(Step::MastershipAfter, message);
}

/// What it means that the run has to end with a copy that was not proved, after this problem.
fn unproved(cause: StopCause, problem: Option<Failure>) -> Failure {
    match (cause, problem) {
        (StopCause::Deadline(limit), Some(problem)) => Failure::new(
            problem.reason,
            format!(
                "the copy was complete but could not be proved within the attempt's {} seconds: {}",
                limit.as_secs(),
                problem.message
            ),
        ),
        (cause, _) => cause.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;

    #[test]
    fn at_the_deadline_the_reason_is_what_kept_the_copy_from_being_proved() {
        let problem = Failure::new(Reason::EnsembleUnavailable, "no quorum of the ZooKeeper servers zk answered");
        let deadline = StopCause::Deadline(Duration::from_secs(300));
        let failure = unproved(deadline, Some(problem.clone()));
        assert_eq!(failure.reason, Reason::EnsembleUnavailable);
        let said = "the copy was complete but could not be proved within the attempt's 300 seconds: no quorum";
        assert!(failure.message.starts_with(said), "{}", failure.message);
        assert_eq!(unproved(deadline, None).reason, Reason::DeadlineExceeded);
        assert_eq!(unproved(StopCause::Signal(Signal::TERM), Some(problem)).reason, Reason::Interrupted);
    }

    #[test]
    fn a_master_that_leaves_questions_unanswered_is_asked_for_a_while() {
        let start = Instant::now();
        let mut silent = Unanswered::default();
        for seconds in [0, 7, 150, 299] {
            assert!(silent.again(Reason::MasterUnreachable, start + Duration::from_secs(seconds)), "{seconds} s");
        }
        assert!(!silent.again(Reason::MasterUnreachable, start + SILENCE_MAX));
        let mut failing = Unanswered::default();
        let asked = (1..100).take_while(|_| failing.again(Reason::MemberFailed, start)).count();
        assert_eq!(asked + 1, EXCEPTIONS_MAX as usize);
    }

    #[test]
    fn what_a_person_has_to_change_is_not_asked_again() {
        let passes = |error| matches!(Halt::of(&error), Halt::Passing(_));
        let (servers, cluster, detail) = (String::new(), String::new(), String::new());
        assert!(passes(DiscoveryError::EnsembleUnavailable { servers, detail: detail.clone() }));
        assert!(passes(DiscoveryError::ElectionRunning { cluster: cluster.clone(), detail: detail.clone() }));
        assert!(passes(DiscoveryError::NoMaster { cluster, detail: detail.clone() }));
        assert!(!passes(DiscoveryError::ZnodeUnreadable { problem: detail }));
    }
}
