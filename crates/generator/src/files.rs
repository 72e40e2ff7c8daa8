//! A network and its chain as files: profile, genesis block, secrets, and blocks as JSON Lines.
//!
//! These write to whatever the caller opened; flushing and syncing it are the caller's.

use std::io::{self, Write};

use forebay_ledger::block::Block;
use forebay_ledger::json::block_to_value;
use forebay_ledger::profile::NetworkProfile;
use serde::Serialize;

use crate::network::{Network, Wallet};

/// Writes the rules as TOML, usually to `profile.toml`.
///
/// # Errors
/// What `out` says.
pub fn write_profile(out: &mut impl Write, network: &Network) -> io::Result<()> {
    let text = network.profile.to_toml().map_err(io::Error::other)?;
    out.write_all(text.as_bytes())
}

/// Writes the genesis block as the reference node's JSON, usually to `genesis.json`.
///
/// # Errors
/// What `out` says.
pub fn write_genesis(out: &mut impl Write, network: &Network) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &block_to_value(&network.genesis, &network.profile))?;
    out.write_all(b"\n")
}

/// Writes one block as one line of JSON, usually to `blocks.jsonl`.
///
/// # Errors
/// What `out` says.
pub fn write_block(out: &mut impl Write, block: &Block, profile: &NetworkProfile) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &block_to_value(block, profile))?;
    out.write_all(b"\n")
}

/// Writes everybody's passphrases, usually to `secrets.json`.
///
/// # Errors
/// What `out` says.
pub fn write_secrets(out: &mut impl Write, network: &Network) -> io::Result<()> {
    let secret = |wallet| Secret::of(wallet, network.profile.address_suffix);
    let secrets = Secrets {
        note: "Made from a seed, for tests: never use these keys for anything of value.",
        network: &network.profile.name,
        genesis: secret(&network.genesis_wallet),
        delegates: network.wallets.iter().filter(|w| w.username.is_some()).map(secret).collect(),
        accounts: network.wallets.iter().filter(|w| w.username.is_none()).map(secret).collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &secrets)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Secrets<'a> {
    note: &'a str,
    network: &'a str,
    genesis: Secret<'a>,
    delegates: Vec<Secret<'a>>,
    accounts: Vec<Secret<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    address: String,
    public_key: String,
    passphrase: &'a str,
    second_passphrase: String,
}

impl<'a> Secret<'a> {
    fn of(wallet: &'a Wallet, suffix: char) -> Self {
        Self {
            username: wallet.username.as_deref(),
            address: wallet.address.with_suffix(suffix),
            public_key: wallet.key.public_key().to_string(),
            passphrase: &wallet.passphrase,
            second_passphrase: wallet.second_passphrase(),
        }
    }
}
