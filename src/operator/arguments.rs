//! Arguments of the operator; each can come from the environment, as the chart sets them.

use clap::{Args, ValueEnum};
use std::net::SocketAddr;

/// How the operator runs.
#[derive(Clone, Debug, Args)]
pub struct OperatorArguments {
    /// Namespaces whose objects are reconciled, separated by commas. Default: the operator's own.
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
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Form of the log.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

impl OperatorArguments {
    /// Namespaces to watch, each once.
    pub fn namespaces(&self) -> Vec<String> {
        let mut wanted: Vec<String> =
            self.watch_namespaces.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        if wanted.is_empty() {
            wanted.push(self.namespace.clone());
        }
        wanted.sort();
        wanted.dedup();
        wanted
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

    fn namespaces(extra: &[&str]) -> Vec<String> {
        let words = ["operator", "--namespace", "own", "--image", "i"].iter().chain(extra);
        Command::parse_from(words).arguments.namespaces()
    }

    #[test]
    fn its_own_namespace_unless_others_are_named() {
        assert_eq!(namespaces(&[]), ["own"]);
        assert_eq!(namespaces(&["--watch-namespaces", ""]), ["own"]);
        assert_eq!(namespaces(&["--watch-namespaces", "b, a,b"]), ["a", "b"]);
    }
}
