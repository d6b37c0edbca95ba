//! Whether a cluster can start from a point: one member with the copy, the others empty.

use super::Reason;
use super::condition::Truth;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a cluster can start from a copy, judged by the copy's transaction logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Seed {
    /// The state of the logs now.
    pub state: SeedState,
    /// The headers that the agent corrected before it hashed the copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub mended: Vec<MendedHeader>,
    /// What is wrong, for people. Absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub problem: Option<String>,
}

/// The state of the transaction logs of a copy. Of several faults, the worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SeedState {
    /// The newest log holds the last transaction of the copy, and its header names an earlier one.
    LogsComplete,
    /// The header of the newest log names a transaction in that log as the last one before it.
    LogHeaderWrong,
    /// A log cannot be parsed as one.
    LogsUnreadable,
    /// The last transaction of the copy is in none of its logs.
    LastTransactionNotLogged,
}

/// A log header that the agent corrected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MendedHeader {
    /// Path of the log, relative to the store.
    #[schemars(length(max = 256))]
    pub file: String,
    /// The number of the last transaction before the log, as the tool wrote it.
    pub from: i64,
    /// The correct number.
    pub to: i64,
}

/// What to do with a copy whose last transaction is in no log, or in a log that is not found.
const REMEDY: &str = "to restore a cluster from it, start the member that holds the copy alone, commit a transaction \
                      (one that changes an index, if the log is one of the indexes), then start the others, empty";
/// What to do with a copy that the agent cannot judge.
const TRY_IT: &str = "before you restore a cluster from it, try it with two members on an ensemble of their own";

impl Seed {
    /// Logs in which nothing is wrong and nothing was corrected.
    pub const COMPLETE: Self = Self { state: SeedState::LogsComplete, mended: Vec::new(), problem: None };

    /// Status, reason and message of the condition `Seedable`.
    pub fn condition(&self) -> (Truth, Reason, String) {
        let problem = self.problem.as_deref().unwrap_or_default();
        match self.state {
            SeedState::LogsComplete if self.mended.is_empty() => {
                (Truth::True, Reason::LogsComplete, "the logs hold the last transaction of the copy".to_owned())
            }
            SeedState::LogsComplete => (Truth::True, Reason::LogHeaderMended, self.told()),
            SeedState::LogHeaderWrong => (Truth::False, Reason::LogHeaderWrong, format!("{problem}; {REMEDY}")),
            SeedState::LastTransactionNotLogged => {
                (Truth::False, Reason::LastTransactionNotLogged, format!("{problem}; {REMEDY}"))
            }
            SeedState::LogsUnreadable => (Truth::Unknown, Reason::LogsUnreadable, format!("{problem}; {TRY_IT}")),
        }
    }

    /// The corrections and the problem, in one line.
    pub fn told(&self) -> String {
        let mended = self.mended.iter().map(|MendedHeader { file, from, to }| {
            format!("the header of {file} named transaction {from} as the last one before it and was set to {to}")
        });
        let told: Vec<String> = mended.chain(self.problem.clone()).collect();
        told.join("; ")
    }
}
