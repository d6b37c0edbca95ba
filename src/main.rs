//! The one binary: the operator, the agent inside its Jobs, and the printer of the CRDs.

use clap::{Parser, Subcommand};
use graph_backup_operator::agent::command::{self, AgentCommand};
use graph_backup_operator::api;
use std::io::Write;
use std::process::ExitCode;

/// Backs up HA graph databases on Kubernetes and proves every backup.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run inside a Job of the operator.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Agent(agent) => command::run(agent),
        Command::Crds => print_crds(),
    }
}

fn print_crds() -> ExitCode {
    let printed = api::crds_yaml()
        .map_err(|error| error.to_string())
        .and_then(|yaml| std::io::stdout().write_all(yaml.as_bytes()).map_err(|error| error.to_string()));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The logger is for the operator and the agent; this command talks to a person.
            let _ = writeln!(std::io::stderr(), "cannot print the CRDs: {error}");
            ExitCode::FAILURE
        }
    }
}
