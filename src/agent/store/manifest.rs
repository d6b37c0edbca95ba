//! `manifest.json`: the evidence that lies beside every published store.

use crate::api::Owner;
use crate::api::{Boot, CopiedBy, Mastership, Seed, Source, StoreId};
use crate::contract::failure::Failure;
use crate::contract::task::{Mode, Parent};
use crate::contract::verdict::Published;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Version of the manifest that this code writes. A reader refuses a newer one by name.
///
/// Version 2 added `seed` and `catchUp`.
pub const FORMAT_VERSION: u32 = 2;
/// File name of the manifest inside a point's folder.
pub const FILE_NAME: &str = "manifest.json";
/// Folder of the store inside a point's folder.
pub const STORE_FOLDER: &str = "store";

/// Evidence of one recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] at the time of writing.
    pub format_version: u32,
    /// The object that the point belongs to.
    pub owner: Owner,
    /// Which attempt made it.
    pub attempt: u32,
    /// Name of the point, equal to its folder's.
    pub point: String,
    /// Full or incremental.
    pub mode: Mode,
    /// What an incremental one was made from. The point does not need it: its store is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Number of incremental runs since the last full one; 0 for a full one.
    #[serde(default)]
    pub depth: u32,
    /// Why the whole store was copied although an incremental run was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<Failure>,
    /// How the parent's store was copied forward; absent for a full one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_by: Option<CopiedBy>,
    /// Of `bytes`, those in files that are the parent's, unchanged, and share its blocks on the volume.
    #[serde(default)]
    pub shared_bytes: u64,
    /// Identity of the copied store, from its own header.
    pub store_id: StoreId,
    /// Last committed transaction in the copied store, from its own header.
    pub last_transaction: i64,
    /// Everything committed before is in the copy: when the tool started, or for a cold copy when the first transaction
    /// was begun that it lacks, at the latest when the copying began.
    pub data_from: DateTime<Utc>,
    /// When the tool or the copying ended.
    pub data_to: DateTime<Utc>,
    /// Mastership right before the tool; for a cold copy the member that was stopped.
    pub mastership_before: Mastership,
    /// Mastership right after the tool; equal to `mastership_before`, or the point would not exist.
    pub mastership_after: Mastership,
    /// How the engine opened a copy, with `verification: Boot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootRecord>,
    /// The tool and what it said; absent for a cold copy, which it does not make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolRecord>,
    /// Further runs of the tool, incremental ones onto the same store: it lacked a transaction without which a cluster
    /// cannot start from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catch_up: Vec<ToolRecord>,
    /// Whether a cluster can start from the store, by its transaction logs; absent in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// Where the database was, as the object said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Version of the operator's binary that wrote this.
    pub operator_version: String,
    /// SHA-256 over `files`, as [`tree_digest`](crate::agent::store::files::tree_digest) gives it: `sha256:<hex>`.
    pub tree: String,
    /// Sum of the files' sizes, bytes.
    pub bytes: u64,
    /// Every regular file below `store/`, sorted by path.
    pub files: Vec<FileRecord>,
}

impl Manifest {
    /// The facts in a self. `manifest_digest` is that of its bytes, `sha256:<hex>`.
    pub fn published(&self, manifest_digest: String, verified: bool) -> Published {
        Published {
            owner_uid: self.owner.uid.clone(),
            attempt: self.attempt,
            manifest_digest,
            mode: self.mode,
            parent: self.parent.clone(),
            depth: self.depth,
            fell_back: self.fell_back.clone(),
            store_id: self.store_id,
            last_transaction: self.last_transaction,
            files: self.files.len() as u64,
            bytes: self.bytes,
            shared_bytes: self.shared_bytes,
            copied_by: self.copied_by,
            boot: self.boot.as_ref().map(|boot| boot.result),
            seed: self.seed.clone(),
            free_bytes: None,
            earlier: None,
            data_from: self.data_from,
            data_to: self.data_to,
            mastership_before: self.mastership_before.clone(),
            mastership_after: self.mastership_after.clone(),
            verified,
        }
    }
}

/// How the engine opened a copy of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootRecord {
    /// What it found.
    pub result: Boot,
    /// Command with its placeholder filled in.
    pub command: Vec<String>,
    /// SHA-256 of everything it wrote to its standard output, 64 lower-case hexadecimal digits.
    pub stdout_sha256: String,
}

/// One file of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileRecord {
    /// Path relative to `store/`, `/` between parts.
    pub path: String,
    /// Size, bytes.
    pub bytes: u64,
    /// SHA-256 of the content, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// What ran and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolRecord {
    /// Image of the container it ran in.
    pub image: String,
    /// Command with its placeholders filled in.
    pub command: Vec<String>,
    /// Exit code; 0, or the point would not exist.
    pub exit_code: i32,
    /// SHA-256 of everything it wrote to its standard output, 64 lower-case hexadecimal digits.
    pub stdout_sha256: String,
    /// SHA-256 of everything it wrote to its standard error, 64 lower-case hexadecimal digits.
    pub stderr_sha256: String,
}
