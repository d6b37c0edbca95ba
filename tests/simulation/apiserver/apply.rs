//! Server-side apply, as far as a forced apply needs it: a field that the manager applied before and leaves out now is
//! removed, a field of somebody else stays.

use serde_json::{Map, Value};

/// Lists of objects that are merged by one of their fields; all other lists are replaced whole.
const LIST_KEYS: [(&str, &str); 1] = [("conditions", "type")];

/// Merges what a manager applies into the live value; `last` is what it applied before.
pub fn merge(live: &mut Value, last: &Value, applied: &Value) {
    let Some(applied) = applied.as_object() else {
        *live = applied.clone();
        return;
    };
    if !live.is_object() {
        *live = Value::Object(Map::new());
    }
    let fields = live.as_object_mut().unwrap();
    for dropped in last.as_object().into_iter().flat_map(Map::keys).filter(|field| !applied.contains_key(*field)) {
        fields.remove(dropped);
    }
    for (field, value) in applied {
        let slot = fields.entry(field.clone()).or_insert(Value::Null);
        match LIST_KEYS.iter().find(|(list, _)| list == field) {
            Some((_, key)) => merge_list(slot, &last[field], value, key),
            None => merge(slot, &last[field], value),
        }
    }
}

fn merge_list(live: &mut Value, last: &Value, applied: &Value, key: &str) {
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let (last, applied) = (items(last), items(applied));
    let has = |list: &[Value], item: &Value| list.iter().any(|other| other[key] == item[key]);
    let mut merged = items(live);
    merged.retain(|item| !has(&last, item) || has(&applied, item));
    for item in applied {
        match merged.iter_mut().find(|old| old[key] == item[key]) {
            Some(old) => *old = item,
            None => merged.push(item),
        }
    }
    *live = Value::Array(merged);
}

#[test]
fn what_a_manager_leaves_out_goes_and_what_others_wrote_stays() {
    use serde_json::json;
    let last = json!({"phase": "Running", "conditions": [{"type": "A"}, {"type": "B"}], "list": [1]});
    let mut live = last.clone();
    live["note"] = json!("of somebody else");
    live["conditions"].as_array_mut().unwrap().push(json!({"type": "Foreign"}));
    merge(&mut live, &last, &json!({"conditions": [{"type": "B", "status": "True"}], "list": [2]}));
    assert_eq!(
        live,
        json!({"note": "of somebody else", "list": [2],
               "conditions": [{"type": "B", "status": "True"}, {"type": "Foreign"}]})
    );
}
