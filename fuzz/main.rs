//! One fuzz target under libFuzzer, named by the environment variable `FUZZ_TARGET`. Called by `fuzz/run`.
#![no_main]

#[path = "../tests/fuzz/targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::{env, fs};
use targets::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("FUZZ_TARGET is one of {known:?}"))
});

fuzz_target!(
    init: {
        // libFuzzer reads its corpus only after this.
        if let Some(corpus) = env::var_os("FUZZ_CORPUS") {
            for (number, seed) in (TARGET.seeds)().iter().enumerate() {
                fs::write(std::path::Path::new(&corpus).join(format!("seed-{number}")), seed).unwrap();
            }
        }
    },
    |data: &[u8]| (TARGET.check)(data)
);
