//! One module a command.

mod account;
mod api;
mod backup;
mod backup_tools;
mod bench;
mod block;
mod config;
mod delegates;
mod dump;
mod feed;
mod findings;
mod forgers;
mod generate;
mod log;
pub mod memory;
mod pop;
mod postgres_conf;
mod redis_conf;
mod replay;
mod restore_backup;
mod run;
mod status;
mod top;
mod transaction;
mod verify;

use crate::args::{Cli, Command};
use crate::config::Settings;
use crate::exit::Exit;
use crate::home::{Brought, Home};
use crate::output::Output;
use crate::reads::{Look, Reads};
use crate::screen::Screen;
use crate::session::interrupted;
use crate::signals::Signals;
use crate::{completions, logging, output};

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

impl Context {
    /// Reads, and gives back what was started for it, whatever came of it. A signal ends the wait.
    async fn read<T>(
        &self,
        look: Look,
        ask: impl AsyncFnOnce(&Reads) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let reads = Reads::open(&self.home, look, &self.screen, &self.signals).await?;
        let answer = tokio::select! {
            answer = ask(&reads) => answer,
            () = self.signals.asked() => Err(interrupted("while reading")),
        };
        match reads.close().await {
            // What was asked is known all the same.
            Err(error) if answer.is_ok() => self.screen.warn_always(format!("{error:#}")),
            closed => closed?,
        }
        answer
    }
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
    if let Some(code) = without_settings(&cli, output)? {
        return Ok(code);
    }
    let settings = Settings::load(&cli.common)?;
    logging::start(&cli.common, &settings, &cli.command, screen)?;
    let mut home = Home::new(settings)?;
    home.accept_low_memory = cli.common.accept_low_memory;
    let context = Context { home, output, screen: screen.clone(), signals };
    match cli.command {
        Command::Run(args) => run::run(&context, args).await,
        Command::Api(args) => api::run(&context, args).await,
        Command::Replay(args) => replay::run(&context, args).await,
        Command::Pop(args) => pop::run(&context, args).await,
        Command::Status => status::run(&context).await,
        Command::Top => top::run(&context).await,
        Command::Verify(args) => verify::run(&context, args).await,
        Command::Block(args) => block::run(&context, args).await,
        Command::Account(args) => account::run(&context, args).await,
        Command::Transaction(args) => transaction::run(&context, args).await,
        Command::Delegates(args) => delegates::run(&context, args).await,
        Command::Forgers(args) => forgers::run(&context, args).await,
        Command::Dump(args) => dump::run(&context, args).await,
        Command::Log(args) => log::run(&context, args).await,
        Command::Memory(args) => memory::run(&context, args).await,
        Command::RedisConf(args) => redis_conf::run(&context, args).await,
        Command::PostgresConf(args) => postgres_conf::run(&context, args).await,
        Command::Backup(args) => backup::save(&context, args).await,
        Command::RestoreBackup(args) => restore_backup::run(&context, args).await,
        Command::Generate(args) => generate::run(&context, args).await,
        Command::Bench(args) => bench::run(&context, args).await,
        Command::Config(_) | Command::Completions(_) | Command::Man(_) => {
            anyhow::bail!("this command was to be done before the settings were read")
        }
    }
}

/// Commands that must work with settings that do not.
fn without_settings(cli: &Cli, output: Output) -> anyhow::Result<Option<i32>> {
    match &cli.command {
        Command::Config(args) => config::run(&cli.common, args.action, output).map(Some),
        Command::Completions(args) => completions::completions(args).map(|()| Some(Exit::Success as i32)),
        Command::Man(args) => completions::man(args).map(|()| Some(Exit::Success as i32)),
        _ => Ok(None),
    }
}

/// Whether a node that may be elsewhere works on servers of yours: its data directory's lock is not here.
async fn another_node_serves(context: &Context) -> anyhow::Result<bool> {
    if matches!(context.home.brought, Brought::Private) {
        return Ok(false);
    }
    let serves = async |reads: &Reads| match &reads.fast {
        Some(fast) => Ok(fast.owner().await?.is_some_and(|owner| !owner.released)),
        None => Ok(false),
    };
    context.read(Look::Ready, serves).await
}
