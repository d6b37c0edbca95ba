use super::*;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

#[derive(Debug, PartialEq)]
enum Word {
    Said(String),
    Unreadable(String),
}

impl Kept for Word {
    type Object = ConfigMap;

    fn keep(object: ConfigMap) -> Self {
        assert_eq!(object.metadata.managed_fields, None);
        Self::Said(object.data.unwrap_or_default().remove("word").unwrap_or_default())
    }

    fn unreadable(metadata: ObjectMeta, _: String) -> Self {
        assert_eq!(metadata.managed_fields, None);
        Self::Unreadable(metadata.name.unwrap_or_default())
    }

    fn is_settled(&self) -> bool {
        *self == Self::Said("settled".to_owned())
    }
}

fn object(namespace: &str, name: &str, data: &Value) -> String {
    let managed = json!([{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:data": {}}}]);
    let meta = json!({"namespace": namespace, "name": name, "resourceVersion": "7", "managedFields": managed});
    json!({"metadata": meta, "data": data}).to_string()
}

fn item(namespace: &str, name: &str, word: &str) -> Item<Word> {
    serde_json::from_str(&object(namespace, name, &json!({"word": word}))).unwrap()
}

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}

#[test]
fn an_object_that_cannot_be_read_is_still_known() {
    let item: Item<Word> = serde_json::from_str(&object("a", "x", &json!("no map"))).unwrap();
    assert_eq!((item.key, item.version.as_str()), (key("a", "x"), "7"));
    assert_eq!(*item.kept, Word::Unreadable("x".to_owned()));
    assert!(serde_json::from_str::<Item<Word>>("[]").is_err());
}

#[test]
fn what_a_list_does_not_name_is_forgotten_in_its_scope_only() {
    let store = Store::default();
    for (namespace, name) in [("a", "stays"), ("a", "goes"), ("b", "other")] {
        store.put(store.begin_list(), item(namespace, name, "open"));
    }
    let round = store.begin_list();
    store.put(round, item("a", "stays", "open"));
    assert_eq!(store.count(), 3);
    assert_eq!(store.end_list(&Scope::Namespace("a".to_owned()), round).unsettled, [key("a", "stays")]);
    assert!(store.get(&key("a", "goes")).is_none() && store.get(&key("b", "other")).is_some());
    assert_eq!(store.end_list(&Scope::Cluster, store.begin_list()).unsettled, []);
    assert_eq!(store.count(), 0);
}

#[test]
fn what_has_not_changed_is_not_kept_anew() {
    let store = Store::default();
    let at = |version: &str| Item { version: version.to_owned(), ..item("a", "x", version) };
    let kept = |store: &Store<Word>| store.get(&key("a", "x")).unwrap();
    store.put(store.begin_list(), at("7"));
    let first = kept(&store);
    store.put(store.begin_list(), at("7"));
    assert!(Arc::ptr_eq(&first, &kept(&store)));
    for version in ["8", "no number", "no number"] {
        let before = kept(&store);
        store.put(store.begin_list(), at(version));
        assert!(!Arc::ptr_eq(&before, &kept(&store)), "{version}");
    }
}

#[test]
fn only_objects_that_are_not_settled_are_worth_a_pass() {
    let store = Store::default();
    let round = store.begin_list();
    store.put(round, item("a", "x", "settled"));
    store.put(round, item("a", "y", "open"));
    assert_eq!(store.end_list(&Scope::Cluster, round).unsettled, [key("a", "y")]);
}

#[test]
fn a_namespace_is_known_when_its_list_is_complete() {
    let store = Store::<Word>::default();
    let round = store.begin_list();
    store.put(round, item("a", "x", "open"));
    assert!(!store.is_listed("a"));
    store.end_list(&Scope::Namespace("a".to_owned()), round);
    assert!(store.is_listed("a") && !store.is_listed("b"));
    store.end_list(&Scope::Cluster, store.begin_list());
    assert!(store.is_listed("b"));
}

#[test]
fn a_look_is_into_one_namespace() {
    let store = Store::default();
    store.put(1, item("a", "x", "one"));
    store.put(1, item("b", "x", "two"));
    let words =
        |namespace| store.in_namespace(namespace, |kept| kept.map(|word| format!("{word:?}")).collect::<Vec<_>>());
    assert_eq!(words("b"), [r#"Said("two")"#]);
    assert!(words("c").is_empty());
}
