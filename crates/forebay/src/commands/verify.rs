//! `forebay verify`: both tiers hold the same state, and it is what the chain says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use forebay_fast::FastTier;
use forebay_store::StoreError;
use forebay_store::verify::{Verification, VerifyInputs, VerifyProgress, verify};
use indicatif::{HumanCount, ProgressBar};
use serde_json::json;
use tokio_postgres::Config;

use super::Context;
use crate::args::VerifyArgs;
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::command_words;
use crate::output::counted;
use crate::reads::{Look, Reads};
use crate::screen::{COUNTED, Screen, Shown, how_far};
use crate::session::{Patience, Session};

/// Runs the command.
pub async fn run(context: &Context, args: VerifyArgs) -> anyhow::Result<i32> {
    let beside = match context.home.holder()? {
        Some(_) => true,
        None => super::another_node_serves(context).await?,
    };
    let verification =
        if beside { beside_node(context, args.deep).await } else { alone(context, args.deep).await }
            .map_err(of_disagreement)?;
    tell(context, &verification)?;
    Ok(if verification.findings_total == 0 { Exit::Success } else { Exit::Verification } as i32)
}

async fn beside_node(context: &Context, deep: bool) -> anyhow::Result<Verification> {
    let compare = async |reads: &Reads| match &reads.fast {
        Some(fast) => {
            let postgres = reads.postgres().await?;
            compare(context, &reads.chain, fast.clone(), postgres, deep).await
        }
        None => Err(reads.without_fast("")),
    };
    context.read(Look::Ready, compare).await
}

async fn alone(context: &Context, deep: bool) -> anyhow::Result<Verification> {
    let session = Session::start(
        &context.home,
        &command_words("verify"),
        Patience::Configured,
        &context.screen,
        &context.signals,
    )
    .await?;
    let (fast, postgres) = (session.node.fast().clone(), session.connections.postgres.clone());
    let outcome = tokio::select! {
        outcome = compare(context, &session.chain, fast, postgres, deep) => outcome,
        () = context.signals.asked() => Err(crate::session::interrupted("while comparing")),
    };
    match outcome {
        Ok(verification) => {
            session.stop().await?;
            Ok(verification)
        }
        Err(error) => Err(session.stop_after(error).await),
    }
}

/// Compares, with progress.
pub async fn compare(
    context: &Context,
    chain: &Chain,
    fast: FastTier,
    postgres: Config,
    deep: bool,
) -> anyhow::Result<Verification> {
    let inputs = VerifyInputs {
        fast,
        postgres,
        profile: Arc::clone(&chain.profile),
        genesis: Arc::clone(&chain.genesis),
    };
    let parts = Parts { screen: context.screen.clone(), current: Mutex::new(None) };
    let outcome = verify(&inputs, deep, |progress| parts.show(progress)).await;
    parts.finish();
    outcome.context("verifying both tiers")
}

/// A start that finds the tiers in disagreement is a verification that failed.
fn of_disagreement(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::Disagreement(_)) => {
            let told = Told::new(
                Exit::Verification,
                "disagreement",
                "the tiers do not agree",
                "Put PostgreSQL back from a backup, or replay the chain into a new data directory.",
            );
            // The first failure that is known decides, so ours has to come first.
            anyhow::Error::new(told).context(format!("{error:#}"))
        }
        _ => error,
    }
}

fn tell(context: &Context, verification: &Verification) -> anyhow::Result<()> {
    let findings: Vec<_> = verification
        .findings
        .iter()
        .map(|finding| json!({ "tier": finding.tier.name(), "subject": finding.subject, "detail": finding.detail }))
        .collect();
    let value = json!({
        "ok": verification.findings_total == 0,
        "height": verification.height,
        "accounts": verification.accounts,
        "transactions": verification.transactions,
        "blocks": verification.blocks,
        "deep": verification.is_deep,
        "findings": findings,
        "findingsTotal": verification.findings_total,
    });
    context.output.result(&value, || text_of(verification))
}

fn text_of(verification: &Verification) -> String {
    let mut text: String = verification
        .findings
        .iter()
        .map(|finding| format!("{}: {}: {}\n", finding.tier.name(), finding.subject, finding.detail))
        .collect();
    let shown = verification.findings.len() as u64;
    if verification.findings_total > shown {
        text.push_str(&format!("… and {} more\n", HumanCount(verification.findings_total - shown)));
    }
    let again = if verification.is_deep { ", derived again from block 1," } else { "" };
    text.push_str(&format!(
        "height {}: {}, {} and {}{again} compared: {}",
        HumanCount(verification.height.into()),
        counted(verification.accounts, "account"),
        counted(verification.transactions, "transaction"),
        counted(verification.blocks, "block"),
        match verification.findings_total {
            0 => "both tiers agree".to_owned(),
            more => counted(more, "difference"),
        }
    ));
    text
}

/// What is compared now.
struct Parts {
    screen: Screen,
    current: Mutex<Option<Part>>,
}

struct Part {
    name: &'static str,
    bar: Option<ProgressBar>,
    begun: Instant,
    told: Instant,
}

impl Parts {
    fn show(&self, progress: VerifyProgress) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|part| part.name != progress.part) {
            if let Some(bar) = current.take().and_then(|part| part.bar) {
                bar.finish_and_clear();
            }
            let bar = (self.screen.shown() == Shown::Bars)
                .then(|| self.screen.bar(COUNTED, Some(progress.total)).with_prefix(progress.part));
            *current = Some(Part { name: progress.part, bar, begun: Instant::now(), told: Instant::now() });
        }
        let Some(part) = current.as_mut() else { return };
        match &part.bar {
            Some(bar) => {
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            }
            None if part.told.elapsed() >= Duration::from_secs(5) => {
                part.told = Instant::now();
                let how_far = how_far(progress.done, Some(progress.total), part.begun.elapsed());
                self.screen.say(format!("verify: {} {how_far}", progress.part));
            }
            None => {}
        }
    }

    fn finish(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = current.take().and_then(|part| part.bar) {
            bar.finish_and_clear();
        }
    }
}
