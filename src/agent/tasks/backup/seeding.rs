//! Making a copy one that a cluster can start from: after the tool was judged, before anything is hashed.

use crate::agent::blocking::blocking;
use crate::agent::progress::{self, Step};
use crate::agent::store::header;
use crate::agent::store::seed;
use crate::agent::tasks::backup::{Attempt, Store};
use crate::agent::volume::io_kind::Volume;
use crate::api::{Reason, Seed, SeedState};
use crate::contract::failure::{Failure, cut};
use crate::contract::task::Mode;

/// How often the tool is run again. The first time it brings what there is, unless the logs that it writes have the
/// same fault again, which was never seen.
const CATCH_UPS_MAX: usize = 3;
/// Longest text about why the tool brought nothing, bytes: it is reported beside the facts of the point.
const CAUSE_BYTES_MAX: usize = 100;

impl Attempt<'_> {
    /// Judges the logs of the copy and mends their headers. While the last transaction is in no log, runs the tool
    /// again, where it can bring the next ones. A copy that still cannot seed a cluster counts as a copy: its seed says
    /// so.
    pub(super) async fn see_to_seed(&self, store: Store) -> Result<Store, Failure> {
        let mut store = self.judge_seed(store).await?;
        for _ in 0..CATCH_UPS_MAX {
            if !self.can_catch_up(&store) {
                break;
            }
            progress::message(Step::Seed, "the tool is run again to fetch what has been committed since");
            let before = (store.header.last_transaction, store.seed.clone());
            store = match self.run_tool(Mode::Incremental).await {
                Ok(next) => self.caught_up(store, next).await?,
                Err(failure) => return self.left_as_it_was(store, failure).await,
            };
            if before == (store.header.last_transaction, store.seed.clone()) {
                break;
            }
        }
        Ok(store)
    }

    async fn judge_seed(&self, store: Store) -> Result<Store, Failure> {
        let (folder, stop) = (self.store(), self.with.stop.clone());
        let earlier = store.seed.as_ref().map(|seed| seed.mended.clone()).unwrap_or_default();
        let judged = blocking(move || seed::mend(Volume::Target, &folder, &stop)).await?;
        // What was mended before is told as long as the log is there.
        let (now, folder) = (judged.mended, self.store());
        let is_kept = |file: &str| folder.join(file).exists() && now.iter().all(|header| header.file != file);
        let mut mended: Vec<_> = earlier.into_iter().filter(|header| is_kept(&header.file)).collect();
        mended.extend(now);
        Ok(Store { seed: Some(Seed { mended, ..judged }), ..store })
    }

    /// A cold copy is not the tool's, and a command that does not say what it is to do always copies the whole store.
    fn can_catch_up(&self, store: &Store) -> bool {
        let is_missing = store.seed.as_ref().is_some_and(|seed| seed.state == SeedState::LastTransactionNotLogged);
        is_missing && store.tool.is_some() && self.run.command.iter().any(|word| word.contains("{mode}"))
    }

    /// The copy after a further run of the tool, which made `next` of it.
    async fn caught_up(&self, store: Store, next: Store) -> Result<Store, Failure> {
        let (before, after) = (store.header.last_transaction, next.header.last_transaction);
        if after < before {
            return Err(Failure::new(
                Reason::ToolLeftNoStore,
                format!(
                    "the tool was run again to fetch more than transaction {before}, but its store ends with {after}"
                ),
            ));
        }
        let mut catch_up = store.catch_up;
        catch_up.extend(next.tool);
        self.judge_seed(Store { header: next.header, data_to: next.data_to, catch_up, ..store }).await
    }

    /// A further run of the tool failed. If that left the copy as it was, the copy counts; else it cannot be trusted.
    async fn left_as_it_was(&self, store: Store, failure: Failure) -> Result<Store, Failure> {
        let asked_only = matches!(failure.reason, Reason::MasterUnreachable | Reason::LogsPruned);
        let folder = self.store();
        let header = blocking(move || Ok(header::read(&folder).ok())).await?;
        let unchanged = header.is_some_and(|header| {
            header.clean_shutdown
                && (header.store_id, header.last_transaction) == (store.header.store_id, store.header.last_transaction)
        });
        if !(asked_only && unchanged) {
            return Err(failure);
        }
        progress::message(Step::Seed, &format!("the tool fetched nothing more: {}", failure.message));
        let mut store = self.judge_seed(store).await?;
        if let Some(problem) = store.seed.as_mut().and_then(|seed| seed.problem.as_mut()) {
            problem.push_str("; the tool fetched nothing more: ");
            problem.push_str(cut(&failure.message, CAUSE_BYTES_MAX));
        }
        Ok(store)
    }
}
