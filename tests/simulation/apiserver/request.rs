//! From an HTTP request to what it asks for.

use super::kinds::Kind;
use super::store::Key;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// All objects of a kind.
    List,
    /// The changes of a kind.
    Watch,
    /// A new object.
    Create,
    /// Server-side apply.
    Apply,
    /// A JSON merge patch.
    Patch,
    /// The end of an object.
    Delete,
}

/// One request, understood.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for.
    pub verb: Verb,
    /// Of which kind.
    pub kind: &'static Kind,
    /// In which namespace.
    pub namespace: String,
    /// The object; empty with `List` and `Watch`.
    pub name: String,
    /// Whether it is about the status subresource.
    pub status: bool,
    /// Whether it is about the scale subresource.
    pub scale: bool,
    /// Whether only metadata shall be answered.
    pub metadata_only: bool,
    /// Parameters.
    pub query: BTreeMap<String, String>,
    /// Body, `Null` without one.
    pub body: Arc<Value>,
}

impl Call {
    /// Reads a request. A path that is not served gives `None`, as of a kind whose definition is missing.
    pub fn read(head: &http::request::Parts, body: &[u8]) -> Option<Self> {
        let parts: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, plural, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] => (*namespace, plural, rest),
            [plural, rest @ ..] => ("", plural, rest),
            [] => return None,
        };
        let kind = Kind::served(group, version, plural)?;
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() };
        let name = match rest.first() {
            Some(name) => (*name).to_owned(),
            None => body["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        };
        let verb = match (head.method.as_str(), rest.is_empty()) {
            ("GET", false) => Verb::Get,
            ("GET", true) if query.contains_key("watch") => Verb::Watch,
            ("GET", true) => Verb::List,
            ("POST", true) => Verb::Create,
            ("PATCH", false) if header("content-type") == "application/apply-patch+yaml" => Verb::Apply,
            ("PATCH", false) if header("content-type") == "application/merge-patch+json" => Verb::Patch,
            ("DELETE", false) => Verb::Delete,
            (method, _) => panic!("{method} {} {} is not modelled", head.uri, header("content-type")),
        };
        Some(Self {
            verb,
            kind,
            namespace: namespace.to_owned(),
            name,
            status: rest.get(1) == Some(&"status"),
            scale: rest.get(1) == Some(&"scale"),
            metadata_only: header("accept").contains("as=PartialObjectMetadata"),
            query,
            body: Arc::new(body),
        })
    }

    /// The object that is asked for.
    pub fn key(&self) -> Key {
        Key { kind: self.kind.name, namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Whether it changes anything.
    pub const fn writes(&self) -> bool {
        matches!(self.verb, Verb::Create | Verb::Apply | Verb::Patch | Verb::Delete)
    }

    /// Whether an object is in the namespace that is listed or watched. Without one, all are.
    pub fn covers(&self, object: &Value) -> bool {
        self.namespace.is_empty() || object["metadata"]["namespace"] == self.namespace.as_str()
    }

    /// Whether an object is among those that are listed or watched.
    pub fn selects(&self, object: &Value) -> bool {
        let selector = self.query.get("labelSelector").filter(|selector| !selector.is_empty());
        let Some(selector) = selector else { return true };
        selector.split(',').all(|wanted| {
            let (key, value) = wanted.split_once('=').unwrap_or_else(|| panic!("selector {wanted} is not modelled"));
            object["metadata"]["labels"].get(key).and_then(Value::as_str) == Some(value)
        })
    }
}

/// As in `create Job nightly-1a2b3-1`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = format!("{:?}", self.verb).to_lowercase();
        let subresource = match (self.status, self.scale) {
            (true, _) => "/status",
            (_, true) => "/scale",
            (false, false) => "",
        };
        write!(f, "{verb} {}{subresource} {}", self.kind.name, self.name)
    }
}
