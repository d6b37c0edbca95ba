//! The one binary: the operator, the agent inside its Jobs, and the printer of the CRDs.

use clap::{Parser, Subcommand};
use graph_backup_operator::agent::command::{self, AgentCommand};
use graph_backup_operator::agent::tasks::list::{PointsArguments, points_yaml};
use graph_backup_operator::api;
use graph_backup_operator::operator::{self, OperatorArguments};
use graph_backup_operator::schedule::slots::TZDATA_VERSION;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::sync::LazyLock;

/// The version, and that of the time zones that schedules use.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (time zones {TZDATA_VERSION})", env!("CARGO_PKG_VERSION")));

/// Backs up HA graph databases on Kubernetes and proves every backup.
#[derive(Parser)]
#[command(version = VERSION.as_str(), about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator inside a cluster, or against the one of the current kubeconfig.
    Operator(OperatorArguments),
    /// Run inside a Job of the operator.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Print the recovery points on a mounted target as objects that adopt them.
    Points(PointsArguments),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Operator(arguments) => operate(arguments),
        Command::Agent(agent) => command::run(agent),
        Command::Points(arguments) => print("list the points", points_yaml(&arguments)),
        Command::Crds => print("print the CRDs", api::crds_yaml()),
    }
}

fn operate(arguments: OperatorArguments) -> ExitCode {
    operator::start_log(arguments.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(operator::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator ends");
            ExitCode::FAILURE
        }
    }
}

/// Prints what was made, or says why it could not be.
fn print(action: &str, made: Result<String, impl Display>) -> ExitCode {
    let printed = made
        .map_err(|error| error.to_string())
        .and_then(|text| std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string()));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The logger is for the operator and the agent; this command talks to a person.
            let _ = writeln!(std::io::stderr(), "cannot {action}: {error}");
            ExitCode::FAILURE
        }
    }
}
