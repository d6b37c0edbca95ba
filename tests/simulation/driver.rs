//! Runs a controller against the API server until nothing is left to do: pass by pass, in virtual time.

use crate::apiserver::{ApiServer, Change, ChangeType, Check, Key, Object, Record, Refuses, Signal, Store};
use crate::clock::Clock;
use crate::fault::Fault;
use crate::join::{Known, Moment, Rest};
use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

/// No run needs more passes and moments than this.
const STEPS_MAX: usize = 2000;
/// Time from the loss of the Lease, or from a crash, to a new process.
const RESTART: Duration = Duration::from_secs(1);
/// Time between two passes while the cache lags.
const LAG: Duration = Duration::from_secs(10);
/// How long another leader works while the one before it stands still: its Lease is over then, and it knows.
const TAKEN_OVER: Duration = Duration::from_mins(10);

/// How a pass ended.
#[derive(Clone, Debug)]
pub enum After {
    /// Well; to be repeated after this time, or when something changes.
    Done(Option<Duration>),
    /// Not well; to be repeated after this time.
    Failed(String, Duration),
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(None) => f.write_str("well"),
            Self::Done(Some(again)) => write!(f, "well, again in {} s", again.as_secs()),
            Self::Failed(error, again) => write!(f, "{error}, again in {} s", again.as_secs()),
        }
    }
}

/// A controller and the world around it: all that differs between the kinds.
pub trait Subject: Sized {
    /// The controller in one process of the operator. After a pass that ended well it remembers nothing of its object.
    type Process;

    /// A new process, which remembers nothing.
    fn start(&self, client: Client, leads: Arc<AtomicBool>) -> Self::Process;
    /// One pass over an object as the process has it in its cache.
    fn pass(process: &Self::Process, object: &Object) -> BoxFuture<'static, After>;
    /// The kind whose objects a process has in its cache, too, if a pass looks at any.
    fn looks_at() -> Option<&'static str> {
        None
    }
    /// Hands a process what it has in its cache of that kind.
    fn show(_: &Self::Process, _: Vec<Arc<Object>>) {}
    /// What somebody changes in the spec of an object.
    fn edit(_: &mut Store, _: &Key) {}
    /// What somebody changes in the other objects.
    fn edit_others(_: &mut Store, _: &Key) {}
    /// When the run ends, since the beginning, where the controller looks again for ever.
    fn ends(&self) -> Option<Duration> {
        None
    }
    /// The kind that gets passes.
    fn kind(&self) -> &'static str;
    /// The object that a change triggers a pass of, and after which time; `before` is what was changed, if it was
    /// there.
    fn triggered_by(&self, before: Option<&Object>, change: &Change) -> Option<(Key, Duration)>;
    /// When the world changes next by itself, since the beginning.
    fn next(&self) -> Option<Duration>;
    /// Lets everything happen in the world that is due.
    fn act(&mut self, store: &mut Store);
    /// Until when the operator is down by the scenario, since the beginning.
    fn down_until(&self) -> Duration;
    /// Whether the controller is done with an object for good.
    fn is_over(object: &Value) -> bool;
    /// What holds at every moment.
    fn check(&self) -> Check;
    /// Describes everything that decides how the world goes on and what is checked, but for the stored objects.
    fn describe(&self, out: &mut String);
    /// The same world, with the same memory, in another time.
    fn fork(&self, clock: Clock) -> Self;
}

/// One pass.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Its object.
    pub key: Key,
    /// When it began.
    pub at: Duration,
    /// How many older versions of the object there were.
    pub older: usize,
    /// How many changes of the other objects in the cache there were.
    pub others: usize,
    /// How many changes had triggered a pass before.
    pub triggers: usize,
    /// Its requests, by number.
    pub requests: Vec<usize>,
    /// How it ended.
    pub after: String,
}

/// All that is left of a run.
pub struct Run {
    /// Every request.
    pub records: Vec<Record>,
    /// Every pass.
    pub passes: Vec<Pass>,
    /// How many changes triggered a pass.
    pub triggers: usize,
    /// What broke: invariants and limits.
    pub broken: Vec<String>,
    /// Every object at the end.
    pub end: Vec<Arc<Object>>,
}

/// A run, and what others can make use of.
pub struct Outcome<S> {
    /// The run.
    pub run: Run,
    /// Of the clean run, one before each pass.
    pub snapshots: Vec<Snapshot<S>>,
    /// Where others may join it.
    pub moments: Vec<Moment>,
}

/// What a driver knows between two passes.
#[derive(Clone)]
struct State {
    processes: usize,
    /// When each object gets its next pass, since the beginning.
    queue: BTreeMap<Key, Duration>,
    /// Version of the newest change that was looked at.
    seen: u64,
    passes: Vec<Pass>,
    triggers: usize,
    /// Objects whose last pass in the present process did not end well.
    failing: BTreeSet<Key>,
}

/// Everything right before a pass: a run can go on from here, again and again.
pub struct Snapshot<S> {
    at: Duration,
    subject: S,
    past: (Store, Vec<Record>),
    state: State,
}

/// Drives one run.
pub struct Driver<'a, S: Subject> {
    clock: Clock,
    server: ApiServer,
    subject: S,
    fault: Fault,
    process: Option<(S::Process, Arc<AtomicBool>)>,
    /// When the next process starts, while there is none.
    up_at: Duration,
    state: State,
    broken: Vec<String>,
    snapshots: Vec<Snapshot<S>>,
    known: &'a Known,
    moments: Vec<Moment>,
    /// How it goes on, once it has come to a known state.
    rest: Option<Rest>,
}

impl<'a, S: Subject> Driver<'a, S> {
    /// A driver of a new world.
    pub fn begin(clock: Clock, store: Store, subject: S, refuses: Refuses, fault: Fault, known: &'a Known) -> Self {
        let (queue, passes, failing) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        let state = State { processes: 0, queue, seen: 0, passes, triggers: 0, failing };
        Self::new(clock, (store, Vec::new()), subject, state, refuses, fault, known)
    }

    /// A driver that goes on from a snapshot, with a fault ahead. Its clock starts at the snapshot's [`Snapshot::at`].
    pub fn resume(clock: Clock, snapshot: &Snapshot<S>, refuses: Refuses, fault: Fault, known: &'a Known) -> Self {
        let (store, records) = &snapshot.past;
        let past = (store.fork(clock), records.clone());
        let (subject, state) = (snapshot.subject.fork(clock), snapshot.state.clone());
        let mut driver = Self::new(clock, past, subject, state, refuses, fault, known);
        // The process of the snapshot: it goes on, and lists nothing.
        driver.process = Some(driver.process_number(snapshot.state.processes - 1));
        driver
    }

    fn new(
        clock: Clock,
        past: (Store, Vec<Record>),
        subject: S,
        state: State,
        refuses: Refuses,
        fault: Fault,
        known: &'a Known,
    ) -> Self {
        let (of_requests, mut outage) = (fault.clone(), None);
        let mishaps = Box::new(move |record: &Record| of_requests.mishap(record, &mut outage));
        let server = ApiServer::new(clock, past, mishaps, refuses, subject.check());
        server.set_edits([S::edit, S::edit_others]);
        if matches!(fault, Fault::ReversedLists) {
            server.reverse_lists();
        }
        Self {
            clock,
            server,
            subject,
            fault,
            process: None,
            up_at: Duration::ZERO,
            state,
            broken: Vec::new(),
            snapshots: Vec::new(),
            known,
            moments: Vec::new(),
            rest: None,
        }
    }

    /// Runs until nothing is left to do, then looks whether a further pass stays quiet; or until it joins a known run.
    pub async fn run(mut self) -> Outcome<S> {
        self.settle(None).await;
        if self.rest.is_none() {
            self.stays_quiet().await;
        }
        self.broken.extend(self.server.broken());
        let run = Run {
            records: self.server.records(),
            passes: self.state.passes,
            triggers: self.state.triggers,
            broken: self.broken,
            end: self.server.with(|store| store.objects().map(Arc::clone).collect()),
        };
        let run = match &self.rest {
            Some(rest) => rest.complete(run),
            None => run,
        };
        Outcome { run, snapshots: self.snapshots, moments: self.moments }
    }

    /// Passes and moments, one after the other, until none is left or the time has come.
    async fn settle(&mut self, until: Option<Duration>) {
        for _ in 0..STEPS_MAX {
            self.world_acts();
            let now = self.clock.elapsed();
            let down_until = self.subject.down_until();
            if now < down_until && self.up_at < down_until {
                self.crash(down_until.saturating_sub(now));
            }
            if self.process.is_none() && now >= self.up_at {
                self.start();
            }
            let due = self.state.queue.iter().find(|(_, at)| **at <= now).map(|(key, _)| key.clone());
            if let (Some(key), true) = (due, self.process.is_some()) {
                self.keep_snapshot();
                // While another replica stands still there is more ahead than the state tells.
                if until.is_none() && self.joins() {
                    return;
                }
                self.state.queue.remove(&key);
                self.pass(key).await;
                continue;
            }
            let queued = self.state.queue.values().min().copied();
            let restart = self.process.is_none().then_some(self.up_at);
            let Some(next) = [queued, restart, self.subject.next()].into_iter().flatten().min() else { return };
            if [until, self.subject.ends()].into_iter().flatten().any(|end| next > end) {
                return;
            }
            self.clock.wait_until(next).await;
        }
        self.broken.push(format!("no end after {STEPS_MAX} steps"));
    }

    fn keep_snapshot(&mut self) {
        if matches!(self.fault, Fault::None) {
            let (at, subject) = (self.clock.elapsed(), self.subject.fork(self.clock));
            let (past, state) = (self.server.past(self.clock), self.state.clone());
            self.snapshots.push(Snapshot { at, subject, past, state });
        }
    }

    /// Whether everything is as it was in a known run. If not, others may join this one here.
    fn joins(&mut self) -> bool {
        let began = self.fault.request().and_then(|request| self.server.came_at(request));
        let passes = self.state.passes.len();
        let over = self.fault.is_over(self.clock.elapsed(), began, passes, self.state.triggers);
        if !over || !self.state.failing.is_empty() || !self.broken.is_empty() || !self.server.broken().is_empty() {
            return false;
        }
        let mut state = format!("{:?} {} ", self.clock.elapsed(), self.state.seen);
        for (key, at) in &self.state.queue {
            write!(state, "{} {at:?} ", key.name).unwrap();
        }
        self.server.with(|store| store.describe(&mut state));
        self.subject.describe(&mut state);
        self.rest = self.known.rest_from(&state);
        self.moments.push(Moment { state, records: self.server.requests(), passes });
        self.rest.is_some()
    }

    /// Lets the world act and queues what its changes, and ours, trigger.
    fn world_acts(&mut self) {
        let changes = self.server.with(|store| {
            self.subject.act(store);
            let changes = store.changes_since(self.state.seen).unwrap_or_default().iter();
            let with_before = changes.map(|change| (store.before(change).map(Arc::clone), change.clone()));
            with_before.collect::<Vec<_>>()
        });
        for (before, change) in changes {
            self.state.seen = change.version;
            let Some((key, after)) = self.subject.triggered_by(before.as_deref(), &change) else { continue };
            let root = change.object["kind"] == self.subject.kind();
            let created = root && change.what == ChangeType::Added;
            // A watch never loses a whole object: kube lists again when it breaks.
            if !created {
                self.state.triggers += 1;
                if matches!(self.fault, Fault::DroppedTrigger { at } if at + 1 == self.state.triggers) {
                    continue;
                }
            }
            let next = self.state.passes.len();
            let other = S::looks_at().is_some_and(|kind| change.object["kind"] == kind);
            let heard = !(root && !created && self.cache_stands_still(&key, next) || other && self.is_behind(next));
            if heard && self.process.is_some() {
                self.enqueue(key, after);
            }
        }
    }

    /// The earliest request for a pass wins, as in kube's scheduler.
    fn enqueue(&mut self, key: Key, after: Duration) {
        let at = self.clock.elapsed() + after;
        let slot = self.state.queue.entry(key).or_insert(at);
        *slot = (*slot).min(at);
    }

    fn process_number(&self, number: usize) -> (S::Process, Arc<AtomicBool>) {
        let leads = Arc::new(AtomicBool::new(true));
        self.server.set_leads(Arc::clone(&leads));
        (self.subject.start(self.server.client(number), Arc::clone(&leads)), leads)
    }

    /// A new process lists all objects, so each gets a pass.
    fn start(&mut self) {
        self.process = Some(self.process_number(self.state.processes));
        self.state.processes += 1;
        self.state.failing.clear();
        let kind = self.subject.kind();
        let keys: Vec<Key> = self.server.with(|store| store.list(kind).map(Key::of).collect());
        for key in keys {
            self.enqueue(key, Duration::ZERO);
        }
    }

    /// The process ends; what it had queued is lost.
    fn crash(&mut self, down: Duration) {
        self.process = None;
        self.state.queue.clear();
        self.up_at = self.clock.elapsed() + down;
    }

    async fn pass(&mut self, key: Key) {
        let Some(object) = self.cached(&key) else { return };
        let number = self.state.passes.len();
        let (first, process) = (self.server.requests(), self.state.processes - 1);
        self.server.set_subject(&key);
        self.state.passes.push(Pass {
            key: key.clone(),
            at: self.clock.elapsed(),
            older: self.server.with(|store| store.history(&key).len()) - 1,
            others: S::looks_at().map_or(0, |kind| self.server.with(|store| store.changes_of(kind))),
            triggers: self.state.triggers,
            requests: Vec::new(),
            after: String::new(),
        });
        let after = self.run_pass(&object).await;
        self.state.passes[number].requests = self.server.requests_of(process, first);
        self.state.passes[number].after = after.as_ref().map_or("its process ended".to_owned(), After::to_string);
        self.note(&key, after.as_ref());
        match after {
            Some(After::Done(Some(again)) | After::Failed(_, again)) => self.enqueue(key.clone(), again),
            Some(After::Done(None)) | None => {}
        }
        let twice = matches!(self.fault, Fault::Twice { at } if at == number);
        if twice && self.process.is_some() {
            let after = self.run_pass(&object).await;
            self.note(&key, after.as_ref());
            let then = after.as_ref().map_or("its process ended".to_owned(), After::to_string);
            write!(self.state.passes[number].after, ", then {then}").unwrap();
            self.enqueue(key.clone(), Duration::ZERO);
        }
        let late = |driver: &Self, number| driver.cache_stands_still(&key, number) || driver.is_behind(number);
        if late(self, number) {
            // Sooner or later the event comes.
            let again = if late(self, number + 1) { LAG } else { Duration::ZERO };
            self.enqueue(key, again);
        }
    }

    fn note(&mut self, key: &Key, after: Option<&After>) {
        match after {
            Some(After::Failed(..)) => self.state.failing.insert(key.clone()),
            Some(After::Done(_)) => self.state.failing.remove(key),
            None => false,
        };
    }

    /// Runs a pass to its end, or to the end of its process (`None`).
    async fn run_pass(&mut self, object: &Object) -> Option<After> {
        let (process, leads) = self.process.as_ref().unwrap();
        let leads = Arc::clone(leads);
        self.show(process);
        let mut pass = S::pass(process, object);
        let mut replaced = false;
        loop {
            let outcome = poll_fn(|context| match pass.as_mut().poll(context) {
                Poll::Ready(after) => Poll::Ready(Ok(after)),
                Poll::Pending => self.server.signal().map_or(Poll::Pending, |signal| Poll::Ready(Err(signal))),
            })
            .await;
            match outcome {
                Ok(_) if replaced => return None,
                Ok(after) if leads.load(Ordering::Relaxed) => return Some(after),
                Ok(_) => {
                    self.crash(RESTART);
                    return None;
                }
                Err(Signal::Crash) => {
                    let down = match self.fault {
                        Fault::Request { down, .. } => down,
                        Fault::Pair { .. } => 0,
                        _ => unreachable!("only requests crash"),
                    };
                    self.crash(RESTART.max(Duration::from_secs(down)));
                    return None;
                }
                Err(Signal::Paused(go_on)) => {
                    replaced = true;
                    self.another_works(&leads).await;
                    go_on.notify_one();
                }
            }
        }
    }

    /// Another replica takes over and works, while the pass before it stands still with a request under way.
    async fn another_works(&mut self, leads: &AtomicBool) {
        let whole = matches!(self.fault, Fault::TwoLeaders { whole: true, .. });
        self.state.queue.clear();
        self.start();
        let until = self.clock.elapsed() + if whole { TAKEN_OVER } else { Duration::ZERO };
        Box::pin(self.settle(Some(until))).await;
        leads.store(!whole, Ordering::Relaxed);
    }

    /// Brings the cache of the other objects up to date, or as far as it follows.
    fn show(&self, process: &S::Process) {
        let Some(kind) = S::looks_at() else { return };
        let number = self.state.passes.len().saturating_sub(1);
        let ended = self.subject.ends().is_some_and(|end| self.clock.elapsed() >= end) && self.state.queue.is_empty();
        let others = self.server.with(|store| {
            let newest = store.changes_of(kind);
            let lag = self.fault.others_lag().filter(|lag| lag.covers(number) && !ended);
            let Some(lag) = lag else { return store.after_changes(kind, newest) };
            let then = self.state.passes.get(lag.at).map_or(newest, |pass| pass.others);
            store.after_changes(kind, then.saturating_sub(lag.by))
        });
        S::show(process, others);
    }

    /// Whether a pass with this number sees the other objects late: all follow the first one's cache.
    fn is_behind(&self, number: usize) -> bool {
        self.fault.others_lag().is_some_and(|lag| lag.covers(number))
    }

    /// The object as the process has it in its cache.
    fn cached(&self, key: &Key) -> Option<Arc<Object>> {
        let number = self.state.passes.len();
        self.server.with(|store| {
            let newest = Arc::clone(store.get(key)?);
            let lag = self.fault.object_lag().filter(|_| self.cache_stands_still(key, number));
            let Some(lag) = lag else { return Some(newest) };
            // The cache stands still: it does not follow what happens from the first of these passes on.
            let history = store.history(key);
            let then = self.state.passes.get(lag.at).map_or(history.len(), |pass| pass.older + 1);
            Some(Arc::clone(&history[then.saturating_sub(lag.by + 1)].object))
        })
    }

    /// Whether a pass with this number over this object gets an old version: all follow the first one's object.
    fn cache_stands_still(&self, key: &Key, number: usize) -> bool {
        self.fault
            .object_lag()
            .is_some_and(|lag| lag.covers(number) && self.state.passes.get(lag.at).is_none_or(|pass| pass.key == *key))
    }

    /// At the end a further pass over each object writes nothing, and asks nothing when the object is finished.
    async fn stays_quiet(&mut self) {
        if self.process.is_none() {
            self.start();
        }
        self.state.queue.clear();
        self.clock.wait_until(self.subject.ends().unwrap_or_default()).await;
        let kind = self.subject.kind();
        let all: Vec<Arc<Object>> = self.server.with(|store| store.objects().map(Arc::clone).collect());
        for object in all.iter().filter(|object| object["kind"] == kind) {
            let first = self.server.requests();
            let over = S::is_over(object);
            let _ = self.run_pass(object).await;
            let further = self.server.records().split_off(first);
            if let Some(record) = further.iter().find(|record| over || record.call.writes()) {
                self.broken.push(format!("at the end a further pass wants to {}", record.call));
            }
        }
    }
}

impl<S> Snapshot<S> {
    /// When it was taken.
    pub const fn at(&self) -> Duration {
        self.at
    }
}
