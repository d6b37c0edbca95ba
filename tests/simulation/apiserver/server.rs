//! The tower service under kube's client: serves requests, keeps a record of each, and lets mishaps happen to them.

use super::handle::{answer, shown, status};
use super::refusal::Refusal;
use super::request::{Call, Verb};
use super::store::{Change, ChangeType, Key, Store};
use crate::clock::Clock;
use crate::fault::{self, Mishap};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::Client;
use kube::client::Body;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;
/// Chooses what happens to a request.
pub type Mishaps = Box<dyn FnMut(&Record) -> Option<Mishap> + Send>;
/// Says which requests are refused by quota or RBAC.
pub type Refuses = fn(&Call) -> bool;
/// What somebody does to an object.
pub type Edit = fn(&mut Store, &Key);
/// Says which invariants are broken.
pub type Check = Box<dyn FnMut(&Store) -> Vec<String> + Send>;

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number of the request, from 0.
    pub index: usize,
    /// Number of the process that sent it.
    pub process: usize,
    /// When it came.
    pub at: Duration,
    /// What it asked for.
    pub call: Arc<Call>,
    /// Answer of the server, also when it never reached the process; `None` when nothing was done.
    pub code: Option<u16>,
    /// What went wrong.
    pub mishap: Option<Mishap>,
}

impl Record {
    /// Whether it changed what is stored.
    pub fn applied(&self) -> bool {
        self.call.writes() && self.code.is_some_and(|code| code < 300)
    }
}

/// What a request tells the driver.
#[derive(Clone, Debug)]
pub enum Signal {
    /// The process ends here.
    Crash,
    /// The process stands still until it is notified.
    Paused(Arc<Notify>),
}

struct State {
    store: Store,
    records: Vec<Record>,
    mishaps: Mishaps,
    refuses: Refuses,
    check: Check,
    broken: Vec<String>,
    signal: Option<Signal>,
    subject: Option<Key>,
    edits: [Edit; 2],
    leads: Arc<AtomicBool>,
    reversed: bool,
    watches: tokio::sync::watch::Sender<u64>,
    undefined: Vec<&'static str>,
}

/// The API server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    clock: Clock,
}

impl ApiServer {
    /// A server with these objects and this past.
    pub fn new(
        clock: Clock,
        (store, records): (Store, Vec<Record>),
        mishaps: Mishaps,
        refuses: Refuses,
        check: Check,
    ) -> Self {
        let state = State {
            store,
            records,
            mishaps,
            refuses,
            check,
            broken: Vec::new(),
            signal: None,
            subject: None,
            edits: [|_, _| {}; 2],
            leads: Arc::new(AtomicBool::new(true)),
            reversed: false,
            watches: tokio::sync::watch::Sender::new(0),
            undefined: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), clock }
    }

    /// The real client of a process.
    pub fn client(&self, process: usize) -> Client {
        let server = self.clone();
        Client::new(tower::service_fn(move |request| server.clone().serve(process, request)), "default")
    }

    /// Works on the stored objects, past all requests; invariants are checked afterwards.
    pub fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let state = &mut *self.state.lock().unwrap();
        let before = state.store.version();
        let result = work(&mut state.store);
        if state.store.version() != before {
            let broken = (state.check)(&state.store);
            state.broken.extend(broken);
        }
        result
    }

    /// What a request has to tell, once.
    pub fn signal(&self) -> Option<Signal> {
        self.state.lock().unwrap().signal.take()
    }

    /// The object that is worked on now, for mishaps that happen to it.
    pub fn set_subject(&self, key: &Key) {
        self.state.lock().unwrap().subject = Some(key.clone());
    }

    /// What somebody does to the object, and to others, for the mishaps that they are changed.
    pub fn set_edits(&self, edits: [Edit; 2]) {
        self.state.lock().unwrap().edits = edits;
    }

    /// Whether the present process leads, for the mishap that it does not any more.
    pub fn set_leads(&self, leads: Arc<AtomicBool>) {
        self.state.lock().unwrap().leads = leads;
    }

    /// The objects and the requests up to now, for another server.
    pub fn past(&self, clock: Clock) -> (Store, Vec<Record>) {
        let state = self.state.lock().unwrap();
        (state.store.fork(clock), state.records.clone())
    }

    /// Lists in the opposite order from now on.
    pub fn reverse_lists(&self) {
        self.state.lock().unwrap().reversed = true;
    }

    /// Ends every open watch, as a server does that restarts.
    pub fn break_watches(&self) {
        self.state.lock().unwrap().watches.send_modify(|generation| *generation += 1);
    }

    /// The definition of a kind is removed, or is there again: without it the kind is not served.
    pub fn define(&self, kind: &'static str, is_there: bool) {
        let state = &mut *self.state.lock().unwrap();
        state.undefined.retain(|other| *other != kind);
        if !is_there {
            state.undefined.push(kind);
            state.watches.send_modify(|generation| *generation += 1);
        }
    }

    /// Number of requests so far.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().records.len()
    }

    /// When a request came.
    pub fn came_at(&self, request: usize) -> Option<Duration> {
        self.state.lock().unwrap().records.get(request).map(|record| record.at)
    }

    /// Numbers of the requests of one process, from one number on.
    pub fn requests_of(&self, process: usize, first: usize) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        let own = state.records[first..].iter().filter(|record| record.process == process);
        own.map(|record| record.index).collect()
    }

    /// Every request so far.
    pub fn records(&self) -> Vec<Record> {
        self.state.lock().unwrap().records.clone()
    }

    /// Every request since the last time.
    pub fn take_records(&self) -> Vec<Record> {
        std::mem::take(&mut self.state.lock().unwrap().records)
    }

    /// Invariants that were broken so far.
    pub fn broken(&self) -> Vec<String> {
        self.state.lock().unwrap().broken.clone()
    }

    async fn serve(self, process: usize, request: Request<Body>) -> Result<Response<Answer>, Failure> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let Some(call) = Call::read(&head, &body).map(Arc::new) else {
            return Ok(self.respond(404, Bytes::from_static(b"404 page not found")));
        };
        if self.state.lock().unwrap().undefined.contains(&call.kind.name) {
            return Ok(self.respond(404, Bytes::from_static(b"404 page not found")));
        }
        let index = self.arrive(process, &call);
        let mishap = self.state.lock().unwrap().records[index].mishap;
        match mishap {
            Some(Mishap::Crash { applied } | Mishap::Silent { applied }) => {
                if applied {
                    self.perform(index, &call);
                }
                if matches!(mishap, Some(Mishap::Crash { .. })) {
                    self.state.lock().unwrap().signal = Some(Signal::Crash);
                }
                return std::future::pending().await;
            }
            Some(Mishap::Broken { applied }) => {
                if applied {
                    self.perform(index, &call);
                }
                return Err("the connection broke".into());
            }
            Some(Mishap::Refused(code)) => {
                let refusal = Refusal { code, reason: reason(code), message: "injected by the simulation".to_owned() };
                return Ok(self.respond(code, status(&refusal)));
            }
            Some(Mishap::Paused) => {
                let go_on = Arc::new(Notify::new());
                self.state.lock().unwrap().signal = Some(Signal::Paused(Arc::clone(&go_on)));
                go_on.notified().await;
            }
            Some(Mishap::LeaseLost) => self.state.lock().unwrap().leads.store(false, Ordering::Relaxed),
            Some(Mishap::Deleted | Mishap::Recreated | Mishap::Edited | Mishap::OthersEdited) => {
                let (subject, [edit, edit_others]) = {
                    let state = self.state.lock().unwrap();
                    (state.subject.clone().unwrap(), state.edits)
                };
                let act = match mishap {
                    Some(Mishap::Deleted) => fault::delete,
                    Some(Mishap::Recreated) => fault::recreate,
                    Some(Mishap::Edited) => edit,
                    _ => edit_others,
                };
                self.with(|store| act(store, &subject));
            }
            None => {}
        }
        if call.verb == Verb::Watch {
            return Ok(self.watch(call));
        }
        let (code, body) = self.perform(index, &call);
        Ok(self.respond(code, body))
    }

    fn respond(&self, code: u16, body: Bytes) -> Response<Answer> {
        let frame = stream::once(std::future::ready(Ok(Frame::data(body)))).boxed();
        let date = self.clock.now().to_rfc2822();
        Response::builder().status(code).header("date", date).body(StreamBody::new(frame)).unwrap()
    }

    fn arrive(&self, process: usize, call: &Arc<Call>) -> usize {
        let at = self.clock.elapsed();
        let state = &mut *self.state.lock().unwrap();
        let index = state.records.len();
        let mut record = Record { index, process, at, call: Arc::clone(call), code: None, mishap: None };
        record.mishap = (state.mishaps)(&record);
        if call.writes() && !state.leads.load(Ordering::Relaxed) {
            state.broken.push(format!("{call} by a process that does not lead"));
        }
        if call.verb == Verb::Delete && call.body["preconditions"]["uid"].is_null() {
            state.broken.push(format!("{call} whatever has that name by then"));
        }
        state.records.push(record);
        index
    }

    fn perform(&self, index: usize, call: &Call) -> (u16, Bytes) {
        let (refused, reversed) = {
            let state = self.state.lock().unwrap();
            ((state.refuses)(call), state.reversed)
        };
        let done = if refused {
            Err(Refusal { code: 403, reason: reason(403), message: format!("{call}: exceeded quota") })
        } else {
            self.with(|store| answer(store, call, reversed))
        };
        let (code, body) = match done {
            Ok(body) => (if call.verb == Verb::Create { 201 } else { 200 }, body),
            Err(refusal) => (refusal.code, status(&refusal)),
        };
        self.state.lock().unwrap().records[index].code = Some(code);
        (code, body)
    }

    /// A watch: what happened since its version, then what happens.
    fn watch(&self, call: Arc<Call>) -> Response<Answer> {
        let version = call.query["resourceVersion"].parse().unwrap();
        let seconds = call.query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(290);
        let (news, ends) = {
            let state = self.state.lock().unwrap();
            (state.store.subscribe(), state.watches.subscribe())
        };
        let watch = Watch {
            server: self.clone(),
            call,
            version,
            news,
            ends,
            until: Instant::now() + Duration::from_secs(seconds),
        };
        let events = stream::unfold(Some(watch), |watch| async move { watch?.next().await });
        Response::new(StreamBody::new(events.map(|line| Ok(Frame::data(line))).boxed()))
    }
}

struct Watch {
    server: ApiServer,
    call: Arc<Call>,
    version: u64,
    news: tokio::sync::watch::Receiver<u64>,
    ends: tokio::sync::watch::Receiver<u64>,
    until: Instant,
}

impl Watch {
    /// The next events, and the watch that goes on, if it does.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        loop {
            let lines = {
                let state = self.server.state.lock().unwrap();
                let shown =
                    |changes: &[Change]| changes.iter().filter_map(|change| event(&self.call, change)).collect();
                state.store.changes_since(self.version).map::<Vec<Bytes>, _>(shown)
            };
            let Some(lines) = lines else {
                let gone = Refusal { code: 410, reason: "Expired", message: "too old resource version".to_owned() };
                return Some((line("ERROR", &status(&gone)), None));
            };
            self.version = *self.news.borrow_and_update();
            if !lines.is_empty() {
                return Some((Bytes::from(lines.concat()), Some(self)));
            }
            tokio::select! {
                biased;
                _ = self.ends.changed() => return None,
                _ = self.news.changed() => {}
                () = tokio::time::sleep_until(self.until) => return None,
            }
        }
    }
}

/// One line of a watch.
fn event(call: &Call, change: &Change) -> Option<Bytes> {
    let object = &change.object;
    let wanted = object["kind"] == call.kind.name && call.covers(object) && call.selects(object);
    let what = match change.what {
        ChangeType::Added => "ADDED",
        ChangeType::Modified => "MODIFIED",
        ChangeType::Deleted => "DELETED",
    };
    wanted.then(|| line(what, &shown(object, call)))
}

fn line(what: &str, object: &[u8]) -> Bytes {
    Bytes::from([format!(r#"{{"type":"{what}","object":"#).as_bytes(), object, b"}\n"].concat())
}

const fn reason(code: u16) -> &'static str {
    match code {
        403 => "Forbidden",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}
