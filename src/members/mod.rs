//! The members of a StatefulSet: which one may be stopped, and how it is put back. For cold backups now, for restores
//! as well.

pub mod choose;
pub mod replicas;
pub mod workload;
