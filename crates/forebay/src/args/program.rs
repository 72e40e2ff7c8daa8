//! What commands take that are about the program itself: settings, completions, manual pages.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// See [`Command::Config`](super::Command::Config).
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with them
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What can be done with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigAction {
    /// Every setting as it is in force, and where it comes from
    Show,
    /// Whether a node could start with them; starts and changes nothing
    Check,
    /// The JSON schema of the configuration file
    Schema,
}

/// See [`Command::Completions`](super::Command::Completions).
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Of which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// See [`Command::Man`](super::Command::Man).
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory instead
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
