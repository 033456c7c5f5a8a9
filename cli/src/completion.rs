//! `highwater completion`: scripts that teach a shell our verbs.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Exit, Outcome};
use crate::output;

/// Arguments of `highwater completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(highwater completion bash)
  highwater completion zsh  > ~/.zfunc/_highwater
  highwater completion fish > ~/.config/fish/completions/highwater.fish")]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "highwater", &mut script);
    output::print(String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
