//! `forebay completions` and `forebay man`: what shells and `man` know of the command line, made from it.

use std::fs;

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
    match &args.out {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            write(&page)
        }
        Some(directory) => {
            let write_all = || {
                fs::create_dir_all(directory)?;
                clap_mangen::generate_to(Cli::command(), directory)
            };
            write_all().with_context(|| format!("writing manual pages to {}", directory.display()))
        }
    }
}

fn write(text: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(|error| StdoutFailed(error).into())
}
