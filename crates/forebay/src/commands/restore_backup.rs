//! `forebay restore-backup`: PostgreSQL from a backup, then Redis from PostgreSQL, then both verified against the chain.
//!
//! The backup is put into a database beside the one that is there, and takes its place only when it is whole and of this
//! chain. What was there goes when the verification is through.

use std::path::Path;

use anyhow::Context as _;
use forebay_fast::{FastTier, Holder};
use forebay_servers::{PrivateServers, postgres_tool};
use forebay_slow::setup::{ChainParameters, Names, migrate, prepare};
use forebay_store::{Setup, StoreError, keeps_commits, lead_to_one_server};
use indicatif::HumanCount;
use serde_json::json;
use tokio_postgres::{Client, Config};

use super::Context;
use super::backup_tools::{Watched, connect, run as run_tool, tool};
use crate::args::RestoreBackupArgs;
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::{Brought, command_words, host_name};
use crate::reads::connect_fast;
use crate::session::{Patience, Session, stop_if_nothing_is_lost};

/// Runs the command.
pub async fn run(context: &Context, args: RestoreBackupArgs) -> anyhow::Result<i32> {
    let chain = Chain::load(&context.home.settings)?;
    let program = postgres_tool(&context.home.binaries(), "pg_restore").await?;
    look_into(&program, &args.file).await?;
    let private = match &context.home.brought {
        Brought::Private => Some(context.home.private_servers().await?),
        Brought::Yours(_) => None,
    };
    let before = {
        let _lock = context.home.lock(&command_words("restore-backup"))?;
        match put_back(context, &chain, private.as_ref(), &program, &args).await {
            Ok(before) => before,
            Err(error) => {
                stop_after_failure(private.as_ref(), context).await;
                return Err(error);
            }
        }
    };
    let session = match start(context, &chain).await {
        Ok(session) => session,
        Err(error) => {
            // Whoever came in between has the servers.
            if let Ok(_lock) = context.home.lock(&command_words("restore-backup")) {
                stop_after_failure(private.as_ref(), context).await;
            }
            return Err(error);
        }
    };
    let (fast, postgres) = (session.node.fast().clone(), session.connections.postgres.clone());
    let compared = super::verify::compare(context, &chain, fast, postgres, !args.quick).await;
    let admin = session.connections.setup.as_ref().map(|setup| setup.admin.clone());
    let verification = match compared {
        Ok(verification) => verification,
        Err(error) => return Err(session.stop_after(error).await),
    };
    let is_good = verification.findings_total == 0;
    if let (true, Some(admin), Some(before)) = (is_good, &admin, &before)
        && let Err(error) = give_up(admin, before).await
    {
        return Err(session.stop_after(error).await);
    }
    let tip = session.node.progress().tip;
    session.stop().await?;
    let id = tip.map(|tip| tip.id.to_string());
    let value = json!({
        "file": args.file, "height": verification.height, "blockId": id, "accounts": verification.accounts,
        "transactions": verification.transactions, "blocks": verification.blocks, "deep": verification.is_deep,
        "verified": is_good, "findingsTotal": verification.findings_total,
    });
    context.output.result(&value, || match is_good {
        true => format!(
            "height {} with {} accounts and {} transactions is back, and is what the chain says",
            HumanCount(verification.height.into()),
            HumanCount(verification.accounts),
            HumanCount(verification.transactions)
        ),
        false => format!(
            "{} differences after the restore: `forebay verify` names them. What was there before is kept as database {}",
            HumanCount(verification.findings_total),
            before.as_deref().unwrap_or("(nothing was there)")
        ),
    })?;
    Ok(if is_good { Exit::Success } else { Exit::Verification } as i32)
}

async fn put_back(
    context: &Context,
    chain: &Chain,
    private: Option<&PrivateServers>,
    program: &Path,
    args: &RestoreBackupArgs,
) -> anyhow::Result<Option<String>> {
    let place = Place::find(context, private).await?;
    place.put_back(context, chain, program, args).await
}

/// No private server is left running by what failed.
async fn stop_after_failure(private: Option<&PrivateServers>, context: &Context) {
    let Some(servers) = private else { return };
    if let Err(error) = stop_if_nothing_is_lost(servers, &context.screen).await {
        tracing::warn!(error = format!("{error:#}"), "the private servers did not stop");
    }
}

/// Looks into the file before anything is touched.
async fn look_into(program: &Path, file: &Path) -> anyhow::Result<()> {
    let output = tokio::process::Command::new(program)
        .arg("--list")
        .arg(file)
        .env("LC_ALL", "C")
        .output()
        .await
        .context("starting pg_restore")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let has_chain = text.lines().any(|line| line.contains(" TABLE DATA forebay blocks "));
    if output.status.success() && has_chain {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let why = if said.is_empty() { "there is no chain in it".to_owned() } else { said };
    let message = format!("{} is no backup of a chain: {why}", file.display());
    Err(Told::refused("backup", message, "Give a file that `forebay backup` made.").into())
}

/// The PostgreSQL that it is put back into.
struct Place {
    setup: Setup,
}

impl Place {
    async fn find(context: &Context, private: Option<&PrivateServers>) -> anyhow::Result<Self> {
        let setup = match (&context.home.brought, private) {
            (Brought::Yours(connections), _) => {
                let setup = connections.setup.clone().ok_or_else(|| {
                    Told::configuration(
                        "a backup needs an administrator of PostgreSQL to make its database",
                        "Give --postgres-admin-url.",
                    )
                })?;
                lead_to_one_server(&setup, &connections.postgres).await?;
                setup
            }
            (Brought::Private, Some(servers)) => {
                let postgres = servers.start_postgres().await?;
                context.home.private_setup(&postgres)?
            }
            (Brought::Private, None) => anyhow::bail!("private servers were not opened"),
        };
        keeps_commits(&setup.admin).await?;
        Ok(Self { setup })
    }

    /// Puts the backup into a new database and lets it take its place. Returns the name that what was there has now.
    async fn put_back(
        &self,
        context: &Context,
        chain: &Chain,
        program: &Path,
        args: &RestoreBackupArgs,
    ) -> anyhow::Result<Option<String>> {
        let admin = connect(&self.setup.admin).await?;
        let names = &self.setup.names;
        let exists = has_database(&admin, &names.database).await?;
        let is_used = exists && has_chain(&self.setup.admin, &names.database).await?;
        if is_used && !args.replace {
            let message = format!("database {} has a chain already", names.database);
            return Err(Told::refused(
                "backup",
                message,
                "Choose another place, or give --replace to give it up.",
            )
            .into());
        }
        let new = Names { database: format!("{}_restoring", names.database), ..names.clone() };
        drop_database(&admin, &new.database).await?;
        prepare(&self.setup.admin, &new, &self.setup.passwords).await?;
        let mut config = self.setup.admin.clone();
        config.dbname(&new.database);
        let outcome = async {
            load(context, program, &config, &new.owner, &args.file).await?;
            check_chain(&config, chain).await?;
            // Functions, views and rights, for the roles that are here.
            Ok(migrate(&config, &new, &ChainParameters::new(&chain.profile, &chain.genesis)).await?)
        }
        .await;
        if let Err(error) = outcome {
            let error: anyhow::Error = error;
            drop_database(&admin, &new.database).await?;
            return Err(error);
        }
        let old = format!("{}_before_restore", names.database);
        if exists {
            drop_database(&admin, &old).await?;
            rename(&admin, &names.database, &old).await?;
        }
        rename(&admin, &new.database, &names.database).await?;
        Ok(exists.then_some(old))
    }
}

async fn load(
    context: &Context,
    program: &Path,
    config: &Config,
    owner: &str,
    file: &Path,
) -> anyhow::Result<()> {
    let mut command = tool(program, config);
    // Rights follow from the roles here, not from those of the backup.
    command.args(["--exit-on-error", "--no-owner", "--no-privileges"]).arg(format!("--role={owner}"));
    command.arg("--dbname").arg(config.get_dbname().unwrap_or_default()).arg(file);
    run_tool(context, "pg_restore", command, Watched::File(file)).await?;
    let client = connect(config).await?;
    let settle = "comment on schema forebay_code is null; analyze";
    client.batch_execute(settle).await.context("finishing the restore")?;
    Ok(())
}

/// The backup must be of the network and genesis block that this data directory has.
async fn check_chain(config: &Config, chain: &Chain) -> anyhow::Result<()> {
    let client = connect(config).await?;
    let row = client.query_one("select network, genesis_id from forebay.chain", &[]).await?;
    let (network, genesis): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let ours = (&chain.profile.name, chain.genesis.id.0);
    if (&network, genesis.cast_unsigned()) == ours {
        return Ok(());
    }
    let message = format!(
        "the backup is of {network} with genesis block {}, not of {} with {}",
        genesis.cast_unsigned(),
        ours.0,
        ours.1
    );
    Err(Told::refused(
        "backup",
        message,
        "Give the network and genesis block of the backup, and an empty --data-dir.",
    )
    .into())
}

/// The start sequence. An outbox that goes on where the backup ends is drained into it; any other is dropped.
async fn start(context: &Context, chain: &Chain) -> anyhow::Result<Session> {
    let attempt = async || {
        Session::start(
            &context.home,
            &command_words("restore-backup"),
            Patience::Configured,
            &context.screen,
            &context.signals,
        )
        .await
    };
    match attempt().await {
        Err(error) if is_disagreement(&error) => {
            context.screen.warn("what Redis has does not go on where the backup ends: it is dropped, and restored from PostgreSQL");
            empty_redis(context, chain).await?;
            attempt().await
        }
        outcome => outcome,
    }
}

fn is_disagreement(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref::<StoreError>(), Some(StoreError::Disagreement(_))))
}

async fn empty_redis(context: &Context, chain: &Chain) -> anyhow::Result<()> {
    let home = &context.home;
    let _lock = home.lock(&command_words("restore-backup"))?;
    let (url, private) = match &home.brought {
        Brought::Yours(connections) => (connections.redis_url.clone(), None),
        Brought::Private => {
            let servers = home.private_servers().await?;
            (servers.start_redis().await?.redis_url(), Some(servers))
        }
    };
    let fast: FastTier = connect_fast(&url, chain, home.settings.connect_timeout()).await?;
    let owner = fast.owner().await?;
    let epoch = owner.as_ref().map_or(0, |owner| owner.epoch) + 1;
    let holder = Holder { host: host_name(), pid: std::process::id(), since_ms: 0 };
    fast.claim(owner.as_ref(), epoch, &holder).await?;
    fast.begin_clean(epoch).await?;
    fast.release(epoch).await?;
    if let Some(servers) = private {
        servers.stop_redis().await?;
    }
    Ok(())
}

async fn give_up(admin: &Config, before: &str) -> anyhow::Result<()> {
    drop_database(&connect(admin).await?, before).await
}

async fn has_database(admin: &Client, name: &str) -> anyhow::Result<bool> {
    Ok(admin.query_opt("select from pg_database where datname = $1::text", &[&name]).await?.is_some())
}

/// Whether a database has blocks.
async fn has_chain(admin: &Config, database: &str) -> anyhow::Result<bool> {
    let mut config = admin.clone();
    config.dbname(database);
    let client = connect(&config).await?;
    let there: bool =
        client.query_one("select to_regclass('forebay.blocks') is not null", &[]).await?.try_get(0)?;
    if !there {
        return Ok(false);
    }
    Ok(client.query_one("select exists (select from forebay.blocks)", &[]).await?.try_get(0)?)
}

async fn drop_database(admin: &Client, name: &str) -> anyhow::Result<()> {
    let sql = format!("drop database if exists {} with (force)", identifier(name));
    admin.batch_execute(&sql).await.with_context(|| format!("dropping database {name}"))
}

async fn rename(admin: &Client, from: &str, to: &str) -> anyhow::Result<()> {
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()";
    admin.query(end, &[&from]).await?;
    let sql = format!("alter database {} rename to {}", identifier(from), identifier(to));
    admin.batch_execute(&sql).await.with_context(|| format!("renaming database {from}"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
