//! How many objects may work at the same time, in all namespaces together.
//!
//! What works is told by the watch. An object that finds no place waits for its turn without looking: when a place is
//! free, the next one in turn has it. The namespaces take turns, so that a thousand objects in one of them hold up
//! none in another. Nothing is stored: a process that starts learns from its first lists what works. Until all of them
//! are in, no place is free.

use super::queue::Queue;
use super::store::{Key, Scope};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// So long after the first list no place is free because another one is not in: one namespace that cannot be listed
/// holds up no other one.
const LISTS_BOUND: Duration = Duration::from_secs(30);
/// So long an object keeps its place whose start may have been recorded. One that always fails must not hold up the
/// others.
const DOUBT: Duration = Duration::from_mins(2);

/// The places of the objects whose passes are in one queue.
#[derive(Debug)]
pub struct Limit {
    places: Mutex<Places>,
    queue: Arc<Queue>,
    first_list: Notify,
}

impl Limit {
    /// A limit of so many places. An object that gets one after it has waited gets a pass in `queue`.
    pub fn new(number: usize, queue: Arc<Queue>) -> Self {
        Self { places: Mutex::new(Places { number, ..Places::default() }), queue, first_list: Notify::new() }
    }

    /// Number of places.
    pub fn number(&self) -> usize {
        self.places().number
    }

    /// What works in these scopes is not known yet.
    pub fn expect(&self, scopes: &[Scope]) {
        self.places().unlisted.extend(scopes.iter().cloned());
    }

    /// What works in a scope is known.
    pub fn listed(&self, scope: &Scope) {
        self.first_list.notify_one();
        self.wake(|places| places.listed(scope));
    }

    /// Waits until every list should be in, and goes on without those that are not. Until there is one, nothing works.
    pub async fn expect_no_longer(&self) {
        self.first_list.notified().await;
        tokio::time::sleep(LISTS_BOUND).await;
        self.wake(Places::expect_no_longer);
    }

    /// Asks for a place. An object that gets none waits for its turn.
    pub fn admit(&self, key: &Key) -> bool {
        self.places().admit(key)
    }

    /// Notes whether an object works.
    pub fn works(&self, key: &Key, works: bool) {
        self.wake(|places| places.works(key, works));
    }

    /// Gives back the place of an object that did not begin to work with it.
    pub fn release(&self, key: &Key) {
        self.wake(|places| places.release(key));
    }

    /// Notes that it is not known whether an object has begun to work with its place. It keeps the place until the watch
    /// or a pass tells, for [`DOUBT`] at most.
    pub fn doubt(&self, key: &Key) {
        self.wake(|places| places.doubt(key, Instant::now()));
    }

    /// Gives back the place of an object whose pass has failed, unless it is in doubt whether it works.
    pub fn release_undoubted(&self, key: &Key) {
        self.wake(|places| if places.doubted.contains_key(key) { Vec::new() } else { places.release(key) });
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        self.wake(|places| places.forget(key));
    }

    fn wake(&self, change: impl FnOnce(&mut Places) -> Vec<Key>) {
        let admitted = change(&mut self.places());
        for key in admitted {
            self.queue.add(key, Duration::ZERO);
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The places, and who waits for one. What gives an object a place returns it.
#[derive(Debug, Default)]
struct Places {
    number: usize,
    /// Scopes of which it is not known what works.
    unlisted: HashSet<Scope>,
    /// Objects that work, as the watch shows it.
    working: HashSet<Key>,
    /// Objects that have a place and do not work yet.
    admitted: HashSet<Key>,
    /// Those of them of which it is not known whether they work, and since when.
    doubted: HashMap<Key, Instant>,
    /// Names of objects that wait, by namespace, in the order in which they came.
    waiting: HashMap<String, VecDeque<String>>,
    /// Namespaces of such objects, in the order of their turns.
    turns: VecDeque<String>,
}

impl Places {
    fn admit(&mut self, key: &Key) -> bool {
        if self.working.contains(key) || self.admitted.contains(key) {
            return true;
        }
        if self.has_room() && self.turns.is_empty() {
            return self.admitted.insert(key.clone());
        }
        self.wait(key);
        false
    }

    fn works(&mut self, key: &Key, works: bool) -> Vec<Key> {
        if works {
            self.doubted.remove(key);
            self.admitted.remove(key);
            self.leave(key);
            self.working.insert(key.clone());
            return Vec::new();
        }
        if self.working.remove(key) { self.fill() } else { Vec::new() }
    }

    fn doubt(&mut self, key: &Key, now: Instant) -> Vec<Key> {
        if !self.admitted.contains(key) {
            return Vec::new();
        }
        let since = *self.doubted.entry(key.clone()).or_insert(now);
        if now - since < DOUBT { Vec::new() } else { self.release(key) }
    }

    fn release(&mut self, key: &Key) -> Vec<Key> {
        self.doubted.remove(key);
        if self.admitted.remove(key) { self.fill() } else { Vec::new() }
    }

    fn forget(&mut self, key: &Key) -> Vec<Key> {
        self.leave(key);
        self.doubted.remove(key);
        let had_place = self.working.remove(key) | self.admitted.remove(key);
        if had_place { self.fill() } else { Vec::new() }
    }

    fn listed(&mut self, scope: &Scope) -> Vec<Key> {
        if self.unlisted.remove(scope) { self.fill() } else { Vec::new() }
    }

    fn expect_no_longer(&mut self) -> Vec<Key> {
        self.unlisted.clear();
        self.fill()
    }

    fn has_room(&self) -> bool {
        self.unlisted.is_empty() && self.working.len() + self.admitted.len() < self.number
    }

    fn wait(&mut self, key: &Key) {
        let names = self.waiting.entry(key.namespace.clone()).or_default();
        if names.contains(&key.name) {
            return;
        }
        if names.is_empty() {
            self.turns.push_back(key.namespace.clone());
        }
        names.push_back(key.name.clone());
    }

    fn leave(&mut self, key: &Key) {
        let Some(names) = self.waiting.get_mut(&key.namespace) else { return };
        names.retain(|name| *name != key.name);
        if names.is_empty() {
            self.waiting.remove(&key.namespace);
            self.turns.retain(|namespace| *namespace != key.namespace);
        }
    }

    /// Gives the free places to those that wait.
    fn fill(&mut self) -> Vec<Key> {
        let mut admitted = Vec::new();
        while self.has_room() {
            let Some(namespace) = self.turns.pop_front() else { break };
            let Some(names) = self.waiting.get_mut(&namespace) else { continue };
            let Some(name) = names.pop_front() else { continue };
            if names.is_empty() {
                self.waiting.remove(&namespace);
            } else {
                self.turns.push_back(namespace.clone());
            }
            let key = Key { namespace, name };
            self.admitted.insert(key.clone());
            admitted.push(key);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        let (namespace, name) = text.split_once('/').unwrap();
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn places(number: usize) -> Places {
        Places { number, ..Places::default() }
    }

    fn names(keys: &[Key]) -> Vec<String> {
        keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn namespaces_take_turns_and_each_keeps_its_order() {
        let mut limit = places(2);
        assert!(limit.admit(&key("a/1")) && limit.admit(&key("a/2")));
        for waits in ["a/3", "a/4", "a/5", "b/1", "c/1"] {
            assert!(!limit.admit(&key(waits)), "{waits}");
        }
        // Asking again does not change the turn.
        assert!(!limit.admit(&key("c/1")));
        let mut order = Vec::new();
        let mut working = VecDeque::from([key("a/1"), key("a/2")]);
        while let Some(ended) = working.pop_front() {
            assert!(limit.works(&ended, true).is_empty());
            let next = limit.works(&ended, false);
            order.extend(names(&next));
            working.extend(next);
        }
        assert_eq!(order, ["a/3", "b/1", "c/1", "a/4", "a/5"]);
        assert!(limit.admit(&key("a/6")));
    }

    #[test]
    fn a_place_that_is_not_used_goes_to_the_next() {
        let mut limit = places(1);
        assert!(limit.admit(&key("a/1")) && !limit.admit(&key("b/1")) && !limit.admit(&key("b/2")));
        assert_eq!(names(&limit.release(&key("a/1"))), ["b/1"]);
        // It waits again, behind the others.
        assert!(!limit.admit(&key("a/1")) && limit.admit(&key("b/1")));
        assert_eq!(names(&limit.forget(&key("b/1"))), ["b/2"]);
        assert_eq!(names(&limit.forget(&key("b/2"))), ["a/1"]);
    }

    #[test]
    fn one_that_may_work_keeps_its_place_for_a_while() {
        let (mut limit, start) = (places(1), Instant::now());
        assert!(limit.admit(&key("a/1")) && !limit.admit(&key("b/1")));
        for seconds in [0, 1, 3, 119] {
            assert!(limit.doubt(&key("a/1"), start + Duration::from_secs(seconds)).is_empty());
            assert!(limit.admit(&key("a/1")));
        }
        assert_eq!(names(&limit.doubt(&key("a/1"), start + DOUBT)), ["b/1"]);
        // The watch has told of this one.
        assert!(limit.doubt(&key("b/1"), start).is_empty() && limit.works(&key("b/1"), true).is_empty());
        assert!(limit.doubt(&key("b/1"), start).is_empty() && !limit.admit(&key("a/1")));
        assert_eq!(names(&limit.works(&key("b/1"), false)), ["a/1"]);
    }

    #[test]
    fn what_works_already_counts_though_there_are_more_than_places() {
        let mut limit = places(1);
        assert!(limit.works(&key("a/1"), true).is_empty() && limit.works(&key("a/2"), true).is_empty());
        assert!(!limit.admit(&key("a/3")) && limit.admit(&key("a/2")));
        assert!(limit.works(&key("a/1"), false).is_empty());
        assert_eq!(names(&limit.works(&key("a/2"), false)), ["a/3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_place_is_free_until_it_is_known_what_works_everywhere() {
        let scopes = ["a", "b"].map(|namespace| Scope::Namespace(namespace.to_owned()));
        let limit = Limit::new(2, Arc::default());
        limit.expect(&scopes);
        assert!(!limit.admit(&key("a/1")) && !limit.admit(&key("a/2")));
        limit.works(&key("b/1"), true);
        limit.listed(&scopes[0]);
        assert!(!limit.admit(&key("a/1")));
        limit.listed(&scopes[1]);
        assert!(limit.admit(&key("a/1")) && !limit.admit(&key("a/2")) && limit.admit(&key("b/1")));
        // A later list of a scope changes nothing.
        limit.listed(&scopes[1]);
        assert!(!limit.admit(&key("a/2")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_cannot_be_listed_holds_up_no_other_one() {
        let limit = Limit::new(1, Arc::default());
        let [gone, a] = ["gone", "a"].map(|name| Scope::Namespace(name.to_owned()));
        limit.expect(&[gone, a.clone()]);
        let begin = Instant::now();
        let late = async {
            // The API server was away: the time of the other list counts from this one.
            tokio::time::sleep(Duration::from_secs(60)).await;
            limit.listed(&a);
            assert!(!limit.admit(&key("a/1")));
        };
        tokio::join!(limit.expect_no_longer(), late);
        assert_eq!(begin.elapsed(), Duration::from_secs(60) + LISTS_BOUND);
        assert!(limit.admit(&key("a/1")) && !limit.admit(&key("a/2")));
    }

    #[test]
    fn one_that_is_gone_does_not_wait() {
        let mut limit = places(1);
        assert!(limit.admit(&key("a/1")) && !limit.admit(&key("a/2")) && !limit.admit(&key("a/3")));
        assert!(limit.forget(&key("a/2")).is_empty());
        assert_eq!(names(&limit.release(&key("a/1"))), ["a/3"]);
    }
}
