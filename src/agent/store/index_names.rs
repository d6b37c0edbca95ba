//! Names of legacy indexes, and whether the folders of a copy still have them.
//!
//! An index has a folder of its name: `index/lucene/node/<name>` or `index/lucene/relationship/<name>`; a `/` in the
//! name makes further folders. Java turns a name into bytes by the locale of its process, and writes a `?` for every
//! character that the locale does not have. The engine then looks for the index under its real name, and finds it
//! empty.
//!
//! The real names are in the file `index.db` (Neo4j 1.3 to 1.8; recorded in `tests/recorded/index`): the bytes
//! `neo4j-index`, the version 1, then all indexes of nodes and all of relationships. Both begin with their number. Each
//! index is its name, the number of its settings, and each of these as two texts. A text is its number of UTF-16 units
//! and the units. All numbers have 32 bits; everything is big-endian.

use crate::agent::store::files;
use crate::agent::volume::target;
use crate::api::Reason;
use crate::contract::failure::{Failure, cut};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// File of the names, inside the store.
const FILE_NAME: &str = "index.db";
/// The folder of all indexes, inside the store.
const INDEX_FOLDER: &str = "index";
/// Folders in it whose folders have the names of indexes.
const FOLDERS: [&str; 2] = ["lucene/node/", "lucene/relationship/"];
const MAGIC: &[u8] = b"neo4j-index";
const VERSION: u32 = 1;
/// Longer than the names of ten thousand indexes.
const BYTES_MAX: u64 = 4 << 20;
/// What stands for a character that could not be written: Java's, and that of Unicode.
const REPLACEMENTS: [char; 2] = ['?', '\u{fffd}'];
/// Bytes of a name in a message.
const QUOTE_BYTES_MAX: usize = 100;

/// Refuses a store in which names of indexes were replaced.
pub fn check(store: &Path) -> Result<(), Failure> {
    let index = store.join(INDEX_FOLDER);
    if !target::exists(&index)? {
        return Ok(());
    }
    let listing = files::list(&index)?;
    let folders: BTreeSet<&str> = listing.folders.iter().map(String::as_str).collect();
    if !folders.iter().any(|folder| folder.contains(REPLACEMENTS)) {
        return Ok(());
    }
    let listed = read(&store.join(FILE_NAME)).map_err(|error| {
        Failure::new(
            Reason::ToolLeftNoStore,
            format!("the tool left index folders whose names cannot be checked: cannot read {FILE_NAME}: {error}"),
        )
    })?;
    match replaced(&folders, &listed) {
        None => Ok(()),
        Some(folder) => Err(files::names_replaced(&format!(
            "the copy holds the folder {INDEX_FOLDER}/{}, and no index has this name",
            cut(folder, QUOTE_BYTES_MAX)
        ))),
    }
}

/// The first folder of an index whose name is not that of any index, but what a replacement makes of one.
fn replaced<'a>(folders: &BTreeSet<&'a str>, listed: &BTreeSet<String>) -> Option<&'a str> {
    let with_replacement = folders.iter().filter(|folder| folder.contains(REPLACEMENTS));
    with_replacement.copied().find(|folder| {
        FOLDERS.iter().find_map(|parent| folder.strip_prefix(parent)).is_some_and(|name| {
            let is_or_leads_to = |index: &String| index == name || index.starts_with(&format!("{name}/"));
            // Another index of the same replacement, whose own folder is missing, was mixed into this one.
            let is_there =
                |index: &str| FOLDERS.iter().any(|parent| folders.contains(format!("{parent}{index}").as_str()));
            let stands_for = |index: &String| index != name && looks_like(index, name) && !is_there(index);
            !listed.iter().any(is_or_leads_to) || listed.iter().any(stands_for)
        })
    })
}

/// Whether a locale without some of the characters of `index` makes `name` of it.
fn looks_like(index: &str, name: &str) -> bool {
    index.chars().count() == name.chars().count()
        && index.chars().zip(name.chars()).all(|(is, was)| is == was || !is.is_ascii() && REPLACEMENTS.contains(&was))
}

fn read(path: &Path) -> io::Result<BTreeSet<String>> {
    let file: File = files::open(path)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not a list of indexes"))
}

/// The names of all indexes in an `index.db`; nothing if it is not one.
pub fn parse(bytes: &[u8]) -> Option<BTreeSet<String>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    if number(&mut rest)? != VERSION {
        return None;
    }
    let mut names = BTreeSet::new();
    for _ in FOLDERS {
        for _ in 0..number(&mut rest)? {
            names.insert(text(&mut rest)?);
            for _ in 0..number(&mut rest)? {
                text(&mut rest)?;
                text(&mut rest)?;
            }
        }
    }
    rest.is_empty().then_some(names)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let bytes = usize::try_from(number(rest)?).ok()?.checked_mul(2)?;
    let (text, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    let units: Vec<u16> = text.as_chunks().0.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
    // Half of a pair is no character, and Java replaces it in any locale.
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Recorded from Neo4j 1.8.0; `tests/recorded/index/README.md` says how.
    const RECORDED: &[u8] = include_bytes!("../../../tests/recorded/index/index.db");

    #[test]
    fn the_names_of_a_real_store() {
        let names: Vec<_> = parse(RECORDED).unwrap().into_iter().collect();
        assert_eq!(names, ["Bücher", "a/b", "neveré", "plain", "straße", "who?", "😀x"]);
    }

    #[test]
    fn what_is_no_list_is_not_taken_for_an_empty_one() {
        for length in 0..RECORDED.len() {
            assert_eq!(parse(&RECORDED[..length]), None, "{length}");
        }
        assert_eq!(parse(&[RECORDED, b"x"].concat()), None);
    }

    /// The first folder whose name was replaced; empty if there is none.
    fn found(folders: &[&'static str]) -> &'static str {
        let folders = folders.iter().copied().collect();
        replaced(&folders, &parse(RECORDED).unwrap()).unwrap_or_default()
    }

    #[test]
    fn replaced_names_are_told_from_real_ones() {
        let real = ["lucene/node/Bücher", "lucene/node/who?", "lucene/node/a/b", "lucene/node/😀x"];
        assert_eq!(found(&real), "");
        for name in [
            "lucene/node/B?cher",
            "lucene/node/B\u{fffd}cher",
            "lucene/relationship/stra?e",
            "lucene/node/?x",
            "lucene/node/who?/deeper?",
        ] {
            assert_eq!(found(&[name, "lucene/node/who?"]), name);
        }
        // Elsewhere a name is none of an index.
        assert_eq!(found(&["branched/what?"]), "");
    }

    #[test]
    fn an_index_that_was_mixed_into_one_of_its_replaced_name_is_missed() {
        let listed = ["Bücher".to_owned(), "B?cher".to_owned()].into();
        let of = |folders: &[&'static str]| replaced(&folders.iter().copied().collect(), &listed);
        let mixed = "lucene/node/B?cher";
        assert_eq!(of(&[mixed, "lucene/node/Bücher"]), None);
        assert_eq!(of(&[mixed]), Some(mixed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&[MAGIC, &VERSION.to_be_bytes(), &bytes].concat());
        }
    }
}
