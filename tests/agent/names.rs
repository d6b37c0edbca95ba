//! Names of legacy indexes, which Java turns into names of folders by its locale.

use crate::agent::program;
use crate::scene::{GOOD_TOOL, Scene};
use graph_backup_operator::api::{Reason, Verification};
use std::fs;

/// The indexes `Bücher`, `who?`, `plain`, `a/b`, `😀x`, `neveré` and `straße`.
const INDEX_DB: &[u8] = include_bytes!("../recorded/index/index.db");

/// A scene whose tool leaves these index folders.
fn scene(folders: &[&str]) -> Scene {
    let make = |folder: &&str| format!("mkdir -p \"$target/index/lucene/{folder}\"\n");
    let folders = folders.iter().map(make).collect::<Vec<_>>().concat();
    let scene = Scene::with_tool(&format!("cp \"$scene/index.db\" \"$target/index.db\"\n{folders}{GOOD_TOOL}"));
    fs::write(scene.path("index.db"), INDEX_DB).unwrap();
    scene
}

#[test]
fn real_names_are_kept() {
    let scene = scene(&["node/Bücher", "node/who?", "node/a/b", "node/😀x", "relationship/straße"]);
    scene.backup("pod-1").published();
    assert!(scene.point_folder().join("store/index/lucene/node/Bücher").is_dir());
}

#[test]
fn a_copy_with_replaced_names_is_no_success() {
    for folder in ["node/B?cher", "relationship/stra\u{fffd}e", "node/?x"] {
        let scene = scene(&["node/who?", folder]);
        let failure = scene.backup("pod-1").failed(Reason::NamesReplaced);
        assert!(failure.message.contains(folder) && failure.message.contains("LC_ALL"), "{}", failure.message);
        assert_eq!(scene.in_cluster_folder(), [""; 0]);
    }
    // "ü" in Latin-1.
    let latin = Scene::with_tool(&format!("mkdir \"$target/$(printf 'B\\374cher')\"\n{GOOD_TOOL}"));
    latin.backup("pod-1").failed(Reason::NamesReplaced);
    // Without the list nobody can tell.
    let unlisted = Scene::with_tool(&format!("mkdir -p \"$target/index/lucene/node/who?\"\n{GOOD_TOOL}"));
    unlisted.backup("pod-1").failed(Reason::ToolLeftNoStore);
}

/// The locale of the tool and of the boot command, in an image that sets these variables.
fn locales(image: &[&str]) -> Vec<String> {
    let said = "echo \"${LC_ALL:-}|${LC_CTYPE:-}|${LANG:-}\" >> \"$scene/locale\"";
    let mut scene = Scene::with_tool(&format!("{said}\n{GOOD_TOOL}"));
    scene.run.verification = Verification::Boot;
    let boot = format!("scene='{}'; {said}", scene.path("").display());
    scene.run.boot_command = Some(["sh", "-c", &boot].map(str::to_owned).to_vec());
    let words = ["env", "-u", "LC_ALL", "-u", "LC_CTYPE", "-u", "LANG"];
    let mut words: Vec<_> = words.iter().chain(image).map(|word| (*word).to_owned()).collect();
    words.push(program());
    scene.start_through(&words, "pod-1").finish().published();
    fs::read_to_string(scene.path("locale")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_tool_has_a_utf_8_locale_where_none_is_set() {
    assert_eq!(locales(&[]), ["C.UTF-8||", "C.UTF-8||"]);
    assert_eq!(locales(&["LANG="]), ["C.UTF-8||", "C.UTF-8||"]);
    assert_eq!(locales(&["LANG=de_DE.UTF-8"]), ["||de_DE.UTF-8", "||de_DE.UTF-8"]);
    assert_eq!(locales(&["LC_ALL=POSIX"]), ["POSIX||", "POSIX||"]);
    assert_eq!(locales(&["LC_CTYPE=en_US.UTF-8"]), ["|en_US.UTF-8|", "|en_US.UTF-8|"]);
}
