//! What the process keeps of the objects of one kind, shared by all its controllers.
//!
//! A store knows no kind: what is kept of an object is the kind's own choice ([`Kept`]). It is made while the API
//! server's answer is being read, so that neither a list nor a whole object with its managed fields is ever held.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// Of an object with this metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self { namespace: text(&meta.namespace), name: text(&meta.name) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is watched at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One namespace.
    Namespace(String),
    /// Every namespace.
    Cluster,
}

impl Scope {
    /// The namespace, unless it is every one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespace(name) => Some(name),
            Self::Cluster => None,
        }
    }

    fn covers(&self, namespace: &str) -> bool {
        self.namespace().is_none_or(|own| own == namespace)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Cluster => f.write_str("all namespaces"),
        }
    }
}

/// What is kept of the objects of a kind.
pub trait Kept: Send + Sync + Sized + 'static {
    /// The object as the API server sends it.
    type Object: Resource<DynamicType = ()> + DeserializeOwned;

    /// Takes what is needed later. The object has no managed fields.
    fn keep(object: Self::Object) -> Self;
    /// Takes what is needed of an object that this version cannot read, and why it cannot.
    fn unreadable(metadata: ObjectMeta, error: String) -> Self;
    /// Whether an object needs no pass until it changes.
    fn is_settled(&self) -> bool {
        false
    }
}

/// An object as it was read, with what a watch itself needs of it.
#[derive(Debug)]
pub struct Item<T> {
    /// Which object it is.
    pub key: Key,
    /// Its resource version.
    pub version: String,
    /// What is kept of it.
    pub kept: Arc<T>,
}

impl<T> Clone for Item<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), version: self.version.clone(), kept: Arc::clone(&self.kept) }
    }
}

/// All that an object needs to be named.
#[derive(Deserialize)]
struct Head {
    metadata: ObjectMeta,
}

impl<T: Kept> Item<T> {
    fn new(meta: &ObjectMeta, kept: impl FnOnce() -> T) -> Self {
        let version = meta.resource_version.clone().unwrap_or_default();
        Self { key: Key::of(meta), version, kept: Arc::new(kept()) }
    }

    /// Reads an object. An error only where not even its name can be read.
    pub fn read(json: &str) -> Result<Self, serde_json::Error> {
        match serde_json::from_str::<T::Object>(json) {
            Ok(mut object) => {
                object.meta_mut().managed_fields = None;
                let meta = ObjectMeta {
                    namespace: object.meta().namespace.clone(),
                    name: object.meta().name.clone(),
                    resource_version: object.meta().resource_version.clone(),
                    ..ObjectMeta::default()
                };
                Ok(Self::new(&meta, || T::keep(object)))
            }
            Err(error) => {
                let Head { mut metadata } = serde_json::from_str(json)?;
                metadata.managed_fields = None;
                let meta = metadata.clone();
                Ok(Self::new(&meta, || T::unreadable(metadata, error.to_string())))
            }
        }
    }
}

/// From JSON text only.
impl<'de, T: Kept> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        Self::read(json.get()).map_err(D::Error::custom)
    }
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Store<T> {
    namespaces: RwLock<HashMap<String, Objects<T>>>,
    /// Scopes that were listed once.
    listed: RwLock<HashSet<Scope>>,
    rounds: AtomicU64,
}

/// The objects of one namespace.
#[derive(Debug)]
struct Objects<T> {
    by_name: HashMap<Box<str>, Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    kept: Arc<T>,
    /// Its resource version, where that is a number, as it always is.
    version: Option<u64>,
    /// Of the list in which it was seen, or after which it was seen to change.
    round: u64,
}

/// What a complete list has shown.
#[derive(Debug)]
pub struct Listed<T> {
    /// The objects that are not settled.
    pub unsettled: Vec<Key>,
    /// What was known of the objects that it did not name.
    pub gone: Vec<(Key, Arc<T>)>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { namespaces: RwLock::default(), listed: RwLock::default(), rounds: AtomicU64::new(0) }
    }
}

impl<T: Kept> Store<T> {
    /// What is kept of an object.
    pub fn get(&self, key: &Key) -> Option<Arc<T>> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&namespaces.get(&key.namespace)?.by_name.get(key.name.as_str())?.kept))
    }

    /// Looks through the objects of a namespace, in no given order. The store is locked meanwhile.
    pub fn in_namespace<R>(&self, namespace: &str, look: impl FnOnce(&mut dyn Iterator<Item = &T>) -> R) -> R {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let objects = namespaces.get(namespace).into_iter().flat_map(|objects| objects.by_name.values());
        look(&mut objects.map(|entry| entry.kept.as_ref()))
    }

    /// The objects of a scope, in no given order.
    pub fn keys(&self, scope: &Scope) -> Vec<Key> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let covered = namespaces.iter().filter(|(namespace, _)| scope.covers(namespace));
        let keys = covered.flat_map(|(namespace, objects)| {
            objects.by_name.keys().map(|name| Key { namespace: namespace.clone(), name: name.to_string() })
        });
        keys.collect()
    }

    /// Number of objects.
    pub fn count(&self) -> usize {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.values().map(|objects| objects.by_name.len()).sum()
    }

    /// Whether all objects of a namespace are known, as far as a watch can know them.
    pub fn is_listed(&self, namespace: &str) -> bool {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
        listed.contains(&Scope::Cluster) || listed.contains(&Scope::Namespace(namespace.to_owned()))
    }

    /// A list begins. Its number goes with each object that is in it or changes after it.
    pub fn begin_list(&self) -> u64 {
        self.rounds.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps an object. What is kept of it stays where it has not changed: a list of all objects takes no memory for
    /// them a second time.
    pub fn put(&self, round: u64, item: Item<T>) {
        let version = item.version.parse().ok();
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        let objects = namespaces.entry(item.key.namespace).or_insert_with(|| Objects { by_name: HashMap::new() });
        match objects.by_name.get_mut(item.key.name.as_str()) {
            Some(known) if version.is_some() && known.version == version => known.round = round,
            Some(known) => *known = Entry { kept: item.kept, version, round },
            None => {
                let entry = Entry { kept: item.kept, version, round };
                objects.by_name.insert(item.key.name.into_boxed_str(), entry);
            }
        }
    }

    /// Forgets an object.
    pub fn remove(&self, key: &Key) {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        let Some(objects) = namespaces.get_mut(&key.namespace) else { return };
        objects.by_name.remove(key.name.as_str());
        if objects.by_name.is_empty() {
            namespaces.remove(&key.namespace);
        }
    }

    /// A list of a scope is complete: what it did not name is gone.
    pub fn end_list(&self, scope: &Scope, round: u64) -> Listed<T> {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        let mut result = Listed { unsettled: Vec::new(), gone: Vec::new() };
        for (namespace, objects) in namespaces.iter_mut().filter(|(namespace, _)| scope.covers(namespace)) {
            let key = |name: &str| Key { namespace: namespace.clone(), name: name.to_owned() };
            let gone = objects.by_name.extract_if(|_, entry| entry.round != round);
            result.gone.extend(gone.map(|(name, entry)| (key(&name), entry.kept)));
            objects.by_name.shrink_to_fit();
            let unsettled = objects.by_name.iter().filter(|(_, entry)| !entry.kept.is_settled());
            result.unsettled.extend(unsettled.map(|(name, _)| key(name)));
        }
        namespaces.retain(|_, objects| !objects.by_name.is_empty());
        self.listed.write().unwrap_or_else(PoisonError::into_inner).insert(scope.clone());
        result
    }
}

#[cfg(test)]
mod tests;
