//! `forebay backup`: PostgreSQL as one file in pg_dump's custom format. Redis needs none: it is restored from PostgreSQL.
//!
//! The dump is of one snapshot, whose height is told; a running node goes on meanwhile.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context as _;
use forebay_servers::postgres_tool;
use indicatif::{BinaryBytes, HumanCount};
use serde_json::json;
use tokio_postgres::Config;

use super::Context;
use super::backup_tools::{Watched, connect, partial, rows_about, run, tool};
use crate::args::BackupArgs;
use crate::exit::{Exit, Told};
use crate::home::{Brought, private_admin};
use crate::reads::{Look, Reads};

/// Runs the command.
pub async fn save(context: &Context, args: BackupArgs) -> anyhow::Result<i32> {
    if args.file.exists() && !args.force {
        let message = format!("{} is there already", args.file.display());
        return Err(Told::refused("backup", message, "Choose another name, or give --force.").into());
    }
    check_place(&args.file)?;
    let reads = Reads::open(&context.home, Look::Slow, &context.screen, &context.signals).await?;
    let outcome = async {
        let config = match &context.home.brought {
            Brought::Private => {
                // A node may be starting it.
                reads.postgres().await?;
                let servers = context.home.private_servers().await?;
                private_admin(&context.home, &servers.running_postgres().await?.ok_or_else(gone)?)?
            }
            // The writer may read everything that is dumped.
            Brought::Yours(_) => reads.postgres().await?,
        };
        dump(context, &config, &args.file).await
    }
    .await;
    reads.close().await?;
    let saved = outcome?;
    let bytes = fs::metadata(&args.file).map_or(0, |meta| meta.len());
    let value = json!({
        "file": args.file, "bytes": bytes, "height": saved.height, "blockId": saved.block_id, "epoch": saved.epoch,
        "seq": saved.seq, "transactions": saved.transactions,
    });
    context.output.result(&value, || {
        format!(
            "height {} with {} transactions in {}, {}",
            HumanCount(saved.height.unsigned_abs().into()),
            HumanCount(saved.transactions.unsigned_abs()),
            args.file.display(),
            BinaryBytes(bytes)
        )
    })?;
    Ok(Exit::Success as i32)
}

/// That the file can be made there is known before anything is started.
fn check_place(file: &Path) -> Result<(), Told> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    if directory.is_dir() {
        return Ok(());
    }
    let message = format!("{} cannot be written: {} is no directory", file.display(), directory.display());
    Err(Told::configuration(message, "Make the directory first, or name another file."))
}

fn gone() -> Told {
    Told::new(
        Exit::Unavailable,
        "postgres",
        "the private PostgreSQL ended a moment ago",
        "See `forebay status`, and try again.",
    )
}

/// What the snapshot holds.
struct Saved {
    height: i32,
    block_id: Option<String>,
    epoch: i64,
    seq: i64,
    transactions: i64,
}

/// The file is complete and flushed when it has its name.
async fn dump(context: &Context, config: &Config, file: &Path) -> anyhow::Result<Saved> {
    let program = postgres_tool(&context.home.binaries(), "pg_dump").await?;
    let holder = connect(config).await?;
    let watched = connect(config).await?;
    holder.batch_execute("begin isolation level repeatable read read only").await?;
    let snapshot: String = holder.query_one("select pg_export_snapshot()", &[]).await?.try_get(0)?;
    let row = holder
        .query_one(
            "select p.height, p.block_id, p.epoch, p.seq, \
             coalesce((select transactions_before + number_of_transactions from forebay.blocks \
             order by height desc limit 1), 0)::bigint from forebay.position p",
            &[],
        )
        .await
        .context("reading where the chain stands")?;
    let saved = Saved {
        height: row.try_get(0)?,
        block_id: row.try_get::<_, Option<i64>>(1)?.map(|id| id.cast_unsigned().to_string()),
        epoch: row.try_get(2)?,
        seq: row.try_get(3)?,
        transactions: row.try_get(4)?,
    };
    let rows = rows_about(&watched).await?;
    let unfinished = partial(file);
    let mut command = tool(&program, config);
    command.arg("--format=custom").arg(format!("--snapshot={snapshot}"));
    for schema in ["forebay", "forebay_code", "forebay_log", "rise"] {
        command.arg(format!("--schema={schema}"));
    }
    command.arg("--file").arg(&unfinished);
    let outcome = run(context, "pg_dump", command, Watched::Rows { client: &watched, total: rows }).await;
    if let Err(error) = outcome {
        // Half a backup is none.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    let flushing = || -> std::io::Result<()> {
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, file)?;
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    flushing().with_context(|| format!("flushing {}", file.display()))?;
    Ok(saved)
}
