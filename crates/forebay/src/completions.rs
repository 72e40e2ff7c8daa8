//! `forebay completions` and `forebay man`: what shells and `man` know of the command line, made from it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::output::StdoutFailed;

/// Prints the completions of a shell.
///
/// # Errors
/// Stdout is gone.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "forebay", &mut script);
    write(&script)
}

/// Prints the manual page of the whole, or writes one a command into a directory.
///
/// # Errors
/// Stdout is gone, or the directory cannot be written.
pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    let mut command = Cli::command();
    // So that each command's page has the flags that all of them take.
    command.build();
    match &args.out {
        None => write(&page(command)?),
        Some(directory) => write_all(directory, &command),
    }
}

fn write_all(directory: &Path, command: &clap::Command) -> anyhow::Result<()> {
    let doing = || format!("writing manual pages to {}", directory.display());
    fs::create_dir_all(directory).with_context(doing)?;
    for command in command.get_subcommands().filter(|command| !is_help(command)) {
        let name = format!("forebay-{}", command.get_name());
        let text = page(command.clone().name(name.clone()))?;
        fs::write(directory.join(format!("{name}.1")), text).with_context(doing)?;
    }
    fs::write(directory.join("forebay.1"), page(command.clone())?).with_context(doing)
}

fn is_help(command: &clap::Command) -> bool {
    command.get_name() == "help"
}

fn page(command: clap::Command) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.version(env!("CARGO_PKG_VERSION"))).render(&mut text)?;
    Ok(text)
}

fn write(text: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(|error| StdoutFailed(error).into())
}
