//! The one entry for callers, over the network.

use super::{DiscoveryError, SourceUri};
use crate::api::{Fence, StoreId};
use futures::future::BoxFuture;
use std::time::Duration;

/// Longest time that one look-up takes, name resolution and every retry included.
pub const LOOK_UP_BOUND: Duration = Duration::from_secs(15);

/// A database that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Identity of the database; names the cluster among all clusters.
    pub store_id: StoreId,
    /// The member to back up (`fence.endpoint()`: host and backup port) and what must not move meanwhile.
    pub fence: Fence,
}

/// Finds the database that a source names.
pub trait Discovery: Send + Sync {
    /// The master that `source` leads to, or the member that it names.
    ///
    /// `cluster_name` counts with `ha://` only; without one it is Neo4j's default, `neo4j.ha`. Always answers within a
    /// bound of the implementation's own, and changes nothing anywhere.
    fn locate<'a>(
        &'a self,
        source: &'a SourceUri,
        cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Located, DiscoveryError>>;
}

/// [`Discovery`] by asking the real ZooKeeper servers or the real member.
#[derive(Clone, Debug)]
pub struct Network {
    /// Longest time that one look-up takes; [`LOOK_UP_BOUND`] by default.
    pub bound: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { bound: LOOK_UP_BOUND }
    }
}

impl Discovery for Network {
    fn locate<'a>(
        &'a self,
        source: &'a SourceUri,
        _cluster_name: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Located, DiscoveryError>> {
        Box::pin(async move {
            Err(DiscoveryError::EnsembleUnavailable { servers: source.to_string(), detail: "not built yet".to_owned() })
        })
    }
}
