//! Which object gets a pass, and when: each at most one at a time, none held up by another namespace.

use super::store::Key;
use futures::future::BoxFuture;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Passes at the same time in one namespace.
const PER_NAMESPACE: usize = 16;
/// Passes at the same time in all namespaces. More of them would open more connections and take more memory, and end no
/// sooner: the API server is what they wait for. Beyond them each namespace still has one: passes that hang in some
/// namespaces, because what they ask does not answer, hold up none in another.
const IN_ALL: usize = 64;
/// How long to wait for the next moment when none is known.
const IDLE: Duration = Duration::from_secs(3600);

/// What a pass does.
pub trait Passes: Send + Sync + 'static {
    /// One pass over an object: when to look again without any event. It has to be bounded in time.
    fn pass(&self, key: &Key) -> BoxFuture<'static, Option<Duration>>;
}

/// Objects that wait for a pass.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

/// When something happens, and a number that makes it unique.
type Moment = (Instant, u64);

#[derive(Debug, Default)]
struct State {
    numbers: u64,
    /// Objects whose time has not come, by it.
    later: BTreeMap<Moment, Key>,
    /// Every object that waits; nothing where its time has come.
    waiting: HashMap<Key, Option<Moment>>,
    /// Names whose time has come, by namespace.
    ready: HashMap<String, VecDeque<String>>,
    /// Namespaces with such names, in the order of their turns.
    turns: VecDeque<String>,
    /// Objects at work, and when they get another pass after this one.
    running: HashMap<Key, Option<Instant>>,
    /// Number of objects at work by namespace.
    busy: HashMap<String, usize>,
}

impl Queue {
    /// Asks for a pass after some time. The earliest wish counts; one that comes during a pass brings another pass.
    pub fn add(&self, key: Key, after: Duration) {
        self.state().add(key, Instant::now() + after);
        self.changed.notify_one();
    }

    /// Runs passes until `shutdown` resolves, then lets those end that run.
    pub async fn run(&self, passes: Arc<impl Passes>, shutdown: impl Future<Output = ()>) {
        let mut running: JoinSet<(Key, Option<Duration>)> = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            while let Some(key) = self.start() {
                let pass = passes.pass(&key);
                running.spawn(async move { (key, pass.await) });
            }
            let next = self.state().next().unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = &mut shutdown => break,
                () = self.changed.notified() => {}
                () = sleep_until(next) => {}
                Some(ended) = running.join_next() => match ended {
                    Ok((key, again)) => self.state().end(key, again.map(|again| Instant::now() + again)),
                    Err(error) => tracing::error!(%error, "a pass broke off"),
                },
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Takes the next object that may have a pass now. The state is free again when the pass begins, which may add to it.
    fn start(&self) -> Option<Key> {
        self.state().start(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: Key, at: Instant) {
        if let Some(again) = self.running.get_mut(&key) {
            *again = Some(again.map_or(at, |other| other.min(at)));
            return;
        }
        match self.waiting.get(&key) {
            Some(None) => return,
            Some(Some(known)) if known.0 <= at => return,
            Some(Some(known)) => {
                self.later.remove(known);
            }
            None => {}
        }
        self.numbers += 1;
        let moment = (at, self.numbers);
        self.later.insert(moment, key.clone());
        self.waiting.insert(key, Some(moment));
    }

    /// When the next object's time comes.
    fn next(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next object that may have a pass now.
    fn start(&mut self, now: Instant) -> Option<Key> {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            self.waiting.insert(key.clone(), None);
            let names = self.ready.entry(key.namespace.clone()).or_default();
            if names.is_empty() {
                self.turns.push_back(key.namespace);
            }
            names.push_back(key.name);
        }
        for _ in 0..self.turns.len() {
            let namespace = self.turns.pop_front()?;
            if !self.may_start(&namespace) {
                self.turns.push_back(namespace);
                continue;
            }
            let Some(names) = self.ready.get_mut(&namespace) else { continue };
            let Some(name) = names.pop_front() else { continue };
            if names.is_empty() {
                self.ready.remove(&namespace);
            } else {
                self.turns.push_back(namespace.clone());
            }
            *self.busy.entry(namespace.clone()).or_default() += 1;
            let key = Key { namespace, name };
            self.waiting.remove(&key);
            self.running.insert(key.clone(), None);
            return Some(key);
        }
        None
    }

    fn may_start(&self, namespace: &str) -> bool {
        match self.busy.get(namespace) {
            None => true,
            Some(busy) => *busy < PER_NAMESPACE && self.running.len() < IN_ALL,
        }
    }

    /// A pass has ended; `again` is when it wants another one.
    fn end(&mut self, key: Key, again: Option<Instant>) {
        let asked = self.running.remove(&key).flatten();
        if let Entry::Occupied(mut busy) = self.busy.entry(key.namespace.clone()) {
            *busy.get_mut() -= 1;
            if *busy.get() == 0 {
                busy.remove();
            }
        }
        if let Some(at) = [asked, again].into_iter().flatten().min() {
            self.add(key, at);
        }
    }
}

#[cfg(test)]
mod tests;
