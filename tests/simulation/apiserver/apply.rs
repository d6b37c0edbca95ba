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

/// Whether two items of a list that is merged are the same one.
pub fn names_an_item_twice(applied: &Value) -> bool {
    LIST_KEYS.iter().any(|(list, key)| {
        let items = applied[*list].as_array().map_or(&[] as &[Value], Vec::as_slice);
        items.iter().enumerate().any(|(at, item)| items[..at].iter().any(|other| other[*key] == item[*key]))
    })
}

/// What another manager still owns: not what somebody has now written another value over, by force.
pub fn give_up(owned: &mut Value, applied: &Value) {
    take_out(owned, applied, |mine, theirs| mine != theirs);
}

/// Takes out of what a manager applied last what somebody else owns, too: that stays when it is left out.
pub fn keep(last: &mut Value, owned: &Value) {
    take_out(last, owned, |_, _| true);
}

/// Takes out the fields and the items of merged lists that are in both, where `goes` says so of the two values.
fn take_out(mine: &mut Value, theirs: &Value, goes: fn(&Value, &Value) -> bool) {
    let (Some(fields), Some(theirs)) = (mine.as_object_mut(), theirs.as_object()) else { return };
    fields.retain(|field, mine| {
        let Some(theirs) = theirs.get(field) else { return true };
        if let Some((_, key)) = LIST_KEYS.iter().find(|(list, _)| list == field) {
            if let (Some(mine), Some(theirs)) = (mine.as_array_mut(), theirs.as_array()) {
                mine.retain(|item| !theirs.iter().any(|other| other[*key] == item[*key] && goes(item, other)));
            }
            return true;
        }
        if mine.is_object() {
            take_out(mine, theirs, goes);
            return true;
        }
        !goes(mine, theirs)
    });
}

/// A JSON merge patch (RFC 7386).
pub fn merge_patch(live: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *live = patch.clone();
        return;
    };
    if !live.is_object() {
        *live = Value::Object(Map::new());
    }
    let fields = live.as_object_mut().unwrap();
    for (field, value) in patch {
        if value.is_null() {
            fields.remove(field);
        } else {
            merge_patch(fields.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
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
