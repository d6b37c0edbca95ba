//! Runs that come to the same state go on alike: nothing is left to chance, so the second one takes over the rest of
//! the first instead of going through it again.

use crate::driver::{Pass, Run};
use std::collections::HashMap;
use std::sync::Arc;

/// A state that a run was in right before a pass, with no fault ahead.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Everything that decides how it goes on.
    pub state: String,
    /// Requests up to then.
    pub records: usize,
    /// Passes up to then.
    pub passes: usize,
}

/// Every state of the runs so far.
#[derive(Default)]
pub struct Known {
    states: HashMap<String, Rest>,
}

/// How a run went on from one of its moments.
#[derive(Clone)]
pub struct Rest {
    run: Arc<Run>,
    records: usize,
    passes: usize,
}

impl Known {
    /// Remembers a run, for those that come to one of its states.
    pub fn remember(&mut self, run: &Arc<Run>, moments: Vec<Moment>) {
        for Moment { state, records, passes } in moments {
            self.states.entry(state).or_insert_with(|| Rest { run: Arc::clone(run), records, passes });
        }
    }

    /// How an earlier run went on from this state.
    pub fn rest_from(&self, state: &str) -> Option<Rest> {
        self.states.get(state).cloned()
    }
}

impl Rest {
    /// A run that came to this state, with the rest of the other one.
    pub fn complete(&self, mut begun: Run) -> Run {
        let renumbered = |index: usize| index - self.records + begun.records.len();
        let passes = self.run.passes[self.passes..].iter().map(|pass| Pass {
            requests: pass.requests.iter().map(|index| renumbered(*index)).collect(),
            ..pass.clone()
        });
        begun.passes.extend(passes);
        let mut records = self.run.records[self.records..].to_vec();
        for record in &mut records {
            record.index = renumbered(record.index);
        }
        begun.records.extend(records);
        Run { end: self.run.end.clone(), ..begun }
    }
}
