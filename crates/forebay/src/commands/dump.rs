//! `forebay dump accounts`: all accounts of a tier, ordered by address as a number, one JSON object a line.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;
use forebay_fast::FastTier;
use forebay_ledger::account::Account;
use forebay_slow::SlowReader;

use super::Context;
use crate::account_record::{AccountRecord, DelegateKeys, delegate_keys};
use crate::args::{DumpArgs, Dumped, Tier};
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::command_words;
use crate::output::StdoutFailed;
use crate::reads::{Look, Reads};
use crate::session::{Patience, Session};

/// How often a chain that moves on is tried to be caught at one height.
const ATTEMPTS_MAX: u32 = 50;
/// Accounts that are read from PostgreSQL at once.
const CHUNK: usize = 4096;

/// Runs the command.
pub async fn run(context: &Context, args: DumpArgs) -> anyhow::Result<i32> {
    match args.what {
        Dumped::Accounts => {}
    }
    match args.tier {
        Tier::Slow => {
            context.read(Look::Ready, dump_slow).await?;
        }
        Tier::Fast => {
            let beside = match context.home.holder()? {
                Some(_) => true,
                None => super::another_node_serves(context).await?,
            };
            if beside { dump_fast_beside(context).await? } else { dump_fast_alone(context).await? }
        }
    }
    Ok(Exit::Success as i32)
}

async fn dump_fast_beside(context: &Context) -> anyhow::Result<()> {
    let dump = async |reads: &Reads| match &reads.fast {
        Some(fast) => dump_fast(fast, &reads.chain).await,
        None => Err(reads.without_fast(", or dump --tier slow")),
    };
    context.read(Look::Ready, dump).await
}

/// Redis holds nothing that can be trusted without a start: restore, dump, stop.
async fn dump_fast_alone(context: &Context) -> anyhow::Result<()> {
    let session = Session::start(
        &context.home,
        &command_words("dump accounts --tier fast"),
        Patience::Configured,
        &context.screen,
        &context.signals,
    )
    .await?;
    match dump_fast(session.node.fast(), &session.chain).await {
        Ok(()) => session.stop().await.map(drop),
        Err(error) => Err(session.stop_after(error).await),
    }
}

async fn dump_fast(fast: &FastTier, chain: &Chain) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(found) = fast.all_accounts().await.context("reading all accounts from Redis")? else {
            continue;
        };
        let keys = delegate_keys(found.value.iter());
        let mut lines = Lines::new(chain, keys);
        lines.write(&found.value)?;
        return lines.finish();
    }
    Err(Told::new(
        Exit::Unavailable,
        "busy",
        format!(
            "the chain moved on during each of {ATTEMPTS_MAX} attempts to read all accounts at one height"
        ),
        "Try again when fewer blocks come, or dump --tier slow, which sees one state.",
    )
    .into())
}

async fn dump_slow(reads: &Reads) -> anyhow::Result<()> {
    let mut reader: SlowReader = reads.slow().await?;
    let snapshot = reader.snapshot().await?;
    let keys = delegate_keys(snapshot.reads().delegates().await?.iter());
    let mut lines = Lines::new(&reads.chain, keys);
    snapshot
        .reads()
        .accounts(CHUNK, async |accounts: Vec<Account>| lines.write(&accounts))
        .await
        .context("dumping the accounts of PostgreSQL")?;
    lines.finish()
}

struct Lines {
    out: BufWriter<io::Stdout>,
    suffix: char,
    keys: DelegateKeys,
}

impl Lines {
    fn new(chain: &Chain, keys: DelegateKeys) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout()),
            suffix: chain.profile.address_suffix,
            keys,
        }
    }

    fn write(&mut self, accounts: &[Account]) -> anyhow::Result<()> {
        for account in accounts {
            let line = serde_json::to_string(&AccountRecord::new(account, self.suffix, &self.keys))?;
            writeln!(self.out, "{line}").map_err(StdoutFailed)?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.out.flush().map_err(StdoutFailed)?)
    }
}
