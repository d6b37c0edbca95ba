//! The real engine opens a copy of the store, for an engine writes to what it opens: `verification: Boot`, and drills.

use crate::agent::blocking::blocking;
use crate::agent::progress::Step;
use crate::agent::stop::Stop;
use crate::agent::store::copy;
use crate::agent::store::manifest::{BootRecord, STORE_FOLDER};
use crate::agent::tool::output::{Ending, last_words};
use crate::agent::tool::process;
use crate::agent::volume::target;
use crate::api::{Boot, Reason};
use crate::contract::failure::{Failure, cut};
use std::path::Path;

/// Folder of the scratch copy beside the store, while the engine has it.
const SCRATCH_FOLDER: &str = "boot";
const SIGKILL: i32 = 9;
/// A shell's exit code for a command that was killed by `SIGKILL`.
const KILLED_IN_SHELL: i32 = 128 + SIGKILL;
/// Bytes of the command in a message.
const COMMAND_BYTES_MAX: usize = 200;
/// Where the shell of Neo4j 1.3 to 1.8 tells the number of nodes (`dbinfo -g "Primitive count"`).
const NODES: &str = "NumberOfNodeIdsInUse";
/// The same for relationships.
const RELATIONSHIPS: &str = "NumberOfRelationshipIdsInUse";

/// Lets `command` open a scratch copy of the partial's store of `bytes` bytes. `{store}` in it becomes the copy's
/// folder.
pub async fn boot(partial: &Path, command: &[String], bytes: u64, stop: &Stop) -> Result<BootRecord, Failure> {
    let scratch = partial.join(SCRATCH_FOLDER);
    let booted = copy_and_open(partial, &scratch, command, bytes, stop).await;
    let removed = blocking(move || Ok(target::remove_partial(&scratch)?)).await;
    let record = booted?;
    removed.map(|()| record)
}

async fn copy_and_open(
    partial: &Path,
    scratch: &Path,
    command: &[String],
    bytes: u64,
    stop: &Stop,
) -> Result<BootRecord, Failure> {
    let (store, copy, stopped) = (partial.join(STORE_FOLDER), scratch.to_owned(), stop.clone());
    blocking(move || copy::scratch(&store, &copy, bytes, &stopped)).await?;
    open(scratch, command, stop).await
}

/// Lets `command` open a store that it may write to. `{store}` in it becomes the store's folder.
pub async fn open(store: &Path, command: &[String], stop: &Stop) -> Result<BootRecord, Failure> {
    let folder = store.to_string_lossy();
    let command: Vec<String> = command.iter().map(|word| word.replace("{store}", &folder)).collect();
    let run = process::run(Step::Boot, &command, stop).await?;
    let seconds = (run.to - run.from).num_seconds();
    match run.ending {
        Ending::Exited(0) => Ok(BootRecord {
            result: Boot {
                seconds,
                nodes: count(&run.stdout.end, NODES),
                relationships: count(&run.stdout.end, RELATIONSHIPS),
            },
            command,
            stdout_sha256: run.stdout.sha256,
        }),
        ending => Err(judge(ending, &command, &last_words(&run.stdout.end, &run.stderr.end))),
    }
}

/// Why the command did not open the copy, with what it said last.
fn judge(ending: Ending, command: &[String], said: &str) -> Failure {
    let (reason, ended, advice) = match ending {
        Ending::Exited(126 | 127) => (
            Reason::ToolNotFound,
            "cannot be executed".to_owned(),
            "; set spec.tool.bootCommand to one that spec.tool.image has",
        ),
        Ending::Killed(SIGKILL) | Ending::Exited(KILLED_IN_SHELL) => {
            let advice =
                "; most likely the pod's memory limit was reached: raise it in spec.tool.podTemplate.resources";
            (Reason::ToolKilled, "was killed".to_owned(), advice)
        }
        Ending::Exited(code) => (Reason::BootFailed, format!("ended with exit code {code}"), ""),
        Ending::Killed(signal) => (Reason::BootFailed, format!("was killed by signal {signal}"), ""),
    };
    let command = cut(&command.join(" "), COMMAND_BYTES_MAX).to_owned();
    Failure::new(reason, format!("the command that opens a copy of the store ({command}) {ended}; {said}{advice}"))
}

/// The number that follows `"name":` in what the command wrote.
pub fn count(said: &str, name: &str) -> Option<i64> {
    let (_, after) = said.rsplit_once(&format!("\"{name}\""))?;
    let digits = after.trim_start().strip_prefix(':')?.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_did_not_run_says_nothing_of_the_store() {
        let reason = |ending| judge(ending, &["x".to_owned()], "it said nothing").reason;
        assert_eq!([reason(Ending::Exited(126)), reason(Ending::Exited(127))], [Reason::ToolNotFound; 2]);
        assert_eq!([reason(Ending::Killed(9)), reason(Ending::Exited(137))], [Reason::ToolKilled; 2]);
        assert_eq!([reason(Ending::Exited(1)), reason(Ending::Killed(11))], [Reason::BootFailed; 2]);
    }

    #[test]
    fn counts_are_read_as_the_shell_writes_them() {
        // neo4j-shell 1.8 -c 'dbinfo -g "Primitive count"'
        let said = "Welcome to the Neo4j Shell! Enter 'help' for a list of commands\n\n{\n  \"NumberOfNodeIdsInUse\": 7,\n  \
                    \"NumberOfPropertyIdsInUse\": 0,\n  \"NumberOfRelationshipIdsInUse\": 3,\n  \
                    \"NumberOfRelationshipTypeIdsInUse\": 1\n}\n";
        assert_eq!((count(said, NODES), count(said, RELATIONSHIPS)), (Some(7), Some(3)));
        for odd in ["", "\"NumberOfNodeIdsInUse\"", "\"NumberOfNodeIdsInUse\": x", "NumberOfNodeIdsInUse: 7"] {
            assert_eq!(count(odd, NODES), None, "{odd:?}");
        }
    }
}
