//! The world around the controllers, for every kind: the cluster with its Jobs and pods, the members of the database,
//! the volume and the agent that writes to it.

pub mod agent;
pub mod cluster;
pub mod database;
pub mod members;
pub mod pods;

/// Namespace of all objects.
pub const NAMESPACE: &str = "graph";
