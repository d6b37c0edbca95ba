//! The world around the controllers, for every kind: the cluster with its Jobs, pods and volumes, the StatefulSet of
//! the database and its members, the volume of the points and the agent that writes to it.

pub mod agent;
mod claims_of_set;
pub mod cluster;
pub mod controllers;
pub mod database;
pub mod ensemble;
pub mod kubelet;
pub mod members;
pub mod pods;
pub mod provisioner;
pub mod restorer;
mod script;
mod stateful_set;
mod swap;
pub mod volumes;

/// Namespace of all objects.
pub const NAMESPACE: &str = "graph";
