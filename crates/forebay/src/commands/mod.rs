//! One module a command.

mod feed;
mod replay;
mod run;

use crate::args::{Cli, Command};
use crate::config::Settings;
use crate::home::Home;
use crate::output::Output;
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{logging, output};

/// What every command works with.
pub struct Context {
    /// The data directory and its servers.
    pub home: Home,
    /// Stdout.
    pub output: Output,
    /// Stderr.
    pub screen: Screen,
    /// Who asks us to end.
    pub signals: Signals,
}

/// Runs the command; the program's exit code.
pub async fn run(cli: Cli) -> i32 {
    let screen = Screen::new(cli.common.quiet);
    let output = Output { json: cli.common.json };
    match attempt(cli, &screen, output).await {
        Ok(code) => code,
        Err(error) => output::fail(&error, output, &screen),
    }
}

async fn attempt(cli: Cli, screen: &Screen, output: Output) -> anyhow::Result<i32> {
    let settings = Settings::load(&cli.common)?;
    logging::start(&cli.common, &settings, &cli.command, screen)?;
    let signals = Signals::listen()?;
    let context = Context { home: Home::new(settings)?, output, screen: screen.clone(), signals };
    match cli.command {
        Command::Run(args) => run::run(&context, args).await,
        Command::Replay(args) => replay::run(&context, args).await,
        _ => Ok(0),
    }
}
