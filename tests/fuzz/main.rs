//! A short run of every fuzz target, the same each time: its seeds, and changes of them that a fixed number drives.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod mutate;
mod targets;

use mutate::Mutator;
use targets::TARGETS;

/// For each target, seeds included. Some seconds for all of them, without optimisation.
const INPUTS: usize = 3000;

#[test]
fn every_target_holds() {
    std::thread::scope(|scope| {
        for target in TARGETS {
            scope.spawn(|| {
                let seeds = (target.seeds)();
                let mut mutator = Mutator::new(&seeds);
                for number in 0..INPUTS {
                    let input = seeds.get(number).cloned().unwrap_or_else(|| mutator.next_input());
                    let held = std::panic::catch_unwind(|| (target.check)(&input));
                    assert!(held.is_ok(), "target {}, input {number}: {}", target.name, input.escape_ascii());
                }
            });
        }
    });
}

#[test]
fn the_seeds_reach_what_is_asserted() {
    let verdicts = targets::seeds::verdict();
    let full = targets::object::told(str::from_utf8(&verdicts[0]).unwrap());
    assert!(full.0.has_succeeded(), "{full:?}");
    for target in TARGETS {
        assert!(!(target.seeds)().is_empty(), "{}", target.name);
    }
}
