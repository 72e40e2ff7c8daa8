//! One module a command.

mod account;
mod bench;
mod block;
mod delegates;
mod dump;
mod feed;
mod forgers;
mod generate;
mod log;
mod pop;
mod replay;
mod run;
mod status;
mod transaction;
mod verify;

use crate::args::{Cli, Command};
use crate::config::Settings;
use crate::exit::Exit;
use crate::home::{Brought, Home};
use crate::output::Output;
use crate::reads::Reads;
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
    let code = match Signals::listen() {
        Err(error) => output::fail(&error.into(), output, &screen),
        Ok(signals) => {
            let outcome = attempt(cli, &screen, output, signals.clone()).await;
            let code = outcome.unwrap_or_else(|error| output::fail(&error, output, &screen));
            // Which signal it was is what a shell would say.
            let interrupted = Exit::Interrupted as i32;
            if code == interrupted { signals.exit_code().unwrap_or(interrupted) } else { code }
        }
    };
    tracing::debug!(code, "the end");
    code
}

async fn attempt(cli: Cli, screen: &Screen, output: Output, signals: Signals) -> anyhow::Result<i32> {
    let settings = Settings::load(&cli.common)?;
    logging::start(&cli.common, &settings, &cli.command, screen)?;
    let context = Context { home: Home::new(settings)?, output, screen: screen.clone(), signals };
    match cli.command {
        Command::Run(args) => run::run(&context, args).await,
        Command::Replay(args) => replay::run(&context, args).await,
        Command::Pop(args) => pop::run(&context, args).await,
        Command::Status => status::run(&context).await,
        Command::Verify(args) => verify::run(&context, args).await,
        Command::Block(args) => block::run(&context, args).await,
        Command::Account(args) => account::run(&context, args).await,
        Command::Transaction(args) => transaction::run(&context, args).await,
        Command::Delegates(args) => delegates::run(&context, args).await,
        Command::Forgers(args) => forgers::run(&context, args).await,
        Command::Dump(args) => dump::run(&context, args).await,
        Command::Log(args) => log::run(&context, args).await,
        Command::Generate(args) => generate::run(&context, args).await,
        Command::Bench(args) => bench::run(&context, args).await,
    }
}

/// Whether a node that may be elsewhere works on servers of yours: its data directory's lock is not here.
async fn another_node_serves(home: &Home, screen: &Screen) -> anyhow::Result<bool> {
    if matches!(home.brought, Brought::Private) {
        return Ok(false);
    }
    let reads = Reads::open(home, screen).await?;
    let serves = match &reads.fast {
        Some(fast) => fast.owner().await?.is_some_and(|owner| !owner.released),
        None => false,
    };
    reads.close().await?;
    Ok(serves)
}
