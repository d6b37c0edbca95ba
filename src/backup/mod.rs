//! The `GraphBackup` controller: observe, decide, build, apply, status.
