//! The shape of the code: which part may use which, no circles, no long files. `docs/architecture.md` has the picture.
#![allow(clippy::unwrap_used, reason = "a test says what it wants in the fewest words")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What each part of the crate may use, besides itself.
const LAYERS: [(&str, &[&str]); 10] = [
    ("api", &[]),
    ("discovery", &["api"]),
    ("contract", &["api", "discovery"]),
    ("agent", &["api", "discovery", "contract"]),
    ("controller", &["api", "contract"]),
    ("members", &["api", "discovery", "controller"]),
    ("backup", &["api", "discovery", "contract", "controller", "members"]),
    ("schedule", &["api", "contract", "controller", "backup"]),
    ("restore", &["api", "discovery", "contract", "controller", "members", "backup"]),
    ("operator", &["api", "discovery", "controller", "backup", "schedule", "restore"]),
];

/// Longest file, lines without its unit tests.
const LINES_MAX: usize = 450;

/// A source file: its module path, and its text without comments and unit tests.
struct Source {
    module: Vec<String>,
    text: String,
}

fn sources() -> BTreeMap<String, Source> {
    let mut found = BTreeMap::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let root = folders[0].clone();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !["main.rs", "lib.rs", "tests.rs", "testing.rs"].contains(&name)
            {
                let relative = path.strip_prefix(&root).unwrap().with_extension("");
                let mut module: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                module.pop_if(|last| last == "mod");
                let text = product(&fs::read_to_string(&path).unwrap());
                found.insert(module.join("::"), Source { module, text });
            }
        }
    }
    found
}

/// A file without comments and without what follows `#[cfg(test)]`, which stands last.
fn product(text: &str) -> String {
    let tests = ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(test)]\nmod tests;"];
    let end = tests.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path of a `use` tree, one by one.
fn expand(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(character);
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| expand(part)).map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// The paths into this crate that a file names.
fn paths(source: &Source) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = source.text.as_str();
    while let Some(start) = rest.find("use ") {
        let (tree, after) = rest[start + 4..].split_once(';').unwrap_or_default();
        paths.extend(expand(&tree.replace('\n', " ")));
        rest = after;
    }
    for root in ["crate::", "super::"] {
        for (start, _) in source.text.match_indices(root) {
            let path = source.text[start..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next();
            paths.push(path.unwrap().trim_end_matches(':').to_owned());
        }
    }
    paths.iter().filter_map(|path| absolute(source, path)).collect()
}

fn absolute(source: &Source, path: &str) -> Option<Vec<String>> {
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut module = match *parts.peek()? {
        "crate" => Vec::new(),
        "super" => source.module.clone(),
        _ => return None,
    };
    while let Some(part) = parts.next_if(|part| ["crate", "super"].contains(part)) {
        if part == "super" {
            module.pop();
        }
    }
    module.extend(parts.filter(|part| *part != "self").map(|part| part.split(' ').next().unwrap_or(part).to_owned()));
    Some(module)
}

/// Which files each file uses.
fn uses(sources: &BTreeMap<String, Source>) -> BTreeMap<&str, BTreeSet<&str>> {
    let file = |path: &[String]| {
        (1..=path.len()).rev().find_map(|length| sources.get_key_value(&path[..length].join("::"))).map(|(key, _)| key)
    };
    let used = |key: &String, source| {
        let files: BTreeSet<&str> = paths(source)
            .iter()
            .filter_map(|path| file(path))
            .filter(|used| *used != key)
            .map(String::as_str)
            .collect();
        files
    };
    sources.iter().map(|(key, source)| (key.as_str(), used(key, source))).collect()
}

#[test]
fn each_part_uses_only_those_below_it() {
    let sources = sources();
    for (file, used) in uses(&sources) {
        let part = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
        let own = part(file);
        let (_, allowed) =
            LAYERS.iter().find(|(name, _)| *name == own).unwrap_or_else(|| panic!("{file} is in no layer"));
        for used in used {
            let other = part(used);
            assert!(other == own || allowed.contains(&other.as_str()), "{file} uses {used}");
        }
    }
}

#[test]
fn no_file_is_in_a_circle() {
    let sources = sources();
    let uses = uses(&sources);
    // Files that use only files outside the set leave it, until only circles are left.
    let mut left: BTreeSet<&str> = uses.keys().copied().collect();
    loop {
        let before = left.len();
        let rest = left.clone();
        left.retain(|file| uses[file].iter().any(|used| rest.contains(used)));
        if left.len() == before {
            break;
        }
    }
    // What uses a circle without being in one leaves from the other side.
    loop {
        let before = left.len();
        let rest = left.clone();
        left.retain(|file| rest.iter().any(|user| uses[user].contains(file)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn what_every_controller_is_made_of_knows_no_kind() {
    for (file, source) in sources().iter().filter(|(file, _)| file.starts_with("controller")) {
        assert!(!source.text.contains("GraphBackup"), "{file} names a kind");
    }
}

#[test]
fn no_file_is_long() {
    for (file, source) in &sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "{file} has {lines} lines");
    }
}
