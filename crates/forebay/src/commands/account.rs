//! `forebay account ADDRESS`.

use forebay_fast::At;
use forebay_ledger::account::Account;
use forebay_ledger::ids::{Address, Height};
use serde::Serialize;

use super::Context;
use crate::account_record::{AccountRecord, DelegateKeys, delegate_keys};
use crate::args::AccountArgs;
use crate::exit::{Exit, Told};
use crate::reads::{Answered, Look, Reads};

/// How often a chain that moves on is tried to be caught at one height.
const ATTEMPTS_MAX: u32 = 20;

/// What `--json` prints: the fields of a dump, and where and when they were read.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    account: AccountRecord,
    tier: Answered,
    height: Height,
}

/// Runs the command.
pub async fn run(context: &Context, args: AccountArgs) -> anyhow::Result<i32> {
    let answer = context.read(Look::Ready, async |reads| find(reads, &args.address).await).await?;
    context.output.result(&answer, || answer.account.text())?;
    Ok(Exit::Success as i32)
}

async fn find(reads: &Reads, text: &str) -> anyhow::Result<Answer> {
    let suffix = reads.chain.profile.address_suffix;
    let address = Address::parse(text, suffix).map_err(|error| {
        Told::refused("malformed", format!("not an address: {error}"), format!("Give a number and {suffix}."))
    })?;
    let unknown = || Told::unknown(format!("the chain does not know account {text}"));
    if let Some((found, keys)) = in_fast(reads, address).await? {
        let account = found.value.ok_or_else(unknown)?;
        let account = AccountRecord::new(&account, suffix, &keys);
        return Ok(Answer { account, tier: Answered::Fast, height: found.at.height });
    }
    let mut reader = reads.slow().await?;
    let snapshot = reader.snapshot().await?;
    let account = snapshot.reads().account(address).await?.ok_or_else(unknown)?;
    let mut voted = Vec::new();
    for delegate in &account.votes {
        voted.extend(snapshot.reads().account(*delegate).await?);
    }
    let height = snapshot.reads().tip().await?.map_or(0, |tip| tip.height);
    let account = AccountRecord::new(&account, suffix, &delegate_keys(voted.iter()));
    Ok(Answer { account, tier: Answered::Slow, height })
}

/// The account and the keys of those it votes for, at one point in history.
async fn in_fast(
    reads: &Reads,
    address: Address,
) -> anyhow::Result<Option<(At<Option<Account>>, DelegateKeys)>> {
    'attempts: for _ in 0..ATTEMPTS_MAX {
        let Some(found) = reads.fast(async |fast| fast.account(address).await).await? else {
            return Ok(None);
        };
        let mut voted = Vec::new();
        for delegate in found.value.iter().flat_map(|account| &account.votes) {
            match reads.fast(async |fast| fast.account(*delegate).await).await? {
                Some(delegate) if delegate.at == found.at => voted.extend(delegate.value),
                Some(_) => continue 'attempts,
                None => return Ok(None),
            }
        }
        return Ok(Some((found, delegate_keys(voted.iter()))));
    }
    // PostgreSQL sees one state however fast the chain moves.
    Ok(None)
}
