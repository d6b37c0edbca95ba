//! Arguments of the operator; each can come from the environment, as the chart sets them.

use crate::controller::store::Scope;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;

/// How the operator runs.
#[derive(Clone, Debug, Args)]
pub struct OperatorArguments {
    /// Namespaces whose objects are reconciled, separated by commas; `*` is every namespace. Default: the operator's
    /// own.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Namespace of the operator, where its Lease is.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of this replica, the holder of the Lease.
    #[arg(long, env = "POD_NAME", default_value = "graph-backup-operator")]
    pub name: String,
    /// Image of the operator, from which Jobs take the agent.
    #[arg(long, env = "OPERATOR_IMAGE")]
    pub image: String,
    /// Backups that may work at the same time, in all namespaces together.
    #[arg(long, env = "MAX_RUNNING_BACKUPS", default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_running_backups: u32,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Form of the log.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

/// Name of the scope that is the whole cluster.
const EVERY_NAMESPACE: &str = "*";

/// A list that names every namespace and some besides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'*' is every namespace: remove {0}, or remove '*' to watch only what is named")]
pub struct MixedScope(String);

impl OperatorArguments {
    /// What is watched: every namespace, or each one that is named, once.
    pub fn scopes(&self) -> Result<Vec<Scope>, MixedScope> {
        let mut wanted: Vec<&str> =
            self.watch_namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if !wanted.contains(&EVERY_NAMESPACE) {
            let names = if wanted.is_empty() { vec![self.namespace.as_str()] } else { wanted };
            return Ok(names.into_iter().map(|name| Scope::Namespace(name.to_owned())).collect());
        }
        wanted.retain(|name| *name != EVERY_NAMESPACE);
        if wanted.is_empty() { Ok(vec![Scope::Cluster]) } else { Err(MixedScope(wanted.join(", "))) }
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        arguments: OperatorArguments,
    }

    fn scopes(extra: &[&str]) -> Result<Vec<Scope>, MixedScope> {
        let words = ["operator", "--namespace", "own", "--image", "i"].iter().chain(extra);
        Command::parse_from(words).arguments.scopes()
    }

    fn named(names: &[&str]) -> Vec<Scope> {
        names.iter().map(|name| Scope::Namespace((*name).to_owned())).collect()
    }

    #[test]
    fn its_own_namespace_unless_others_are_named() {
        assert_eq!(scopes(&[]), Ok(named(&["own"])));
        assert_eq!(scopes(&["--watch-namespaces", ""]), Ok(named(&["own"])));
        assert_eq!(scopes(&["--watch-namespaces", "b, a,b"]), Ok(named(&["a", "b"])));
    }

    #[test]
    fn every_namespace_alone() {
        assert_eq!(scopes(&["--watch-namespaces", "*"]), Ok(vec![Scope::Cluster]));
        assert_eq!(scopes(&["--watch-namespaces", "*,*"]), Ok(vec![Scope::Cluster]));
        let mixed = scopes(&["--watch-namespaces", "b,*,a"]).unwrap_err();
        assert_eq!(mixed.to_string(), "'*' is every namespace: remove a, b, or remove '*' to watch only what is named");
    }
}
