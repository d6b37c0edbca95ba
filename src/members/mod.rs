//! The members of a StatefulSet: which one may be stopped, and how it is put back. For cold backups now, for restores
//! later.

pub mod choose;
pub mod replicas;
