//! One version of an object, with what is made of it more than once.

use super::store::Key;
use bytes::Bytes;
use serde_json::Value;
use std::any::Any;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// One version of an object. Reads like the JSON that it is.
#[derive(Debug)]
pub struct Object {
    value: Value,
    text: OnceLock<Bytes>,
    fingerprint: OnceLock<u64>,
    key: OnceLock<Key>,
    reduced: OnceLock<Value>,
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Object {
    /// Keeps a version.
    pub fn new(value: Value) -> Arc<Self> {
        Arc::new(Self {
            value,
            text: OnceLock::new(),
            fingerprint: OnceLock::new(),
            key: OnceLock::new(),
            reduced: OnceLock::new(),
            typed: OnceLock::new(),
        })
    }

    /// As the server sends it.
    pub fn text(&self) -> Bytes {
        self.text.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }

    /// Tells it from every other object and version.
    pub fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&self.text());
            hasher.finish()
        })
    }

    /// Names it.
    pub fn key(&self) -> &Key {
        self.key.get_or_init(|| Key::of(&self.value))
    }

    /// What is compared of it, always by the same function.
    pub fn reduced(&self, reduce: impl FnOnce(&Value) -> Value) -> &Value {
        self.reduced.get_or_init(|| reduce(&self.value))
    }

    /// As a controller reads it, always by the same function.
    pub fn typed<T: Send + Sync + 'static>(&self, read: impl FnOnce(&Value) -> T) -> Arc<T> {
        let typed = self.typed.get_or_init(|| Arc::new(read(&self.value)));
        Arc::clone(typed).downcast().unwrap()
    }
}

impl Deref for Object {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}
