//! `forebay generate`: a network of its own and a signed chain, as files.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use forebay_generator::{Chain, ChainOptions, GenerationTwoOptions, Mix, Network, NetworkOptions, files};
use serde_json::json;

use super::Context;
use crate::args::GenerateArgs;
use crate::exit::{Exit, Told};
use crate::output::counted;
use crate::screen::{BLOCKS, Shown, how_far};
use crate::session::interrupted;

/// How often a plain line is written.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the command.
pub async fn run(context: &Context, args: GenerateArgs) -> anyhow::Result<i32> {
    let output = context.output;
    let (screen, signals) = (context.screen.clone(), context.signals.clone());
    let work = move || generate(&args, &screen, || signals.exit_code().is_some());
    let made = tokio::task::spawn_blocking(work).await??;
    let value = json!({
        "network": made.network, "out": made.out.display().to_string(), "height": made.height,
        "blockId": made.block_id, "blocks": made.blocks, "transactions": made.transactions,
    });
    output.result(&value, || {
        let out = made.out.display();
        format!(
            "{} with {} in {out}\n\
             replay them with: forebay replay {out}/blocks.jsonl --network {out}/profile.toml --genesis {out}/genesis.json",
            counted(made.blocks.into(), "block"),
            counted(made.transactions, "transaction"),
        )
    })?;
    Ok(Exit::Success as i32)
}

struct Made {
    network: String,
    out: PathBuf,
    height: u32,
    block_id: Option<String>,
    blocks: u32,
    transactions: u64,
}

/// The files of a generated network.
struct Paths {
    profile: PathBuf,
    genesis: PathBuf,
    blocks: PathBuf,
    secrets: PathBuf,
}

impl Paths {
    fn of(out: &Path) -> Self {
        Self {
            profile: out.join("profile.toml"),
            genesis: out.join("genesis.json"),
            blocks: out.join("blocks.jsonl"),
            secrets: out.join("secrets.json"),
        }
    }

    fn check_free(&self) -> anyhow::Result<()> {
        match [&self.profile, &self.genesis, &self.blocks, &self.secrets]
            .into_iter()
            .find(|path| path.exists())
        {
            Some(path) => {
                let message = format!("{} is there already", path.display());
                Err(Told::refused("exists", message, "Choose another folder, or give --force.").into())
            }
            None => Ok(()),
        }
    }
}

fn generate(
    args: &GenerateArgs,
    screen: &crate::screen::Screen,
    is_asked_to_end: impl Fn() -> bool,
) -> anyhow::Result<Made> {
    let paths = Paths::of(&args.out);
    if !args.force {
        paths.check_free()?;
    }
    let (network_options, chain_options) = options(args)?;
    let network = Network::from_seed(&args.seed, &network_options).map_err(refused)?;
    let network = Arc::new(network);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut chain = Chain::new(Arc::clone(&network), chain_options, i64::try_from(now).unwrap_or(i64::MAX))
        .map_err(refused)?;

    fs::create_dir_all(&args.out).with_context(|| format!("making the folder {}", args.out.display()))?;
    write(&paths.secrets, 0o600, |out| files::write_secrets(out, &network))?;
    write(&paths.genesis, 0o644, |out| files::write_genesis(out, &network))?;
    let bar = screen.bar(BLOCKS, Some(args.blocks.into()));
    bar.set_prefix("generate");
    let (begun, mut told) = (Instant::now(), Instant::now());
    let mut transactions = 0;
    let mut block_id = None;
    let mut failure = None;
    write(&paths.blocks, 0o644, |out| {
        for _ in 0..args.blocks {
            if is_asked_to_end() {
                failure = Some(interrupted("while generating"));
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let block = chain.next_block().map_err(|error| {
                failure = Some(refused(error));
                std::io::Error::from(std::io::ErrorKind::InvalidData)
            })?;
            transactions += block.transactions.len() as u64;
            block_id = Some(block.id.to_string());
            files::write_block(out, &block, &network.profile)?;
            bar.inc(1);
            if screen.shown() == Shown::Lines && told.elapsed() >= LINE_INTERVAL {
                told = Instant::now();
                let how_far = how_far(bar.position(), Some(args.blocks.into()), begun.elapsed());
                screen.say(format!("generate: {how_far}"));
            }
        }
        Ok(())
    })
    .map_err(|error| failure.take().unwrap_or(error))?;
    bar.finish_and_clear();
    // The profile comes last: its being there says that all are.
    write(&paths.profile, 0o644, |out| files::write_profile(out, &network))?;
    Ok(Made {
        network: network.profile.name.clone(),
        out: args.out.clone(),
        height: chain.height(),
        block_id,
        blocks: args.blocks,
        transactions,
    })
}

fn options(args: &GenerateArgs) -> anyhow::Result<(NetworkOptions, ChainOptions)> {
    let network = NetworkOptions {
        name: args.name.clone(),
        delegates: args.delegates,
        accounts: args.accounts,
        // A network of its own may have larger blocks than the reference networks.
        transactions_per_block: args
            .transactions_per_block
            .max(NetworkOptions::default().transactions_per_block),
        generation_two: args
            .second_generation_round
            .map(|first_round| GenerationTwoOptions { first_round, missed_in_a_row_max: 28 }),
        ..NetworkOptions::default()
    };
    let mix = match args.mix.as_str() {
        "transfers" => Mix::transfers_only(),
        "all" => Mix::all_types(),
        weights => weights.parse().map_err(refused)?,
    };
    let chain = ChainOptions {
        seed: args.seed.clone(),
        mix,
        transactions_min: args.transactions_per_block,
        transactions_max: args.transactions_per_block,
        skipped_slots_percent: args.skipped_slots,
        // Nothing is taken back here.
        undo_blocks_max: 0,
        ..ChainOptions::default()
    };
    Ok((network, chain))
}

fn refused(error: forebay_generator::GenerateError) -> anyhow::Error {
    Told::refused("generate", error, "Change the options.").into()
}

/// Writes a file as a whole: what was there before stays until all of it is written.
fn write(
    path: &Path,
    mode: u32,
    content: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let attempt = || {
        let file = File::create(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        content(&mut out)?;
        out.flush()?;
        fs::rename(&temporary, path)
    };
    attempt()
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
        .with_context(|| format!("writing {}", path.display()))
}
