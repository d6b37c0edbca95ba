//! Points that an earlier object of the same namespace and name left on the target: an object that was deleted, or lost
//! with its API server, and created again.

use crate::agent::store::manifest_file;
use crate::agent::volume::layout::Layout;
use crate::api::Owner;
use crate::api::Reason;
use crate::contract::failure::Failure;
use crate::contract::task::BackupRun;
use std::fs;
use std::path::Path;

/// Folders that are looked through.
const ENTRIES_MAX: usize = 20_000;
/// Manifests that are read, those of the newest points first.
const MANIFESTS_MAX: usize = 5;
/// Characters of the UID at the end of a point's name, see [`crate::api::names::point`].
const UID_CHARACTERS: usize = 8;

/// The newest such point, as `spec.adopt` names it: `<store id>/<folder>`. What cannot be read is passed over: this is
/// a hint for people, and no evidence.
pub fn newest(layout: &Layout, owner: &Owner) -> Option<String> {
    let folder = layout.cluster_folder();
    let entries = fs::read_dir(&folder).ok()?.take(ENTRIES_MAX).flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut candidates: Vec<String> = names.filter(|name| may_be_of(name, &owner.name)).collect();
    candidates.sort_unstable_by(|one, other| other.cmp(one));
    let is_earlier = |name: &&String| {
        manifest_file::read(&folder.join(name.as_str())).is_ok_and(|(manifest, _)| {
            let maker = &manifest.owner;
            (&maker.namespace, &maker.name) == (&owner.namespace, &owner.name) && maker.uid != owner.uid
        })
    };
    let found = candidates.iter().take(MANIFESTS_MAX).find(is_earlier)?;
    Some(format!("{}/{found}", folder.file_name()?.to_str()?))
}

/// Refuses a cold copy where an earlier object of the name left a point: the member need not be stopped again for what
/// is there.
pub fn refuse(run: &BackupRun, mount: &Path) -> Result<(), Failure> {
    let layout = Layout::new(mount, &run.place)?;
    let Some(point) = newest(&layout, &run.owner) else { return Ok(()) };
    Err(Failure::new(
        Reason::EarlierPoint,
        format!(
            "an earlier object of this name made the point {point}: to take it, create a GraphBackup with spec.adopt: {point}; \
             to copy again, create this one under another name"
        ),
    ))
}

/// Whether a folder has the name of a point of an object with this name: `<time>-<name>-<start of the UID>`.
fn may_be_of(folder: &str, name: &str) -> bool {
    let rest = folder.split_once('-').filter(|(time, _)| time.ends_with('Z')).map(|(_, rest)| rest);
    let end = rest.and_then(|rest| rest.strip_prefix(name)?.strip_prefix('-'));
    end.is_some_and(|uid| uid.len() == UID_CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing;
    use crate::agent::volume::target;
    use crate::contract::task::Place;

    #[test]
    fn the_newest_point_of_an_earlier_object_of_the_name_is_found() {
        let mount = tempfile::tempdir().unwrap();
        let owner = testing::owner();
        let point = |hour: u32, name: &str, uid: &str| format!("20261124T{hour:02}0000Z-{name}-{uid}");
        let place = |point: String| Place { directory: String::new(), cluster: testing::STORE_ID, point };
        let publish = |hour: u32, name: &str, owner_uid: &str| {
            let folder = point(hour, name, "1a2b3c4d");
            let layout = Layout::new(mount.path(), &place(folder.clone())).unwrap();
            target::prepare(&layout).unwrap();
            let partial = layout.partial_folder("uid", "pod").unwrap();
            target::make_partial(&partial).unwrap();
            let mut manifest = testing::manifest();
            manifest.owner = Owner { name: name.into(), uid: owner_uid.into(), ..owner.clone() };
            manifest_file::write(&partial, &manifest).unwrap();
            target::publish(&partial, &layout.point_folder()).unwrap();
            folder
        };
        let layout = Layout::new(mount.path(), &place(point(9, &owner.name, "9a2b3c4d"))).unwrap();
        assert_eq!(newest(&layout, &owner), None);
        publish(1, &owner.name, "an-earlier-uid");
        let newer = publish(2, &owner.name, "another-earlier-uid");
        publish(3, &owner.name, &owner.uid);
        publish(4, &format!("{}-of-another", owner.name), "an-earlier-uid");
        assert_eq!(newest(&layout, &owner), Some(format!("{}/{newer}", testing::STORE_ID)));
    }

    #[test]
    fn names_of_points_are_told_from_others() {
        assert!(may_be_of("20261124T060000Z-nightly-1a2b3c4d", "nightly"));
        for other in
            ["20261124T060000Z-nightly-2-1a2b3c4d", ".partial-nightly-1a2b3c4d", "nightly", "x-nightly-1a2b3c4d"]
        {
            assert!(!may_be_of(other, "nightly"), "{other}");
        }
    }
}
