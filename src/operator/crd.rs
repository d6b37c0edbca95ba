//! Whether the `CustomResourceDefinition` of the cluster has every field that this version reads and writes.
//!
//! The API server prunes fields that its schema does not have, and refuses a server-side apply that names one: with an
//! older `CustomResourceDefinition` the operator could write no status. A newer one is no problem, because unknown
//! fields are read past. The schema is read from the API server's OpenAPI document, which needs no right of its own.

use crate::api::{API_VERSION, Kind};
use crate::controller::call::{CallError, call};
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Every field of each kind, one path on a line, without what is inside embedded Kubernetes types. To generate the
/// schemas anew at each start would cost 2 MiB of memory for as long as the process lives.
const BACKUP_FIELDS: &str = include_str!("fields/graphbackup.txt");
const SCHEDULE_FIELDS: &str = include_str!("fields/backupschedule.txt");
const RESTORE_FIELDS: &str = include_str!("fields/restore.txt");
/// Fields that a message names.
const NAMED_MAX: usize = 5;

/// The API server's OpenAPI document of one group and version; all but the schemas of our kinds is skipped while it is read.
#[derive(Deserialize)]
struct Document {
    components: Components,
}

#[derive(Deserialize)]
struct Components {
    schemas: Schemas,
}

#[derive(Deserialize)]
struct Schemas {
    #[serde(rename = "dev.graphbackup.v1alpha1.GraphBackup")]
    graph_backup: Option<Schema>,
    #[serde(rename = "dev.graphbackup.v1alpha1.BackupSchedule")]
    backup_schedule: Option<Schema>,
    #[serde(rename = "dev.graphbackup.v1alpha1.Restore")]
    restore: Option<Schema>,
}

/// The names of the fields in a schema.
#[derive(Clone, Default, Deserialize)]
struct Schema {
    #[serde(default)]
    properties: BTreeMap<String, Self>,
    items: Option<Box<Self>>,
    #[serde(default, rename = "x-kubernetes-preserve-unknown-fields")]
    takes_anything: bool,
}

/// What keeps this version from working with the `CustomResourceDefinition` of the cluster; nothing where it can.
pub async fn problem(client: &Client) -> Result<Option<String>, CallError> {
    let group_version = API_VERSION.split_once('/').unwrap_or_default();
    let served = async {
        let request = Request::new(format!("/openapi/v3/apis/{}", group_version.0));
        let request = request.get(group_version.1, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        client.request::<Document>(request).await
    };
    let served = call("read the OpenAPI document", served).await?;
    let schemas = served.components.schemas;
    let backups = problem_of(schemas.graph_backup.as_ref(), Kind::GraphBackup, BACKUP_FIELDS);
    let schedules = || problem_of(schemas.backup_schedule.as_ref(), Kind::BackupSchedule, SCHEDULE_FIELDS);
    let restores = || problem_of(schemas.restore.as_ref(), Kind::Restore, RESTORE_FIELDS);
    Ok(backups.or_else(schedules).or_else(restores))
}

fn problem_of(served: Option<&Schema>, kind: Kind, fields: &str) -> Option<String> {
    let Some(schema) = served else { return Some(format!("the API server does not serve {kind} yet")) };
    missing(schema, fields).map(|fields| {
        format!(
            "the CustomResourceDefinition {}.graphbackup.dev is older than this operator: it lacks {fields}; apply the \
             one of version {}",
            kind.plural(),
            env!("CARGO_PKG_VERSION")
        )
    })
}

/// The fields of this version that a served schema lacks, in words.
fn missing(served: &Schema, fields: &str) -> Option<String> {
    let missing: Vec<&str> = fields.lines().filter(|field| !has(served, field)).collect();
    // The fields inside one that is missing are missing, too.
    let is_inside = |field: &str| missing.iter().any(|outer| field.strip_prefix(outer).is_some_and(is_below));
    let missing: Vec<&str> = missing.iter().copied().filter(|field| !is_inside(field)).collect();
    let more = missing.len().saturating_sub(NAMED_MAX);
    let named = missing.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match (missing.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(named),
        (false, more) => Some(format!("{named} and {more} more")),
    }
}

fn is_below(rest: &str) -> bool {
    rest.starts_with('.') || rest.starts_with("[]")
}

/// Whether a schema has a field such as `status.attempts[].job`, or takes anything at its place.
fn has(served: &Schema, field: &str) -> bool {
    let mut schema = served;
    for part in field.split('.') {
        let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        if schema.takes_anything {
            return true;
        }
        let Some(found) = schema.properties.get(name) else { return false };
        schema = match (is_list, &found.items) {
            (true, Some(items)) => items,
            (true, None) => return false,
            (false, _) => found,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BackupSchedule, GraphBackup, Restore};
    use kube::CustomResourceExt;

    /// Embedded Kubernetes types: their fields are not ours.
    const FOREIGN: [&str; 7] =
        ["affinity", "conditions", "env", "imagePullSecrets", "resources", "securityContext", "tolerations"];

    fn own<K: CustomResourceExt>() -> Schema {
        let crd = serde_json::to_value(K::crd()).unwrap();
        Schema::deserialize(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]).unwrap()
    }

    fn fields(path: &str, schema: &Schema, found: &mut String) {
        for (name, property) in &schema.properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let (path, inner) = match &property.items {
                Some(items) => (format!("{path}[]"), items.as_ref()),
                None => (path, property),
            };
            found.push_str(&path);
            found.push('\n');
            if !FOREIGN.contains(&name.as_str()) {
                fields(&path, inner, found);
            }
        }
    }

    fn listed<K: CustomResourceExt>() -> String {
        let own = own::<K>();
        let mut listed = String::new();
        for part in ["spec", "status"] {
            fields(part, &own.properties[part], &mut listed);
        }
        listed
    }

    /// Writes the files with `UPDATE_FIELDS=1`.
    #[test]
    fn the_lists_have_every_field_of_the_schemas() {
        let lists = [
            ("graphbackup", listed::<GraphBackup>(), BACKUP_FIELDS),
            ("backupschedule", listed::<BackupSchedule>(), SCHEDULE_FIELDS),
            ("restore", listed::<Restore>(), RESTORE_FIELDS),
        ];
        if std::env::var_os("UPDATE_FIELDS").is_some() {
            for (name, listed, _) in &lists {
                let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/operator/fields");
                std::fs::write(format!("{folder}/{name}.txt"), listed).unwrap();
            }
        }
        for (_, listed, committed) in lists {
            assert!(listed == committed, "run the test with UPDATE_FIELDS=1");
        }
    }

    #[test]
    fn the_crd_of_this_version_lacks_nothing_and_a_newer_one_neither() {
        let mut newer = own::<GraphBackup>();
        assert_eq!(missing(&newer, BACKUP_FIELDS), None);
        let status = newer.properties.get_mut("status").unwrap();
        status.properties.insert("newer".to_owned(), Schema::default());
        assert_eq!(missing(&newer, BACKUP_FIELDS), None);
    }

    #[test]
    fn what_an_older_crd_lacks_is_named() {
        let mut older = own::<GraphBackup>();
        let status = &mut older.properties.get_mut("status").unwrap().properties;
        status.remove("adoption").unwrap();
        let attempts = status.get_mut("attempts").unwrap().items.as_mut().unwrap();
        attempts.properties.remove("mastership").unwrap();
        assert_eq!(missing(&older, BACKUP_FIELDS).as_deref(), Some("status.adoption, status.attempts[].mastership"));
        let mut oldest = own::<GraphBackup>();
        oldest.properties.get_mut("spec").unwrap().properties.clear();
        let said = missing(&oldest, BACKUP_FIELDS).unwrap();
        assert!(said.contains("spec.") && said.ends_with("more"), "{said}");
    }
}
