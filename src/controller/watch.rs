//! Watches that notice when they hear nothing.
//!
//! A watch lists its objects page by page, then follows their changes. The watcher of kube waits without limit for a
//! page and for the start of a watch, and five minutes for a word of a running one. Here each has a limit, and
//! [`Health`] tells when each watch heard from the API server last. Where nothing changes, the API server sends a
//! bookmark about every minute.

use super::health::{Health, Pulse, SILENCE_BOUND};
use super::store::{Item, Kept, Scope};
use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::{Request, Status};
use kube::{Client, Error, Resource};
use serde::Deserialize;
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Longest time for one page of a list.
const PAGE_BOUND: Duration = Duration::from_secs(30);
/// Longest time until the API server accepts a watch.
const START_BOUND: Duration = Duration::from_secs(30);
/// A watch ends by itself after this many seconds, at the earliest and at the latest: they do not all end together.
const WATCH_SECONDS: (u32, u32) = (240, 290);
/// Objects in one page.
pub const PAGE: u32 = 25;
/// Pages of one list.
const PAGES_MAX: usize = 100_000;
/// Pages that are read at the same time by all watches of the process. The API server waits some 20 ms before it
/// answers a consistent list, so that a few at once are faster than one large one, and take less memory.
const LISTS_AT_ONCE: usize = 8;
/// Longest event, bytes: several times the largest object that an API server takes.
const EVENT_BYTES_MAX: u64 = 8 << 20;
/// Longest page, bytes. The objects of a longer one are read one by one.
const PAGE_BYTES_MAX: u64 = EVENT_BYTES_MAX;
/// Waits after a failure: first, and longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A watch that the API server ends sooner than this has failed.
const SHORTEST: Duration = Duration::from_secs(1);

/// Where a watch puts what it sees.
pub trait Sink: Send + Sync + 'static {
    /// What is kept of an object.
    type Kept: Kept;

    /// A list begins; its number comes back with each object.
    fn begin_list(&self) -> u64;
    /// An object of a list. It may be unchanged.
    fn listed(&self, round: u64, item: Item<Self::Kept>);
    /// A list is complete: what it did not name is gone.
    fn end_list(&self, scope: &Scope, round: u64);
    /// An object that is new or changed.
    fn changed(&self, round: u64, item: Item<Self::Kept>);
    /// An object that is gone.
    fn removed(&self, item: Item<Self::Kept>);
}

/// What all watches of a process share.
#[derive(Clone)]
pub struct Watches {
    client: Client,
    scopes: Vec<Scope>,
    health: Arc<Health>,
    lists: Arc<Semaphore>,
}

impl Watches {
    /// Watches of these scopes, which tell `health` how they are.
    pub fn new(client: Client, scopes: Vec<Scope>, health: Arc<Health>) -> Self {
        Self { client, scopes, health, lists: Arc::new(Semaphore::new(LISTS_AT_ONCE)) }
    }

    /// What is watched.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Follows the objects with these labels (all, if empty) in every scope, until the future is dropped.
    pub async fn follow<S: Sink>(&self, labels: &str, sink: Arc<S>) {
        let mut running = JoinSet::new();
        for scope in &self.scopes {
            let watch = Watch {
                client: self.client.clone(),
                health: Arc::clone(&self.health),
                lists: Arc::clone(&self.lists),
                pulse: self.health.watch(kind::<S>(), scope),
                path: <<S::Kept as Kept>::Object as Resource>::url_path(&(), scope.namespace()),
                labels: Some(labels.to_owned()).filter(|labels| !labels.is_empty()),
                scope: scope.clone(),
                sink: Arc::clone(&sink),
            };
            running.spawn(watch.run());
        }
        while running.join_next().await.is_some() {}
    }
}

/// One watch.
struct Watch<S> {
    client: Client,
    health: Arc<Health>,
    lists: Arc<Semaphore>,
    pulse: Arc<Pulse>,
    path: String,
    labels: Option<String>,
    scope: Scope,
    sink: Arc<S>,
}

/// Why a watch has to begin again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    /// What it knows is too old: everything has to be listed.
    #[error("the API server no longer knows the changes since then")]
    Expired,
    /// An event cannot be read: a list gets past it.
    #[error("{0}")]
    Unreadable(String),
    /// The API server refuses: no right, or the kind is unknown.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// One page of a list.
#[derive(Deserialize)]
#[serde(bound = "")]
struct Page<T: Kept> {
    #[serde(default)]
    metadata: ListMeta,
    /// Go writes an empty list as `null` now and then.
    items: Option<Vec<Item<T>>>,
}

/// How far a watch has come.
struct Position {
    /// Resource version of the newest change that was seen.
    version: String,
    /// Number of the list before it.
    round: u64,
}

/// Name of the kind that a sink takes.
fn kind<S: Sink>() -> &'static str {
    match <<S::Kept as Kept>::Object as Resource>::kind(&()) {
        Cow::Borrowed(name) => name,
        // kube allows it; the kinds that we watch have static names.
        Cow::Owned(_) => "unknown",
    }
}

impl<S: Sink> Watch<S> {
    async fn run(self) {
        let mut position = None;
        let mut wait = RETRY.0;
        loop {
            let outcome = match &mut position {
                Some(position) => self.watch(position).await.map(|()| wait = RETRY.0),
                None => self.list().await.map(|reached| position = Some(reached)),
            };
            let Err(broken) = outcome else { continue };
            if broken == Broken::Expired {
                tracing::info!(kind = kind::<S>(), scope = %self.scope, "listed anew: {broken}");
                position = None;
            } else {
                if matches!(broken, Broken::Unreadable(_)) {
                    position = None;
                }
                let refused = matches!(broken, Broken::Refused(_));
                self.health.failed(&self.pulse, refused, &broken.to_string());
            }
            tokio::time::sleep(wait.mul_f64(random(0.5, 1.0))).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Lists everything, page by page.
    async fn list(&self) -> Result<Position, Broken> {
        let round = self.sink.begin_list();
        let mut params = ListParams { label_selector: self.labels.clone(), ..ListParams::default() };
        let mut limit = PAGE;
        for _ in 0..PAGES_MAX {
            params.limit = Some(limit);
            let Some(listed) = self.page(&params, round).await? else {
                limit = 1;
                continue;
            };
            limit = (2 * limit).min(PAGE);
            self.health.heard(&self.pulse);
            if let Some(token) = listed.continue_.filter(|token| !token.is_empty()) {
                params.continue_token = Some(token);
                continue;
            }
            let version = listed.resource_version.filter(|version| !version.is_empty());
            let version = version.ok_or_else(|| Broken::Failed("the list has no resourceVersion".to_owned()))?;
            self.sink.end_list(&self.scope, round);
            return Ok(Position { version, round });
        }
        Err(Broken::Failed(format!("the list has more than {PAGES_MAX} pages")))
    }

    /// Reads one page and hands its objects on; `None` where they are too large to be read together.
    async fn page(&self, params: &ListParams, round: u64) -> Result<Option<ListMeta>, Broken> {
        // Never closed.
        let _one_of_few = self.lists.acquire().await;
        let body = timeout(PAGE_BOUND, self.body(params)).await;
        let body = body.map_err(|_| late("answer a list", PAGE_BOUND))??;
        if body.len() as u64 > PAGE_BYTES_MAX {
            let alone = params.limit == Some(1);
            let why = || Broken::Failed(format!("an object has more than {PAGE_BYTES_MAX} bytes"));
            return if alone { Err(why()) } else { Ok(None) };
        }
        let page: Page<S::Kept> = serde_json::from_slice(&body).map_err(|error| Broken::Failed(error.to_string()))?;
        for item in page.items.into_iter().flatten() {
            self.sink.listed(round, item);
        }
        Ok(Some(page.metadata))
    }

    /// Reads an answer, and no more than one byte above [`PAGE_BYTES_MAX`].
    async fn body(&self, params: &ListParams) -> Result<Vec<u8>, Broken> {
        let request = Request::new(&self.path).list(params).map_err(|error| Broken::Failed(error.to_string()))?;
        let stream = self.client.request_stream(request).await.map_err(classify)?;
        let mut body = Vec::new();
        let read = pin!(stream).take(PAGE_BYTES_MAX + 1).read_to_end(&mut body).await;
        read.map(|_| body).map_err(|error| Broken::Failed(error.to_string()))
    }

    /// Follows the changes from a position until the watch ends or falls silent.
    async fn watch(&self, position: &mut Position) -> Result<(), Broken> {
        let began = Instant::now();
        let seconds = random(f64::from(WATCH_SECONDS.0), f64::from(WATCH_SECONDS.1));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds above")]
        let params = WatchParams {
            label_selector: self.labels.clone(),
            timeout: Some(seconds as u32),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(&self.path).watch(&params, &position.version);
        let request = request.map_err(|error| Broken::Failed(error.to_string()))?;
        let events = timeout(START_BOUND, self.client.request_stream(request)).await;
        let events = events.map_err(|_| late("start a watch", START_BOUND))?.map_err(classify)?;
        self.health.heard(&self.pulse);
        let mut events = pin!(events);
        loop {
            match timeout(SILENCE_BOUND, next_event(&mut events)).await {
                Ok(Some(event)) => self.take(event?, position)?,
                Ok(None) if began.elapsed() < SHORTEST => {
                    return Err(Broken::Failed("the API server ends a watch at once".to_owned()));
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    tracing::debug!(kind = kind::<S>(), scope = %self.scope, "a silent watch is started anew");
                    return Ok(());
                }
            }
            self.health.heard(&self.pulse);
        }
    }

    fn take(&self, event: WatchEvent<Item<S::Kept>>, position: &mut Position) -> Result<(), Broken> {
        position.version = match event {
            WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                let version = item.version.clone();
                self.sink.changed(position.round, item);
                version
            }
            WatchEvent::Deleted(item) => {
                let version = item.version.clone();
                self.sink.removed(item);
                version
            }
            WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
            WatchEvent::Error(status) => return Err(classify(Error::Api(status))),
        };
        Ok(())
    }
}

/// Reads the next event: a line of JSON. `None` where the stream ends, in mid-line as well: the next watch repeats what
/// was cut. kube's own reader keeps a buffer for each watch and takes a line of any length.
async fn next_event<T: Kept>(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Result<WatchEvent<Item<T>>, Broken>> {
    let mut line = Vec::new();
    match stream.take(EVENT_BYTES_MAX).read_until(b'\n', &mut line).await {
        Ok(_) if line.last() == Some(&b'\n') => {}
        Ok(length) if length as u64 == EVENT_BYTES_MAX => {
            return Some(Err(Broken::Unreadable(format!("an event has more than {EVENT_BYTES_MAX} bytes"))));
        }
        Ok(_) => return None,
        Err(error) => {
            tracing::debug!(%error, "a watch broke off");
            return None;
        }
    }
    let event = serde_json::from_slice(&line).map_err(|error| {
        // Every field of a status may be absent.
        match serde_json::from_slice::<Status>(&line) {
            Ok(status) if status.code != 0 => classify(Error::Api(status.boxed())),
            Ok(_) | Err(_) => Broken::Unreadable(format!("an event cannot be read: {error}")),
        }
    });
    Some(event)
}

fn late(what: &str, bound: Duration) -> Broken {
    Broken::Failed(format!("the API server did not {what} within {} s", bound.as_secs()))
}

fn classify(error: Error) -> Broken {
    match error {
        Error::Api(status) if status.code == 410 => Broken::Expired,
        Error::Api(status) if matches!(status.code, 401 | 403 | 404 | 405) => {
            Broken::Refused(format!("{} {}", status.code, status.message))
        }
        Error::Api(status) => Broken::Failed(format!("{} {}", status.code, status.message)),
        error => Broken::Failed(error.to_string()),
    }
}

/// A number between two others: watches of many replicas and namespaces must not act together.
fn random(from: f64, to: f64) -> f64 {
    let hash = RandomState::new().hash_one(0_u8);
    #[allow(clippy::cast_precision_loss, reason = "any number will do")]
    let part = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    from + (to - from) * part
}

#[cfg(test)]
mod tests;
