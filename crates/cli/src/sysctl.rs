//! `pointsman sysctl`: the variables of `net.ipv4.vs`, as sysctl(8) shows and sets the kernel's.

use std::process::ExitCode;

use anyhow::Context as _;
use pointsman_api::Client;
use pointsman_model::{Variable, VariableView};

/// Arguments of `pointsman sysctl`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct SysctlArgs {
    /// Show all variables.
    #[arg(short, long)]
    all: bool,
    /// Print values without names.
    #[arg(short = 'n', long)]
    values: bool,
    /// A variable to show, or to set: `net.ipv4.vs.NAME`, `net/ipv4/vs/NAME` or `NAME`.
    #[arg(value_name = "NAME[=VALUE]")]
    variables: Vec<String>,
}

/// Runs `pointsman sysctl …`. One variable that is refused does not stop the next.
pub fn run(args: &SysctlArgs) -> ExitCode {
    let client = match Client::here() {
        Ok(client) => client,
        Err(error) => {
            eprintln!("pointsman: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = false;
    let mut attempt = |result: anyhow::Result<String>| match result {
        Ok(text) => crate::say(&text),
        Err(error) => {
            eprintln!("pointsman: {error:#}");
            failed = true;
        }
    };
    if args.all {
        attempt(all(&client, args.values));
    }
    for argument in &args.variables {
        attempt(one(&client, argument, args.values));
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn all(client: &Client, values: bool) -> anyhow::Result<String> {
    let variables = client.variables()?;
    Ok(variables.iter().map(|view| line(view, values)).collect())
}

fn one(client: &Client, argument: &str, values: bool) -> anyhow::Result<String> {
    let (name, value) = match argument.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (argument, None),
    };
    let name: Variable = name.parse()?;
    if let Some(value) = value {
        client
            .set_variable(name, value)
            .with_context(|| format!("setting {name}"))?;
    }
    let variables = client.variables()?;
    let view = variables
        .iter()
        .find(|view| view.name == name)
        .with_context(|| format!("the director does not know {name}"))?;
    Ok(line(view, values))
}

fn line(view: &VariableView, value_only: bool) -> String {
    if value_only {
        format!("{}\n", view.value)
    } else {
        format!("{} = {}\n", view.name, view.value)
    }
}
