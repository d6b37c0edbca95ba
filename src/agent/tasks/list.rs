//! The points on a mounted target, as objects that adopt them: for when the objects are lost and the volume is not.

use crate::agent::stop::Stop;
use crate::agent::store::manifest::{Manifest, STORE_FOLDER};
use crate::agent::store::manifest_file;
use crate::agent::store::seed;
use crate::agent::volume::layout::is_folder_name;
use crate::api::condition::{SEEDABLE, Truth};
use crate::api::{Reason, Source, StoreId};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longest name of a `GraphBackup`.
const NAME_BYTES_MAX: usize = 52;
/// Bytes of a UID that tell two objects of one name apart.
const UID_BYTES: usize = 8;
/// What stands for a name that no object can have.
const UNNAMED: &str = "point";
/// What stands for the image of a point that no tool made.
const UNKNOWN_IMAGE: &str = "unknown";
/// What stands for a source that a manifest does not tell.
const UNKNOWN_SOURCE: &str = "ha://unknown";

/// Which target, and how objects name it.
#[derive(Debug, Args)]
pub struct PointsArguments {
    /// Where the target claim is mounted.
    #[arg(long, default_value = crate::contract::task::TARGET_MOUNT)]
    target: PathBuf,
    /// Name of the claim, for the objects.
    #[arg(long)]
    claim: String,
    /// Folder on the claim below which the points are (`spec.target.directory`).
    #[arg(long, default_value = "")]
    directory: String,
}

/// A target cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {path}: {source}")]
pub struct PointsError {
    path: PathBuf,
    source: io::Error,
}

/// One YAML document for each point, oldest first; points whose manifest cannot be read are told as comments.
///
/// Manifests are believed here; adopting reads every file.
pub fn points_yaml(arguments: &PointsArguments) -> Result<String, PointsError> {
    let mut names = BTreeSet::new();
    let mut documents = Vec::new();
    let root = arguments.target.join(&arguments.directory);
    for cluster in folders(&root)?.iter().filter(|name| name.parse::<StoreId>().is_ok()) {
        for point in folders(&root.join(cluster))?.iter().filter(|name| is_folder_name(name)) {
            documents.push(match manifest_file::read(&root.join(cluster).join(point)) {
                Ok((manifest, _)) => {
                    let name = name(&manifest, &mut names);
                    let object = object(arguments, &manifest, &name, &format!("{cluster}/{point}"));
                    let seedable = seedable(&manifest, &root.join(cluster).join(point));
                    // JSON is YAML, and quotes what needs it.
                    format!("# {cluster}/{point}: {seedable}\n---\n{object:#}\n")
                }
                Err(error) => format!("# {cluster}/{point}: {}\n", error.to_string().replace('\n', " ")),
            });
        }
    }
    Ok(documents.concat())
}

/// Names of the folders in a folder, sorted.
fn folders(path: &Path) -> Result<Vec<String>, PointsError> {
    let failed = |source| PointsError { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a cluster can start from the point, in one line.
fn seedable(manifest: &Manifest, folder: &Path) -> String {
    let judged = manifest.seed.clone().map_or_else(|| seed::judge(&folder.join(STORE_FOLDER), &Stop::never()), Ok);
    let (truth, reason, message) = match judged {
        Ok(seed) => seed.condition(),
        Err(failure) => (Truth::Unknown, Reason::LogsUnreadable, failure.message),
    };
    let line = format!("{SEEDABLE}={} ({reason}): {message}", truth.as_str());
    line.replace(char::is_control, " ")
}

/// The name that the object had, with the start of its UID where an older one had it too, and with a number where that
/// is not enough. What the API server would not take in a name is left out.
fn name(manifest: &Manifest, taken: &mut BTreeSet<String>) -> String {
    let owner = &manifest.owner;
    let name = fit(&owner.name, NAME_BYTES_MAX);
    let uid = fit(&owner.uid, UID_BYTES);
    let others = (1_usize..).map(|number| match number {
        1 => with_end(&name, &uid),
        _ => with_end(&name, &format!("{uid}-{number}")),
    });
    let free = std::iter::once(name.clone()).chain(others).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// Lower-case letters, digits, `-` and `.`, with a letter or digit at both ends; never empty.
fn fit(text: &str, bytes_max: usize) -> String {
    let lower = text.chars().map(|c| c.to_ascii_lowercase());
    let kept: String =
        lower.filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.')).collect();
    let start = kept.trim_start_matches(['-', '.']);
    let cut = start[..start.len().min(bytes_max)].trim_end_matches(['-', '.']);
    if cut.is_empty() { UNNAMED.to_owned() } else { cut.to_owned() }
}

fn with_end(name: &str, end: &str) -> String {
    format!("{}-{end}", fit(name, NAME_BYTES_MAX - 1 - end.len()))
}

fn object(arguments: &PointsArguments, manifest: &Manifest, name: &str, point: &str) -> Value {
    let unknown = Source { uri: UNKNOWN_SOURCE.to_owned(), cluster_name: None };
    let mut target = json!({"claimName": arguments.claim});
    if !arguments.directory.is_empty() {
        target["directory"] = json!(arguments.directory);
    }
    json!({
        "apiVersion": "graphbackup.dev/v1alpha1",
        "kind": "GraphBackup",
        "metadata": {"name": name, "namespace": manifest.owner.namespace},
        "spec": {
            "adopt": point,
            "source": manifest.source.as_ref().unwrap_or(&unknown),
            "target": target,
            "tool": {"image": manifest.tool.as_ref().map_or(UNKNOWN_IMAGE, |tool| &tool.image)},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;
    use crate::api::GraphBackup;

    /// A point with this manifest.
    fn publish(target: &Path, manifest: &Manifest) {
        let folder = target.join("team").join(manifest.store_id.to_string()).join(&manifest.point);
        fs::create_dir_all(&folder).unwrap();
        manifest_file::write(&folder, manifest).unwrap();
    }

    fn printed(target: &Path) -> String {
        let (claim, directory) = ("backups".to_owned(), "team".to_owned());
        points_yaml(&PointsArguments { target: target.to_owned(), claim, directory }).unwrap()
    }

    #[test]
    fn names_that_no_object_can_have_are_made_such() {
        let mut taken = BTreeSet::new();
        let mut call = |object: &str, uid: &str| {
            let mut manifest = testing::manifest();
            (manifest.owner.name, manifest.owner.uid) = (object.to_owned(), uid.to_owned());
            name(&manifest, &mut taken)
        };
        let (combined, decomposed) = ("b\u{fc}".repeat(40), "bu\u{308}".repeat(40));
        let names = [
            call(&combined, "ü".repeat(40).as_str()),
            call(&combined, "ü".repeat(40).as_str()),
            call(&decomposed, &"u".repeat(300)),
            call("Night.", "1a2b3c4d-0000"),
            call("night", "1a2b3c4d-0000"),
            call("night", "1a2b3c4d-0000"),
            call("...", ""),
        ];
        let b = "b".repeat(40);
        let bu = "bu".repeat(26);
        assert_eq!(names, [&b, &format!("{b}-point"), &bu, "night", "night-1a2b3c4d", "night-1a2b3c4d-2", "point"]);
    }

    #[test]
    fn each_point_is_printed_as_an_object_that_adopts_it() {
        let target = tempfile::tempdir().unwrap();
        let first = testing::manifest();
        let mut second = testing::manifest();
        second.point = "20261125T060000Z-before-upgrade-9a2b3c4d".into();
        second.owner.uid = "9a2b3c4d-0000".into();
        second.owner.name = "n".repeat(52);
        let mut third = second.clone();
        third.point = "20261126T060000Z-again-1a2b3c4d".into();
        third.tool = None;
        // Made before format 2: the store is asked, which is not there.
        third.seed = None;
        for manifest in [&first, &second, &third] {
            publish(target.path(), manifest);
        }
        let cluster = target.path().join("team").join(testing::STORE_ID.to_string());
        fs::create_dir_all(cluster.join(".partial-u-p/store")).unwrap();
        fs::create_dir(cluster.join("notes")).unwrap();
        let printed = printed(target.path());
        let unknown = format!("# {}/{}: Seedable=Unknown (LogsUnreadable): ", testing::STORE_ID, third.point);
        assert!(printed.contains(&unknown), "{printed}");
        assert!(printed.contains(&format!("# {}/notes: ", testing::STORE_ID)), "{printed}");
        let objects: Vec<GraphBackup> = printed
            .split("---\n")
            .filter_map(|document| serde_json::from_str(document.split("\n#").next().unwrap()).ok())
            .collect();
        assert_eq!(objects.len(), 3, "{printed}");
        let seedable = format!("# {}/{}: Seedable=True (LogsComplete): ", testing::STORE_ID, first.point);
        assert!(printed.contains(&seedable), "{printed}");
        let spec = &objects[0].spec;
        assert_eq!(spec.adopt.as_deref(), Some(format!("{}/{}", testing::STORE_ID, first.point).as_str()));
        assert_eq!((spec.source.uri.as_str(), spec.target.directory.as_str()), ("ha://zk", "team"));
        assert_eq!(spec.tool.image, "neo4j:1.8");
        let names: Vec<_> = objects.iter().map(|object| object.metadata.name.clone().unwrap()).collect();
        let with_uid = format!("{}-9a2b3c4d", "n".repeat(43));
        assert_eq!(names, ["before-upgrade", &"n".repeat(52), &with_uid]);
    }
}
