//! What the suites have in common: each scenario of a list becomes a test, and what was run is told.

use crate::driver::Run;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Each scenario of a list becomes a test.
macro_rules! enumerated {
    ($count:ident, $module:ident, $enumerate:ident: $($file:ident::$name:ident),+ $(,)?) => {
        const $count: usize = [$(stringify!($name)),+].len();

        mod $module {
            $(#[test] fn $name() { super::$file::$name().$enumerate(); })+
        }
    };
}

pub(crate) use enumerated;

/// How much of a suite was run.
pub struct Report {
    /// What its scenarios are called.
    what: &'static str,
    /// How many tests it has.
    all: usize,
    scenarios: AtomicUsize,
    runs: AtomicUsize,
}

impl Report {
    /// Of a suite with so many tests.
    pub const fn new(what: &'static str, all: usize) -> Self {
        Self { what, all, scenarios: AtomicUsize::new(0), runs: AtomicUsize::new(0) }
    }

    /// Tells that a scenario was run, past the capture of the test harness.
    pub fn add(&self, title: &str, requests: usize, faults: usize) {
        let scenarios = self.scenarios.fetch_add(1, Ordering::Relaxed) + 1;
        let runs = self.runs.fetch_add(faults + 1, Ordering::Relaxed) + faults + 1;
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "simulation: {title}: {requests} requests, {faults} faults");
        if scenarios == self.all {
            let _ = writeln!(out, "simulation: {scenarios} {} x their faults = {runs} runs", self.what);
        }
    }
}

/// Every pass from one on and its requests, for people.
pub fn tell(run: &Run, first: usize, most: usize) -> String {
    let mut lines = Vec::new();
    for (number, pass) in run.passes.iter().enumerate().skip(first) {
        lines.push(format!("{:>6}s pass {number} over {} → {}", pass.at.as_secs(), pass.key.name, pass.after));
        for record in pass.requests.iter().map(|index| &run.records[*index]) {
            let mishap = record.mishap.map(|mishap| format!(" !! {mishap:?}")).unwrap_or_default();
            let code = record.code.map_or("not done".to_owned(), |code| code.to_string());
            lines.push(format!("{:>6}s   {} {} {code}{mishap}", record.at.as_secs(), record.index, record.call));
        }
    }
    lines.truncate(most);
    lines.join("\n")
}
