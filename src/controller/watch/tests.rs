use super::*;
use crate::controller::health::SILENT_AFTER;
use futures::{StreamExt, stream};
use http::Response;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

/// The body of an answer.
type Streamed = UnsyncBoxBody<bytes::Bytes, Infallible>;

/// What a scripted API server does with a request.
enum Answer {
    /// It never answers.
    Never,
    /// A whole answer.
    Whole(u16, Value),
    /// Events, each after some seconds; then the stream ends, or nothing comes any more.
    Events(Vec<(u64, String)>, bool),
}

/// Answers requests in their order, and the last one for ever; keeps what was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let script = script.clone();
            script.asked.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
            async move { Ok::<_, Infallible>(script.answer().await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self) -> Response<Streamed> {
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Never);
        match answer {
            Answer::Never => std::future::pending().await,
            Answer::Whole(code, value) => {
                let text = bytes::Bytes::from(value.to_string());
                Response::builder().status(code).body(Full::new(text).boxed_unsync()).unwrap()
            }
            Answer::Events(events, ends) => {
                let events = stream::iter(events).then(|(seconds, event)| async move {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    Ok::<_, Infallible>(Frame::data(bytes::Bytes::from(format!("{event}\n"))))
                });
                let rest = if ends { stream::empty().boxed() } else { stream::pending().boxed() };
                Response::new(StreamBody::new(events.chain(rest)).boxed_unsync())
            }
        }
    }

    /// Number of objects that each list asked for.
    fn limits(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let limits = asked.iter().flat_map(|query| query.split('&').filter_map(|field| field.strip_prefix("limit=")));
        limits.map(str::to_owned).collect()
    }

    /// Kinds of the requests: `list` or `watch`, and from which version or after which token.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let of = |query: &String| {
            let field = |name: &str| {
                let mut fields = query.split('&').filter_map(|field| field.split_once('='));
                fields.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
            };
            match field("watch") {
                Some(_) => format!("watch {}", field("resourceVersion").unwrap()),
                None => format!("list {}", field("continue").unwrap_or_default()).trim_end().to_owned(),
            }
        };
        asked.iter().map(of).collect()
    }
}

struct Name;

impl Kept for Name {
    type Object = PartialObjectMeta<Pod>;

    fn keep(_: PartialObjectMeta<Pod>) -> Self {
        Self
    }

    fn unreadable(_: ObjectMeta, _: String) -> Self {
        Self
    }
}

/// Writes down what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Sink for Notes {
    type Kept = Name;

    fn begin_list(&self) -> u64 {
        self.add("begin".to_owned());
        7
    }

    fn listed(&self, round: u64, item: Item<Name>) {
        self.add(format!("listed {} {round}", item.key));
    }

    fn end_list(&self, scope: &Scope, round: u64) {
        self.add(format!("end of {scope} {round}"));
    }

    fn changed(&self, round: u64, item: Item<Name>) {
        self.add(format!("changed {} {round}", item.key));
    }

    fn removed(&self, item: Item<Name>) {
        self.add(format!("removed {}", item.key));
    }
}

fn pod(name: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "graph", "resourceVersion": version.to_string()}})
}

fn list(names: &[&str], token: &str, version: u32) -> Answer {
    let items: Vec<Value> = names.iter().map(|name| pod(name, 1)).collect();
    Answer::Whole(200, json!({"metadata": {"resourceVersion": version.to_string(), "continue": token}, "items": items}))
}

/// In the order of an API server, which the reading of an [`Item`] rests on: the type comes first.
fn event(what: &str, object: &Value) -> String {
    format!(r#"{{"type": "{what}", "object": {object}}}"#)
}

fn bookmark(version: u32) -> String {
    event("BOOKMARK", &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}}))
}

fn refusal(code: u16) -> Answer {
    Answer::Whole(
        code,
        json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "Forbidden"}),
    )
}

/// Runs a watch for some time.
async fn run(answers: impl IntoIterator<Item = Answer>, seconds: u64) -> (Script, Vec<String>, Arc<Health>) {
    let (script, notes, health) = (Script::new(answers), Arc::new(Notes::default()), Arc::new(Health::default()));
    let scopes = vec![Scope::Namespace("graph".to_owned())];
    let watches = Watches::new(script.client(), scopes, Arc::clone(&health));
    let _ = timeout(Duration::from_secs(seconds), watches.follow("", Arc::clone(&notes))).await;
    (script, notes.all(), health)
}

#[tokio::test(start_paused = true)]
async fn pages_are_handed_on_one_by_one_and_changes_follow_from_there() {
    let events = vec![
        (1, event("ADDED", &pod("c", 11))),
        (1, bookmark(12)),
        (1, event("MODIFIED", &pod("a", 13))),
        (1, event("DELETED", &pod("b", 14))),
    ];
    let answers = [list(&["a"], "more", 9), list(&["b"], "", 10), Answer::Events(events, true), Answer::Never];
    let (script, notes, health) = run(answers, 20).await;
    assert_eq!(script.asked(), ["list", "list more", "watch 10", "watch 14"]);
    let expected = [
        "begin",
        "listed graph/a 7",
        "listed graph/b 7",
        "end of namespace graph 7",
        "changed graph/c 7",
        "changed graph/a 7",
        "removed graph/b",
    ];
    assert_eq!(notes, expected);
    assert_eq!(health.silent(), None);
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_of_metadata_has_no_items() {
    let empty = Answer::Whole(200, json!({"metadata": {"resourceVersion": "10"}, "items": null}));
    let (script, notes, _) = run([empty, Answer::Never], 5).await;
    assert_eq!(script.asked(), ["list", "watch 10"]);
    assert_eq!(notes, ["begin", "end of namespace graph 7"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_is_tried_again_and_told() {
    let (script, _, health) = run([Answer::Never], 40).await;
    assert_eq!(script.asked(), ["list", "list"]);
    assert_eq!(health.silent(), None);
    let (_, _, health) = run([Answer::Never], SILENT_AFTER.as_secs() + 1).await;
    let silent = health.silent().unwrap();
    assert!(silent.starts_with("the watch of Pod objects in namespace graph has heard nothing for 181 s"), "{silent}");
    assert!(silent.contains("did not answer a list within 30 s: check that the API server works"), "{silent}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_never_starts_is_tried_again_from_where_it_was() {
    let (script, _, _) = run([list(&["a"], "", 10), Answer::Never], 60).await;
    assert_eq!(script.asked(), ["list", "watch 10", "watch 10"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_started_anew_from_its_last_bookmark() {
    let answers = || [list(&["a"], "", 10), Answer::Events(vec![(60, bookmark(20)), (60, bookmark(30))], false)];
    let (script, _, _) = run(answers(), 120 + SILENCE_BOUND.as_secs() - 1).await;
    assert_eq!(script.asked(), ["list", "watch 10"]);
    let (script, notes, health) = run(answers(), 120 + SILENCE_BOUND.as_secs() + 1).await;
    assert_eq!(script.asked(), ["list", "watch 10", "watch 30"]);
    assert_eq!(notes.iter().filter(|note| *note == "begin").count(), 1);
    assert_eq!(health.silent(), None);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_has_forgotten_is_listed_anew() {
    let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "message": "too old", "reason": "Expired"});
    let told = Answer::Events(vec![(1, event("ERROR", &gone))], true);
    for expired in [told, Answer::Whole(410, gone.clone())] {
        let (script, _, _) = run([list(&["a"], "", 10), expired, list(&[], "", 50), Answer::Never], 10).await;
        assert_eq!(script.asked(), ["list", "watch 10", "list", "watch 50"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_gone_is_told() {
    let answers = (0..200).map(|_| refusal(404));
    let (script, _, health) = run(answers, SILENT_AFTER.as_secs() + 1).await;
    // It waits longer and longer.
    assert!((6..20).contains(&script.asked().len()), "{:?}", script.asked());
    let silent = health.silent().unwrap();
    assert!(silent.contains("404 no: check that the CustomResourceDefinition"), "{silent}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_again_and_again_is_not_a_loop() {
    let ended = (0..1000).map(|_| Answer::Events(Vec::new(), true));
    let (script, _, _) = run([list(&[], "", 10)].into_iter().chain(ended), 60).await;
    assert!(script.asked().len() < 12, "{:?}", script.asked());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_cut_is_repeated_by_the_next_watch() {
    let cut = |at| {
        let whole = event("MODIFIED", &pod("a", 11));
        async move {
            let mut stream = whole.as_bytes()[..at].as_ref();
            next_event::<Name>(&mut stream).await.is_none()
        }
    };
    for at in [0, 1, 30, event("MODIFIED", &pod("a", 11)).len()] {
        assert!(cut(at).await, "cut after {at} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_without_an_end_is_an_error() {
    let mut endless = futures::io::repeat(b' ');
    let mut endless = futures::io::BufReader::new(&mut endless);
    let Some(Err(Broken::Unreadable(why))) = next_event::<Name>(&mut endless).await else { panic!() };
    assert_eq!(why, "an event has more than 8388608 bytes");
}

#[tokio::test(start_paused = true)]
async fn a_status_instead_of_an_event_is_classified_and_anything_else_an_error() {
    let read = async |line: &str| next_event::<Name>(&mut line.as_bytes()).await.unwrap().map(|_| ()).unwrap_err();
    let gone = r#"{"kind": "Status", "status": "Failure", "code": 410, "message": "too old", "reason": "Expired"}"#;
    assert_eq!(read(&format!("{gone}\n")).await, Broken::Expired);
    for other in ["<html>\n", "{\"type\": \"NEW\", \"object\": {}}\n"] {
        assert!(matches!(read(other).await, Broken::Unreadable(_)), "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_passed_by_a_list() {
    let unreadable = Answer::Events(vec![(1, "{}".to_owned())], false);
    let (script, _, _) = run([list(&["a"], "", 10), unreadable, list(&["a"], "", 50), Answer::Never], 10).await;
    assert_eq!(script.asked(), ["list", "watch 10", "list", "watch 50"]);
}

#[tokio::test(start_paused = true)]
async fn objects_that_are_too_large_together_are_read_one_by_one() {
    let large = |count: usize, token: &str| {
        let mut object = pod("a", 1);
        object["spec"] = json!("x".repeat(5 << 20));
        let items = vec![object; count];
        Answer::Whole(200, json!({"metadata": {"resourceVersion": "10", "continue": token}, "items": items}))
    };
    let answers = [large(2, ""), large(1, "more"), list(&["b"], "", 10), Answer::Never];
    let (script, notes, _) = run(answers, 5).await;
    assert_eq!(script.asked(), ["list", "list", "list more", "watch 10"]);
    assert_eq!(notes, ["begin", "listed graph/a 7", "listed graph/b 7", "end of namespace graph 7"]);
    assert_eq!(script.limits(), ["25", "1", "2"]);
}
