//! What can go wrong, and every place in a run where it can.

use crate::apiserver::{Call, DeleteOptions, Key, Kind, Record, Store, Verb};
use crate::driver::Run;
use serde_json::json;
use std::fmt;
use std::time::Duration;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The process ends, before or after the server did what it was asked for.
    Crash { applied: bool },
    /// The connection breaks, before or after.
    Broken { applied: bool },
    /// No answer comes; the request was done or not.
    Silent { applied: bool },
    /// The server answers with an error and does nothing.
    Refused(u16),
    /// The process stands still right before, while another one works.
    Paused,
    /// The process stops leading right before; it notices before its next write.
    LeaseLost,
    /// Somebody deletes the object right before.
    Deleted,
    /// Somebody deletes the object right before and creates it anew under the same name.
    Recreated,
}

/// One fault of a run.
#[derive(Clone, Debug)]
pub enum Fault {
    /// None: the clean run.
    None,
    /// Something happens to one request; after a crash the process is away for some seconds.
    Request { at: usize, mishap: Mishap, down: u64 },
    /// From one request on, the server answers 503 for some seconds.
    Outage { at: usize, seconds: u64 },
    /// The process is paused at one request, while another replica runs one pass, or everything.
    TwoLeaders { at: usize, whole: bool },
    /// Some passes are handed an object that is some versions old.
    Stale { at: usize, passes: usize, versions: usize },
    /// A pass is run again with the same object.
    Twice { at: usize },
    /// A change does not trigger a pass.
    DroppedTrigger { at: usize },
    /// Lists come in the opposite order.
    ReversedLists,
}

/// Longer than an agent's Job lives, and shorter than what the scenarios allow for the whole backup.
const LONG_DOWN: u64 = 5400;
const OUTAGE: u64 = 300;

impl Fault {
    /// What it does to a request.
    pub fn mishap(&self, record: &Record, outage_began: &mut Option<Duration>) -> Option<Mishap> {
        match self {
            Self::Request { at, mishap, .. } if record.index == *at => Some(*mishap),
            Self::TwoLeaders { at, .. } if record.index == *at => Some(Mishap::Paused),
            Self::Outage { at, seconds } if record.index >= *at => {
                let began = *outage_began.get_or_insert(record.at);
                (record.at < began + Duration::from_secs(*seconds)).then_some(Mishap::Refused(503))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Every fault at every place of a clean run.
pub fn every(clean: &Run) -> Vec<Fault> {
    let mut faults = vec![Fault::ReversedLists];
    for record in &clean.records {
        let at = record.index;
        faults.extend(mishaps(&record.call).into_iter().map(|mishap| Fault::Request { at, mishap, down: 0 }));
        for applied in before_and_after(&record.call) {
            let down = |down| Fault::Request { at, mishap: Mishap::Crash { applied: *applied }, down };
            faults.extend([down(600), down(LONG_DOWN)]);
        }
        faults.push(Fault::Outage { at, seconds: OUTAGE });
        faults.extend([false, true].map(|whole| Fault::TwoLeaders { at, whole }));
    }
    for (at, pass) in clean.passes.iter().enumerate() {
        faults.push(Fault::Twice { at });
        let mut ages = vec![1, 2, pass.older];
        ages.retain(|age| (1..=pass.older).contains(age));
        ages.dedup();
        for versions in ages {
            faults.extend([1, 3].map(|passes| Fault::Stale { at, passes, versions }));
        }
    }
    faults.extend((0..clean.triggers).map(|at| Fault::DroppedTrigger { at }));
    faults
}

/// Not doing a read and losing its answer are the same.
const fn before_and_after(call: &Call) -> &'static [bool] {
    if call.writes() { &[false, true] } else { &[false] }
}

fn mishaps(call: &Call) -> Vec<Mishap> {
    let mut mishaps: Vec<Mishap> = [403, 429, 503].map(Mishap::Refused).into();
    if call.writes() {
        mishaps.push(Mishap::Refused(409));
    }
    if call.verb == Verb::Create {
        mishaps.push(Mishap::Refused(422));
    }
    for applied in before_and_after(call).iter().copied() {
        mishaps.extend([Mishap::Crash { applied }, Mishap::Broken { applied }, Mishap::Silent { applied }]);
    }
    mishaps.extend([Mishap::LeaseLost, Mishap::Deleted, Mishap::Recreated]);
    mishaps
}

/// What somebody does with `kubectl delete`.
pub fn delete(store: &mut Store, key: &Key) {
    let _ = store.delete(key, &DeleteOptions::default());
}

/// What somebody does with `kubectl replace --force`.
pub fn recreate(store: &mut Store, key: &Key) {
    let Some(old) = store.get(key).cloned() else { return };
    delete(store, key);
    let fresh = json!({"metadata": {"name": key.name}, "spec": old["spec"]});
    let _ = store.create(Kind::named(key.kind), &key.namespace, fresh);
}
