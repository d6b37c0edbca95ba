//! Runs a controller against the API server until nothing is left to do: pass by pass, in virtual time.

use crate::apiserver::{ApiServer, ChangeType, Key, Record, Signal, Store};
use crate::clock::Clock;
use crate::fault::Fault;
use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// No run needs more passes and moments than this.
const STEPS_MAX: usize = 2000;
/// Time from the loss of the Lease, or from a crash, to a new process.
const RESTART: Duration = Duration::from_secs(1);
/// Time between two passes while the cache lags.
const LAG: Duration = Duration::from_secs(10);

/// How a pass ended.
#[derive(Clone, Debug)]
pub enum After {
    /// Well; to be repeated after this time, or when something changes.
    Done(Option<Duration>),
    /// Not well; to be repeated after this time.
    Failed(String, Duration),
}

/// A controller and the world around it: all that differs between the kinds.
pub trait Subject {
    /// The controller in one process of the operator.
    type Process;

    /// A new process, which remembers nothing.
    fn start(&self, client: Client, leads: Arc<AtomicBool>) -> Self::Process;
    /// One pass over an object as the process has it in its cache.
    fn pass(process: &Self::Process, object: &Value) -> BoxFuture<'static, After>;
    /// The kind that gets passes.
    fn kind(&self) -> &'static str;
    /// The object that a change triggers a pass of.
    fn triggered_by(&self, changed: &Value) -> Option<Key>;
    /// When the world changes next by itself.
    fn next(&self) -> Option<Instant>;
    /// Lets everything happen in the world that is due.
    fn act(&mut self, store: &mut Store);
    /// From when to when the operator is down, seconds.
    fn down(&self) -> Option<(u64, u64)>;
    /// Whether the controller is done with an object for good.
    fn is_over(object: &Value) -> bool;
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
    /// Its requests, by number.
    pub requests: Vec<usize>,
    /// How it ended.
    pub after: String,
}

/// All that is left of a run.
#[derive(Clone, Debug)]
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
    pub end: Vec<Arc<Value>>,
}

/// Drives one run.
pub struct Driver<S: Subject> {
    clock: Clock,
    server: ApiServer,
    subject: S,
    fault: Fault,
    process: Option<(S::Process, Arc<AtomicBool>)>,
    processes: usize,
    /// When the next process starts, while there is none.
    up_at: Instant,
    queue: BTreeMap<Key, Instant>,
    seen: u64,
    passes: Vec<Pass>,
    triggers: usize,
    broken: Vec<String>,
}

impl<S: Subject> Driver<S> {
    /// A driver; the objects are in the server already.
    pub fn new(clock: Clock, server: ApiServer, subject: S, fault: Fault) -> Self {
        if matches!(fault, Fault::ReversedLists) {
            server.reverse_lists();
        }
        Self {
            clock,
            server,
            subject,
            fault,
            process: None,
            processes: 0,
            up_at: Instant::now(),
            queue: BTreeMap::new(),
            seen: 0,
            passes: Vec::new(),
            triggers: 0,
            broken: Vec::new(),
        }
    }

    /// Runs until nothing is left to do, then looks whether a further pass stays quiet.
    pub async fn run(mut self) -> Run {
        self.settle(None).await;
        self.stays_quiet().await;
        self.broken.extend(self.server.broken());
        Run {
            records: self.server.records(),
            passes: self.passes,
            triggers: self.triggers,
            broken: self.broken,
            end: self.server.with(|store| store.objects().cloned().collect()),
        }
    }

    /// Passes and moments, one after the other, until none is left or the time has come.
    async fn settle(&mut self, until: Option<Instant>) {
        let down = self.subject.down().map(|(down, up)| (self.clock.at(down), self.clock.at(up)));
        for _ in 0..STEPS_MAX {
            self.world_acts();
            let now = Instant::now();
            if let Some((down, up)) = down
                && self.process.is_some()
                && (down..up).contains(&now)
            {
                self.crash(up - now);
            }
            if self.process.is_none() && now >= self.up_at {
                self.start();
            }
            let due = self.queue.iter().find(|(_, at)| **at <= now).map(|(key, _)| key.clone());
            if let (Some(key), true) = (due, self.process.is_some()) {
                self.queue.remove(&key);
                self.pass(key).await;
                continue;
            }
            let queued = self.queue.values().min().copied();
            let restart = self.process.is_none().then_some(self.up_at);
            let stop = down.map(|(down, _)| down).filter(|down| *down > now);
            let Some(next) = [queued, restart, stop, self.subject.next()].into_iter().flatten().min() else { return };
            if until.is_some_and(|until| next > until) {
                return;
            }
            tokio::time::sleep_until(next).await;
        }
        self.broken.push(format!("no end after {STEPS_MAX} steps"));
    }

    /// Lets the world act and queues what its changes, and ours, trigger.
    fn world_acts(&mut self) {
        let changes = self.server.with(|store| {
            self.subject.act(store);
            store.changes_since(self.seen).map(<[_]>::to_vec).unwrap_or_default()
        });
        for change in changes {
            self.seen = change.version;
            let Some(key) = self.subject.triggered_by(&change.object) else { continue };
            let root = change.object["kind"] == self.subject.kind();
            let created = root && change.what == ChangeType::Added;
            // A watch never loses a whole object: kube lists again when it breaks.
            if !created {
                self.triggers += 1;
                if matches!(self.fault, Fault::DroppedTrigger { at } if at + 1 == self.triggers) {
                    continue;
                }
            }
            let heard = created || !root || !self.cache_stands_still(self.passes.len());
            if heard && self.process.is_some() {
                self.enqueue(key, Duration::ZERO);
            }
        }
    }

    /// The earliest request for a pass wins, as in kube's scheduler.
    fn enqueue(&mut self, key: Key, after: Duration) {
        let at = Instant::now() + after;
        let slot = self.queue.entry(key).or_insert(at);
        *slot = (*slot).min(at);
    }

    /// A new process lists all objects, so each gets a pass.
    fn start(&mut self) {
        let leads = Arc::new(AtomicBool::new(true));
        self.server.set_leads(Arc::clone(&leads));
        let process = self.subject.start(self.server.client(self.processes), Arc::clone(&leads));
        self.process = Some((process, leads));
        self.processes += 1;
        let kind = self.subject.kind();
        let keys: Vec<Key> = self.server.with(|store| store.list(kind).map(Key::of).collect());
        for key in keys {
            self.enqueue(key, Duration::ZERO);
        }
    }

    /// The process ends; what it had queued is lost.
    fn crash(&mut self, down: Duration) {
        self.process = None;
        self.queue.clear();
        self.up_at = Instant::now() + down;
    }

    async fn pass(&mut self, key: Key) {
        let Some(object) = self.cached(&key) else { return };
        let number = self.passes.len();
        let history = self.server.with(|store| store.history(&key).len());
        let (first, process) = (self.server.requests(), self.processes - 1);
        self.server.set_subject(&key);
        let at = self.clock.elapsed();
        let (requests, after) = (Vec::new(), String::new());
        self.passes.push(Pass { key: key.clone(), at, older: history - 1, requests, after });
        let after = self.run_pass(&object).await;
        self.passes[number].requests = self.server.requests_of(process, first);
        self.passes[number].after = format!("{after:?}");
        match after {
            Some(After::Done(Some(again)) | After::Failed(_, again)) => self.enqueue(key.clone(), again),
            Some(After::Done(None)) | None => {}
        }
        let twice = matches!(self.fault, Fault::Twice { at } if at == number);
        if twice && self.process.is_some() {
            let after = self.run_pass(&object).await;
            self.passes[number].after.push_str(&format!(", then {after:?}"));
            self.enqueue(key.clone(), Duration::ZERO);
        }
        if self.cache_stands_still(number) {
            // Sooner or later the event comes.
            self.enqueue(key, if self.cache_stands_still(number + 1) { LAG } else { Duration::ZERO });
        }
    }

    /// Runs a pass to its end, or to the end of its process (`None`).
    async fn run_pass(&mut self, object: &Value) -> Option<After> {
        let (process, leads) = self.process.as_ref().unwrap();
        let leads = Arc::clone(leads);
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
                Ok(after) => {
                    if !leads.load(Ordering::Relaxed) {
                        self.crash(RESTART);
                        return None;
                    }
                    return Some(after);
                }
                Err(Signal::Crash) => {
                    let Fault::Request { down, .. } = self.fault else { unreachable!("only requests crash") };
                    self.crash(RESTART.max(Duration::from_secs(down)));
                    return None;
                }
                Err(Signal::Paused(go_on)) => {
                    replaced = true;
                    self.another_works().await;
                    go_on.notify_one();
                }
            }
        }
    }

    /// Another replica takes over and works, while the pass before it stands still.
    async fn another_works(&mut self) {
        let whole = matches!(self.fault, Fault::TwoLeaders { whole: true, .. });
        self.queue.clear();
        self.start();
        let until = Instant::now() + if whole { Duration::from_mins(10) } else { Duration::ZERO };
        Box::pin(self.settle(Some(until))).await;
    }

    /// The object as the process has it in its cache.
    fn cached(&self, key: &Key) -> Option<Arc<Value>> {
        let number = self.passes.len();
        self.server.with(|store| {
            let newest = Arc::clone(store.get(key)?);
            let Fault::Stale { at, versions, .. } = self.fault else { return Some(newest) };
            if !self.cache_stands_still(number) {
                return Some(newest);
            }
            // The cache stands still: it does not follow what happens from the first of these passes on.
            let then = self.passes.get(at).map_or_else(|| store.history(key).len(), |pass| pass.older + 1);
            let old = store.history(key)[then.saturating_sub(versions + 1)];
            Some(Arc::clone(&old.object))
        })
    }

    const fn cache_stands_still(&self, number: usize) -> bool {
        matches!(self.fault, Fault::Stale { at, passes, .. } if at <= number && number < at + passes)
    }

    /// At the end a further pass over each object writes nothing, and asks nothing when the object is finished.
    async fn stays_quiet(&mut self) {
        if self.process.is_none() {
            self.start();
        }
        let kind = self.subject.kind();
        let objects: Vec<Value> = self.server.with(|store| store.list(kind).cloned().collect());
        for object in objects {
            let first = self.server.requests();
            let over = S::is_over(&object);
            let _ = self.run_pass(&object).await;
            let further = self.server.records().split_off(first);
            if let Some(record) = further.iter().find(|record| over || record.call.writes()) {
                self.broken.push(format!("at the end a further pass wants to {}", record.call));
            }
        }
    }
}
