//! When each watch heard from the API server last.

use super::store::Scope;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A watch that hears nothing for so long, no bookmark either, is started anew from where it was.
pub const SILENCE_BOUND: Duration = Duration::from_secs(90);
/// A watch is silent when its last word is older than this: it was started anew meanwhile, and that was not answered
/// either.
pub const SILENT_AFTER: Duration = SILENCE_BOUND.saturating_mul(2);
/// Between two lines in the log about watches of one kind.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Between two lines about the same watch while nothing changes.
const REPEATED_EVERY: Duration = Duration::from_mins(10);

/// How all watches of the process are.
#[derive(Debug, Default)]
pub struct Health {
    pulses: Mutex<Vec<Arc<Pulse>>>,
    /// When the last line about watches of a kind was written.
    lines: Mutex<HashMap<&'static str, Instant>>,
}

/// How one watch is.
#[derive(Debug)]
pub struct Pulse {
    kind: &'static str,
    scope: Scope,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the API server last gave a page, started the watch, or sent an event or a bookmark.
    heard: Instant,
    /// Why it has heard nothing since.
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    /// Whether the API server answers, and refuses.
    refused: bool,
    message: String,
    /// When a line about it was written.
    line: Option<Instant>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    /// A watch begins. It is taken to have heard something just now.
    pub fn watch(&self, kind: &'static str, scope: &Scope) -> Arc<Pulse> {
        let state = Mutex::new(State { heard: Instant::now(), failure: None });
        let pulse = Arc::new(Pulse { kind, scope: scope.clone(), state });
        locked(&self.pulses).push(Arc::clone(&pulse));
        pulse
    }

    /// The API server said something to a watch.
    pub fn heard(&self, pulse: &Pulse) {
        let mut state = locked(&pulse.state);
        state.heard = Instant::now();
        if state.failure.take().is_some_and(|failure| failure.line.is_some()) {
            tracing::info!(kind = pulse.kind, scope = %pulse.scope, "a watch works again");
        }
    }

    /// A watch failed and tries again. `refused`: the API server answers, and says no.
    pub fn failed(&self, pulse: &Pulse, refused: bool, message: &str) {
        let mut state = locked(&pulse.state);
        let line = state.failure.as_ref().and_then(|failure| failure.line);
        let mut failure = Failure { refused, message: message.to_owned(), line };
        if line.is_none_or(|line| line.elapsed() >= REPEATED_EVERY) && self.may_write(pulse.kind) {
            failure.line = Some(Instant::now());
            let (kind, seconds) = (pulse.kind, state.heard.elapsed().as_secs());
            tracing::warn!(kind, scope = %pulse.scope, seconds, "a watch fails and is tried again: {}", failure.text());
        }
        state.failure = Some(failure);
    }

    fn may_write(&self, kind: &'static str) -> bool {
        let now = Instant::now();
        let mut lines = locked(&self.lines);
        let may = lines.get(kind).is_none_or(|line| now - *line >= LINE_EVERY);
        if may {
            lines.insert(kind, now);
        }
        may
    }

    /// For each kind the age of the last word of the watch that has heard nothing for the longest time.
    pub fn ages(&self) -> Vec<(&'static str, Duration)> {
        let mut oldest: HashMap<&'static str, Duration> = HashMap::new();
        for pulse in locked(&self.pulses).iter() {
            let age = locked(&pulse.state).heard.elapsed();
            let worst = oldest.entry(pulse.kind).or_default();
            *worst = age.max(*worst);
        }
        oldest.into_iter().collect()
    }

    /// Which watch is silent, if one is.
    ///
    /// A watch that is refused does not count as long as another one of its kind works: one namespace that is gone, or
    /// whose Role is, must not make the operator unready for all others.
    pub fn silent(&self) -> Option<String> {
        let pulses = locked(&self.pulses);
        let silent: Vec<&Arc<Pulse>> = pulses.iter().filter(|pulse| pulse.is_silent()).collect();
        let of_a_kind = |kind, among: &[&Arc<Pulse>]| among.iter().filter(|pulse| pulse.kind == kind).count();
        let all: Vec<&Arc<Pulse>> = pulses.iter().collect();
        let counts =
            |pulse: &Pulse| !pulse.is_refused() || of_a_kind(pulse.kind, &silent) == of_a_kind(pulse.kind, &all);
        silent.iter().find(|pulse| counts(pulse)).map(|pulse| pulse.describe())
    }
}

impl Pulse {
    fn is_silent(&self) -> bool {
        locked(&self.state).heard.elapsed() > SILENT_AFTER
    }

    fn is_refused(&self) -> bool {
        locked(&self.state).failure.as_ref().is_some_and(|failure| failure.refused)
    }

    fn describe(&self) -> String {
        let state = locked(&self.state);
        let (kind, scope, seconds) = (self.kind, &self.scope, state.heard.elapsed().as_secs());
        let why = state.failure.as_ref().map_or("the API server does not answer".to_owned(), Failure::text);
        format!("the watch of {kind} objects in {scope} has heard nothing for {seconds} s: {why}")
    }
}

impl Failure {
    /// What happened and what to do.
    fn text(&self) -> String {
        let todo = if self.refused {
            "check that the CustomResourceDefinition and the operator's Role are there, and take a namespace that is \
             gone out of watchNamespaces"
        } else {
            "check that the API server works and that the operator can reach it"
        };
        format!("{}: {todo}", self.message)
    }
}

#[cfg(test)]
mod tests;
