//! What can go wrong, and every place in a run where it can.

use crate::apiserver::{Call, DeleteOptions, Key, Kind, Record, Store, Verb};
use crate::driver::{Pass, Run};
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
    /// Somebody changes its spec right before.
    Edited,
    /// Somebody changes the other objects that it looks at right before.
    OthersEdited,
}

/// One fault of a run.
#[derive(Clone, Debug)]
pub enum Fault {
    /// None: the clean run.
    None,
    /// Something happens to one request; after a crash the process is away for some seconds.
    Request { at: usize, mishap: Mishap, down: u64 },
    /// Something happens to one request, and the process ends right before one of the next.
    Pair { at: usize, mishap: Mishap, then: usize },
    /// From one request on, the server answers 503 for some seconds.
    Outage { at: usize, seconds: u64 },
    /// The process is paused at one request, while another replica runs one pass, or everything.
    TwoLeaders { at: usize, whole: bool },
    /// Some passes are handed an object that is some versions old.
    Stale { at: usize, passes: usize, versions: usize },
    /// Some passes see the other objects in the cache some changes late.
    Behind { at: usize, passes: usize, changes: usize },
    /// Some passes are handed an object that is some versions old, and see the other objects some changes late.
    AllOld { at: usize, passes: usize, versions: usize, changes: usize },
    /// A pass is run again with the same object.
    Twice { at: usize },
    /// A change does not trigger a pass.
    DroppedTrigger { at: usize },
    /// Lists come in the opposite order.
    ReversedLists,
}

/// Seconds that the operator is away for after a crash: long enough for every grace to be over, ...
const DOWN: u64 = 600;
/// ... and longer than an ended Job lives.
const LONG_DOWN: u64 = 5400;
/// Seconds that the API server is away for.
const OUTAGE: u64 = 300;
/// Up to so many requests after a first mishap comes the crash of a pair.
const PAIR_REACH: usize = 2;

/// A cache that stands still for some passes from one on, so many versions or changes late.
#[derive(Clone, Copy, Debug)]
pub struct Lag {
    /// The first of these passes.
    pub at: usize,
    /// How many they are.
    pub passes: usize,
    /// How late it is.
    pub by: usize,
}

impl Lag {
    /// Whether a pass with this number is one of them.
    pub const fn covers(&self, number: usize) -> bool {
        self.at <= number && number < self.at + self.passes
    }
}

impl Fault {
    /// The pass of the clean run up to which nothing is different yet.
    pub fn first_pass(&self, clean: &Run) -> usize {
        let pass_of = |request: usize| clean.passes.iter().position(|pass| pass.requests.contains(&request));
        let pass = match self {
            Self::None | Self::ReversedLists => Some(0),
            Self::Request { at, .. }
            | Self::Pair { at, .. }
            | Self::Outage { at, .. }
            | Self::TwoLeaders { at, .. } => pass_of(*at),
            Self::Stale { at, .. } | Self::Behind { at, .. } | Self::AllOld { at, .. } | Self::Twice { at } => {
                Some(*at)
            }
            Self::DroppedTrigger { at } => clean.passes.iter().rposition(|pass| pass.triggers <= *at),
        };
        pass.unwrap_or(0)
    }

    /// Whether nothing of it is ahead of a run with so many passes, and so many changes that triggered one. `began` is
    /// when its request came.
    pub fn is_over(&self, now: Duration, began: Option<Duration>, passes: usize, triggers: usize) -> bool {
        match *self {
            Self::None => true,
            Self::Request { .. } | Self::Pair { .. } | Self::TwoLeaders { .. } => began.is_some(),
            Self::Outage { seconds, .. } => began.is_some_and(|began| now >= began + Duration::from_secs(seconds)),
            Self::Stale { at, passes: old, .. }
            | Self::Behind { at, passes: old, .. }
            | Self::AllOld { at, passes: old, .. } => passes >= at + old,
            Self::Twice { at } => passes > at,
            Self::DroppedTrigger { at } => triggers > at,
            Self::ReversedLists => false,
        }
    }

    /// How the cache of the objects that get passes lags.
    pub const fn object_lag(&self) -> Option<Lag> {
        match *self {
            Self::Stale { at, passes, versions: by } | Self::AllOld { at, passes, versions: by, .. } => {
                Some(Lag { at, passes, by })
            }
            _ => None,
        }
    }

    /// How the cache of the other objects lags.
    pub const fn others_lag(&self) -> Option<Lag> {
        match *self {
            Self::Behind { at, passes, changes: by } | Self::AllOld { at, passes, changes: by, .. } => {
                Some(Lag { at, passes, by })
            }
            _ => None,
        }
    }

    /// The request that it happens to, the last one if there are several.
    pub const fn request(&self) -> Option<usize> {
        match *self {
            Self::Request { at, .. } | Self::Outage { at, .. } | Self::TwoLeaders { at, .. } => Some(at),
            Self::Pair { at, then, .. } => Some(at + then),
            _ => None,
        }
    }

    /// What it does to a request.
    pub fn mishap(&self, record: &Record, outage_began: &mut Option<Duration>) -> Option<Mishap> {
        match self {
            Self::Request { at, mishap, .. } if record.index == *at => Some(*mishap),
            Self::Pair { at, mishap, .. } if record.index == *at => Some(*mishap),
            Self::Pair { at, then, .. } if record.index == at + then => Some(Mishap::Crash { applied: false }),
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

/// Every kind of fault at every request, pass and trigger of a clean run.
pub fn every(clean: &Run) -> Vec<Fault> {
    let mut faults = vec![Fault::ReversedLists];
    for record in &clean.records {
        let at = record.index;
        faults.extend(mishaps(&record.call).into_iter().map(|mishap| Fault::Request { at, mishap, down: 0 }));
        for applied in before_and_after(&record.call) {
            let crash = |down| Fault::Request { at, mishap: Mishap::Crash { applied: *applied }, down };
            faults.extend([DOWN, LONG_DOWN].map(crash));
        }
        faults.push(Fault::Outage { at, seconds: OUTAGE });
        faults.extend([false, true].map(|whole| Fault::TwoLeaders { at, whole }));
    }
    for (at, pass) in clean.passes.iter().enumerate() {
        faults.push(Fault::Twice { at });
        // Where a controller looks again for ever, a pass that has nothing to do sees little.
        let seldom = pass.others > 0 && pass.requests.is_empty();
        let old = |number: &usize, most: usize| !seldom || *number == 1 || *number == most;
        let versions = (1..=pass.older).filter(|versions| old(versions, pass.older));
        faults.extend(versions.clone().map(|versions| Fault::Stale { at, passes: 1, versions }));
        if pass.older > 0 {
            faults.push(Fault::Stale { at, passes: 3, versions: pass.older });
        }
        let late = (1..=pass.others).filter(|changes| old(changes, pass.others));
        faults.extend(late.map(|changes| Fault::Behind { at, passes: 1, changes }));
        if pass.others > 0 && !seldom {
            faults.push(Fault::Behind { at, passes: 3, changes: 1 });
            faults.push(Fault::Behind { at, passes: 3, changes: pass.others });
        }
        faults.extend(all_old(at, pass, versions));
    }
    faults.extend((0..clean.triggers).map(|at| Fault::DroppedTrigger { at }));
    faults
}

/// Both caches are late: the one of the objects by any number of versions that it is also late by alone, the other one
/// by one change or by all there were.
fn all_old(at: usize, pass: &Pass, versions: impl Iterator<Item = usize>) -> Vec<Fault> {
    let ends = |most: usize| if most > 1 { vec![1, most] } else { vec![1; most] };
    let mut faults = Vec::new();
    for versions in versions {
        let of = |changes| Fault::AllOld { at, passes: 1, versions, changes };
        faults.extend(ends(pass.others).into_iter().map(of));
    }
    if !pass.requests.is_empty() {
        let of = |(versions, changes)| Fault::AllOld { at, passes: 3, versions, changes };
        faults.extend(ends(pass.older).into_iter().zip(ends(pass.others)).map(of));
    }
    faults
}

/// Every mishap at every request of a clean run, each with a crash at one of the next requests.
pub fn pairs(clean: &Run) -> Vec<Fault> {
    let mishaps = clean.records.iter().flat_map(|record| mishaps(&record.call).into_iter().map(|m| (record.index, m)));
    mishaps.flat_map(|(at, mishap)| (1..=PAIR_REACH).map(move |then| Fault::Pair { at, mishap, then })).collect()
}

/// Somebody changes the spec, or other objects, at every request of a clean run.
pub fn edits(clean: &Run) -> Vec<Fault> {
    let edits = [Mishap::Edited, Mishap::OthersEdited];
    let at = |at| edits.map(|mishap| Fault::Request { at, mishap, down: 0 });
    clean.records.iter().flat_map(|record| at(record.index)).collect()
}

/// Not doing a read and losing its answer are the same.
const fn before_and_after(call: &Call) -> &'static [bool] {
    if call.writes() { &[false, true] } else { &[false] }
}

fn mishaps(call: &Call) -> Vec<Mishap> {
    let mut mishaps = vec![Mishap::LeaseLost, Mishap::Deleted, Mishap::Recreated];
    mishaps.extend([403, 429, 503].map(Mishap::Refused));
    if call.writes() {
        mishaps.push(Mishap::Refused(409));
    }
    if call.verb == Verb::Create {
        mishaps.push(Mishap::Refused(422));
    }
    for applied in before_and_after(call).iter().copied() {
        mishaps.extend([Mishap::Crash { applied }, Mishap::Broken { applied }, Mishap::Silent { applied }]);
    }
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
