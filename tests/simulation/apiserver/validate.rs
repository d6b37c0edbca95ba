//! Rules of the real API server that our objects could break.

use super::refusal::Refusal;
use serde_json::Value;

/// Refuses what the real API server refuses.
pub fn validate(object: &Value) -> Result<(), Refusal> {
    let meta = &object["metadata"];
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = meta["name"].as_str().unwrap_or_default();
    // A Job's name becomes a label of its pods.
    let longest = if kind == "Job" { 63 } else { 253 };
    require(is_name(name, longest), || format!("metadata.name: {name:?}"))?;
    let labels =
        meta["labels"].as_object().into_iter().chain(object["spec"]["template"]["metadata"]["labels"].as_object());
    for (key, value) in labels.flatten() {
        let value = value.as_str().unwrap_or_default();
        require(is_label_value(value), || format!("metadata.labels: {key}={value}"))?;
    }
    let controllers = meta["ownerReferences"].as_array().into_iter().flatten();
    require(controllers.filter(|owner| owner["controller"] == true).count() <= 1, || "two controllers".to_owned())?;
    match kind {
        "Event" => event(object),
        "GraphBackup" => status(&object["status"]),
        "BackupSchedule" => schedule_status(&object["status"]),
        _ => Ok(()),
    }
}

/// Refuses a change that the real API server refuses.
pub fn validate_change(before: &Value, after: &Value) -> Result<(), Refusal> {
    if before["kind"] != "PersistentVolumeClaim" || before["spec"] == after["spec"] {
        return Ok(());
    }
    // The volume may be named later, the size may grow.
    let rest = |claim: &Value, volume_too: bool| {
        let mut spec = claim["spec"].clone();
        let fields = spec.as_object_mut().unwrap();
        fields.remove("resources");
        if volume_too {
            fields.remove("volumeName");
        }
        spec
    };
    let unnamed = before["spec"]["volumeName"].as_str().is_none_or(str::is_empty);
    require(rest(before, unnamed) == rest(after, unnamed), || "spec: is immutable after creation".to_owned())
}

/// In a namespace that is being deleted nothing is created.
pub fn validate_namespace(object: &Value, namespace: Option<&Value>) -> Result<(), Refusal> {
    let Some(namespace) = namespace.filter(|namespace| !namespace["metadata"]["deletionTimestamp"].is_null()) else {
        return Ok(());
    };
    let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
    let why = format!(
        "unable to create new content in namespace {} because it is being terminated",
        namespace["metadata"]["name"]
    );
    Err(Refusal { code: 403, reason: "Forbidden", message: format!("{kind} {name} is forbidden: {why}") })
}

fn event(event: &Value) -> Result<(), Refusal> {
    let within = |field: &str, least: usize, most: usize| {
        let length = event[field].as_str().unwrap_or_default().len();
        require((least..=most).contains(&length), || format!("{field} has {length} bytes"))
    };
    within("action", 1, 128)?;
    within("reason", 1, 128)?;
    within("note", 0, 1024)?;
    within("reportingController", 1, 253)?;
    within("reportingInstance", 1, 128)?;
    require(event["eventTime"].is_string(), || "eventTime is missing".to_owned())?;
    require(matches!(event["type"].as_str(), Some("Normal" | "Warning")), || "type".to_owned())
}

/// Bounds from the CRD.
fn status(status: &Value) -> Result<(), Refusal> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (conditions, attempts) = (list(&status["conditions"]), list(&status["attempts"]));
    require(conditions.len() <= 16 && attempts.len() <= 11, || "a list is too long".to_owned())?;
    for condition in &conditions {
        for field in ["type", "status", "reason", "message", "lastTransitionTime"] {
            require(condition[field].is_string(), || format!("a condition without {field}"))?;
        }
    }
    for attempt in &attempts {
        let length = attempt["message"].as_str().unwrap_or_default().chars().count();
        require(length <= 1024, || format!("an attempt's message has {length} characters"))?;
    }
    Ok(())
}

/// Bounds from the CRD.
fn schedule_status(status: &Value) -> Result<(), Refusal> {
    let retention = &status["retention"];
    let lists = [
        (&status["conditions"], 16),
        (&status["skipped"], 8),
        (&status["nextSlots"], 3),
        (&retention["keeps"], 50),
        (&retention["removes"], 50),
    ];
    let fits = |(list, most): &(&Value, usize)| list.as_array().is_none_or(|items| items.len() <= *most);
    require(lists.iter().all(fits), || "a list is too long".to_owned())
}

fn require(holds: bool, broken: impl FnOnce() -> String) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::invalid(broken())) }
}

fn is_name(name: &str, longest: usize) -> bool {
    let fits = !name.is_empty() && name.len() <= longest;
    let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    fits && inner && !name.starts_with(['-', '.']) && !name.ends_with(['-', '.'])
}

fn is_label_value(value: &str) -> bool {
    let outer = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    value.len() <= 63 && inner && outer(value.chars().next()) && outer(value.chars().last())
}
