//! Which chain: the network's profile and the genesis block, and how a data directory remembers them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use forebay_ledger::block::Block;
use forebay_ledger::json::{block_to_value, parse_block};
use forebay_ledger::profile::{BUILT_IN, NetworkProfile};

use crate::config::Settings;
use crate::exit::Told;

/// The network's rules and the chain's first block.
#[derive(Clone)]
pub struct Chain {
    /// The rules.
    pub profile: Arc<NetworkProfile>,
    /// The first block.
    pub genesis: Arc<Block>,
}

impl Chain {
    /// What the data directory remembers, compared with what the settings say; or what the settings say, if it remembers
    /// nothing. Writes nothing.
    ///
    /// # Errors
    /// Configuration: neither says it, both differ, or a file cannot be read.
    pub fn load(settings: &Settings) -> anyhow::Result<Self> {
        let stored = Self::stored(&settings.data_dir)?;
        let profile = settings.network.as_deref().map(load_profile).transpose()?;
        let Some(stored) = stored else {
            let profile = profile.ok_or_else(|| no_network(&settings.data_dir))?;
            let file = settings.genesis.as_deref().ok_or_else(|| no_genesis(&profile))?;
            let genesis = load_genesis(file, &profile)?;
            check_nethash(&profile, &genesis, file)?;
            return Ok(Self { profile: Arc::new(profile), genesis: Arc::new(genesis) });
        };
        if let Some(given) = profile
            && given != *stored.profile
        {
            return Err(differs(
                &settings.data_dir,
                &format!(
                    "network \"{}\", and --network gives {}",
                    stored.profile.name,
                    if given.name == stored.profile.name {
                        "other rules under the same name".to_owned()
                    } else {
                        format!("\"{}\"", given.name)
                    }
                ),
            ));
        }
        if let Some(file) = &settings.genesis {
            let given = load_genesis(file, &stored.profile)?;
            if given != *stored.genesis {
                return Err(differs(
                    &settings.data_dir,
                    &format!(
                        "the genesis block {}, and --genesis gives {}",
                        stored.genesis.id,
                        if given.id == stored.genesis.id {
                            "another content".to_owned()
                        } else {
                            given.id.to_string()
                        }
                    ),
                ));
            }
        }
        Ok(stored)
    }

    /// What the data directory remembers; `None`: nothing yet.
    fn stored(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let files = Files::of(data_dir);
        let Some(text) = read_if_there(&files.profile)? else { return Ok(None) };
        let damaged = || format!("reading what the data directory remembers, {}", files.profile.display());
        let profile = NetworkProfile::from_toml(&text).with_context(damaged)?;
        if !files.genesis.exists() {
            let message = format!(
                "{} is missing, and the data directory remembers the network \"{}\"",
                files.genesis.display(),
                profile.name
            );
            let remedy = "Copy the genesis block of this network there, as the reference node's JSON.";
            return Err(Told::configuration(message, remedy).into());
        }
        let genesis = load_genesis(&files.genesis, &profile)?;
        Ok(Some(Self { profile: Arc::new(profile), genesis: Arc::new(genesis) }))
    }

    /// Makes the data directory remember this chain, if it does not. Flushed to disk when it returns. The caller holds
    /// the directory's lock.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn remember(&self, data_dir: &Path) -> anyhow::Result<()> {
        let files = Files::of(data_dir);
        if files.profile.exists() {
            return Ok(());
        }
        let write = || -> anyhow::Result<()> {
            fs::create_dir_all(&files.directory)?;
            let genesis = serde_json::to_vec(&block_to_value(&self.genesis, &self.profile))?;
            write_whole(&files.genesis, &genesis)?;
            // The profile comes last: its being there says that both are.
            write_whole(&files.profile, self.profile.to_toml()?.as_bytes())
        };
        write().with_context(|| {
            format!("remembering network and genesis block in {}", files.directory.display())
        })
    }

    /// Seconds since the network's epoch, by the wall clock.
    pub fn now(&self) -> i64 {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.profile.network_time(i64::try_from(unix).unwrap_or(i64::MAX))
    }

    /// An address as people write it.
    pub fn address(&self, address: forebay_ledger::ids::Address) -> String {
        address.with_suffix(self.profile.address_suffix)
    }
}

/// Where a data directory remembers.
struct Files {
    directory: PathBuf,
    profile: PathBuf,
    genesis: PathBuf,
}

impl Files {
    fn of(data_dir: &Path) -> Self {
        let directory = data_dir.join("chain");
        Self { profile: directory.join("profile.toml"), genesis: directory.join("genesis.json"), directory }
    }
}

fn load_profile(network: &str) -> anyhow::Result<NetworkProfile> {
    let is_file = network.ends_with(".toml") || network.contains('/') || Path::new(network).is_file();
    if !is_file {
        return Ok(NetworkProfile::built_in(network)?);
    }
    let text =
        fs::read_to_string(network).with_context(|| format!("reading the network profile {network}"))?;
    NetworkProfile::from_toml(&text).with_context(|| format!("in {network}"))
}

fn load_genesis(file: &Path, profile: &NetworkProfile) -> anyhow::Result<Block> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("reading the genesis block {shown}"))?;
    let remedy = "Give the genesis block of this network as the reference node's JSON.";
    let block = parse_block(&text, profile)
        .map_err(|error| Told::configuration(format!("the genesis block {shown}: {error}"), remedy))?;
    if block.previous_block.is_some() {
        let message = format!("the genesis block {shown}: it has a previousBlock, so it is no genesis block");
        return Err(Told::configuration(message, remedy).into());
    }
    Ok(block)
}

/// What a data directory will remember for good is not another network's first block.
fn check_nethash(profile: &NetworkProfile, genesis: &Block, file: &Path) -> Result<(), Told> {
    let Some(nethash) = profile.nethash().filter(|nethash| *nethash != genesis.payload_hash) else {
        return Ok(());
    };
    let message = format!(
        "{} is not the genesis block of \"{}\": its payload hash is {}, and this network's is {nethash}",
        file.display(),
        profile.name,
        genesis.payload_hash
    );
    Err(Told::configuration(
        message,
        "Give this network's genesis block; for a network of your own write a profile with a name of its own (--network FILE).",
    ))
}

fn no_network(data_dir: &Path) -> Told {
    let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    Told::configuration(
        format!("{} does not know its network yet", data_dir.display()),
        format!(
            "Give --network ({}, or a profile's TOML file) and --genesis FILE once; the data directory remembers them. \
             Or choose another --data-dir.",
            known.join(", ")
        ),
    )
}

fn no_genesis(profile: &NetworkProfile) -> Told {
    Told::configuration(
        format!("the genesis block of \"{}\" is not known yet", profile.name),
        "Give --genesis FILE once; the data directory remembers it.",
    )
}

fn differs(data_dir: &Path, what: &str) -> anyhow::Error {
    let message = format!("{} holds {what}", data_dir.display());
    Told::configuration(
        message,
        "Leave --network and --genesis out, or choose another --data-dir for another chain.",
    )
    .into()
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// All of it or nothing is there afterwards.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(())
}
