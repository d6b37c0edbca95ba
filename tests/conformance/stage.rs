//! What scripts are played on: one namespace of an API server, asked through the real client.

use futures::StreamExt;
use http::Request;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::client::Body;
use kube::{Client, Resource, core};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest time that anything may take. A real node may be busy with other things.
const LIMIT: Duration = Duration::from_secs(60);

/// One namespace of an API server, with whatever works behind it.
pub struct Stage {
    client: Client,
    namespace: String,
}

impl Stage {
    /// `client` may do everything in `namespace`, which is there and empty.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its objects of a kind.
    pub fn objects<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Objects<'_> {
        self.at::<K>(Some(&self.namespace))
    }

    /// The cluster's objects of a kind that has no namespaces. Other scripts have theirs among them.
    pub fn of_the_cluster<K: Resource<DynamicType = (), Scope = ClusterResourceScope>>(&self) -> Objects<'_> {
        self.at::<K>(None)
    }

    fn at<K: Resource<DynamicType = ()>>(&self, namespace: Option<&str>) -> Objects<'_> {
        let request = core::Request::new(K::url_path(&(), namespace));
        let (api_version, kind) = (K::api_version(&()).into_owned(), K::kind(&()).into_owned());
        Objects { stage: self, request, api_version, kind }
    }
}

/// The objects of one kind.
pub struct Objects<'a> {
    stage: &'a Stage,
    request: core::Request,
    api_version: String,
    kind: String,
}

/// What a server answers.
#[derive(Debug)]
pub struct Answer {
    /// What was asked, for people.
    asked: String,
    code: u16,
    /// Body.
    pub body: Value,
}

impl Answer {
    /// Its code.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// Its code, and its reason when it refuses, must be these, as in `409 Conflict`. Gives the body.
    #[track_caller]
    pub fn is(self, expected: &str) -> Value {
        let refuses = self.body["kind"] == "Status" && self.body["status"] == "Failure";
        let reason = if refuses { self.body["reason"].as_str().unwrap_or_default() } else { "" };
        let said = format!("{} {reason}", self.code);
        assert_eq!(said.trim_end(), expected, "{}: {}", self.asked, self.body);
        self.body
    }
}

impl Objects<'_> {
    /// Creates an object; kind and API version are filled in.
    pub async fn create(&self, object: &Value) -> Answer {
        let mut object = object.clone();
        object["apiVersion"] = json!(self.api_version);
        object["kind"] = json!(self.kind);
        self.send(self.request.create(&PostParams::default(), object.to_string().into_bytes())).await
    }

    /// Reads an object.
    pub async fn get(&self, name: &str) -> Answer {
        self.send(self.request.get(name, &GetParams::default())).await
    }

    /// Reads an object's metadata.
    pub async fn get_metadata(&self, name: &str) -> Answer {
        self.send(self.request.get_metadata(name, &GetParams::default())).await
    }

    /// Lists the objects that have these labels.
    pub async fn list(&self, selector: &str) -> Answer {
        self.send(self.request.list(&ListParams::default().labels(selector))).await
    }

    /// Lists the metadata of the objects that have these labels.
    pub async fn list_metadata(&self, selector: &str) -> Answer {
        self.send(self.request.list_metadata(&ListParams::default().labels(selector))).await
    }

    /// Server-side apply to the status, with force.
    pub async fn apply_status(&self, name: &str, manager: &str, version: &str, status: &Value) -> Answer {
        let metadata = json!({"resourceVersion": version});
        let patch = json!({"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, "status": status});
        let params = PatchParams::apply(manager).force();
        self.send(self.request.patch_subresource("status", name, &params, &Patch::Apply(&patch))).await
    }

    /// Sets the number of replicas.
    pub async fn scale(&self, name: &str, version: &str, replicas: u32) -> Answer {
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}});
        self.send(self.request.patch_subresource("scale", name, &PatchParams::default(), &Patch::Merge(&patch))).await
    }

    /// A merge patch.
    pub async fn merge(&self, name: &str, patch: &Value) -> Answer {
        self.send(self.request.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await
    }

    /// A merge patch of the status, for a version.
    pub async fn merge_status(&self, name: &str, version: &str, status: &Value) -> Answer {
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
        self.send(self.request.patch_subresource("status", name, &PatchParams::default(), &Patch::Merge(&patch))).await
    }

    /// A merge patch whose answer is the metadata.
    pub async fn merge_metadata(&self, name: &str, patch: &Value) -> Answer {
        self.send(self.request.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))).await
    }

    /// Deletes an object.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Answer {
        self.send(self.request.delete(name, params)).await
    }

    /// Watches the objects that have these labels, from a version on, until a fact about one of them is as wanted.
    /// Gives every fact on the way, in order, but none twice in a row and no empty one. Of an object that goes the fact
    /// is `gone`.
    pub async fn film(&self, selector: &str, version: &str, fact: fn(&Value) -> String, last: &str) -> Vec<String> {
        let params = WatchParams::default().labels(selector);
        let request = self.request.watch(&params, version).unwrap();
        let events = self.stage.client.request_events::<Value>(request).await.unwrap();
        let mut events = Box::pin(events);
        let (mut facts, end) = (Vec::new(), Instant::now() + LIMIT);
        while facts.last().map(String::as_str) != Some(last) {
            let next = timeout_at(end, events.next()).await;
            let Ok(Some(event)) = next else { panic!("{last:?} is not seen, but {facts:?}") };
            let fact = match event.unwrap() {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => fact(&object),
                WatchEvent::Deleted(_) => "gone".to_owned(),
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(error) => panic!("{error:?}"),
            };
            if !fact.is_empty() && facts.last() != Some(&fact) {
                facts.push(fact);
            }
        }
        facts
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, name: &str) {
        let what = format!("{} {name} is gone", self.kind);
        eventually(&what, async || (self.get(name).await.code == 404).then_some(())).await;
    }

    async fn send(&self, request: Result<Request<Vec<u8>>, core::request::Error>) -> Answer {
        let request = request.unwrap();
        let asked = format!("{} {}", request.method(), request.uri());
        let answer = self.stage.client.send(request.map(Body::from)).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect_bytes().await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
        Answer { asked, code, body }
    }
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {} s", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Text at a place in a body, which must be there.
#[track_caller]
pub fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} is missing in {body}"))
}

/// `metadata.resourceVersion`.
#[track_caller]
pub fn version(body: &Value) -> &str {
    text(body, "/metadata/resourceVersion")
}

/// Names of the objects in a list. Where only metadata was asked for, a list of nothing has no items.
pub fn names(list: &Value) -> Vec<&str> {
    assert!(list["items"].is_array() || (list["items"].is_null() && list["kind"] == "PartialObjectMetadataList"));
    list["items"].as_array().into_iter().flatten().map(|item| text(item, "/metadata/name")).collect()
}
