//! The state derived again from block 1 by the ledger alone, every signature and rule checked.

use forebay_ledger::account::Account;
use forebay_ledger::apply::apply_block;
use forebay_ledger::crypto::Checker;
use forebay_ledger::ids::Height;
use forebay_ledger::memory::MemoryState;
use forebay_ledger::state::StateView;
use forebay_ledger::verify::check_block;

use super::{Findings, Meeting, Tier, VerifyProgress};
use crate::error::StoreError;

const BLOCKS_A_CHUNK: Height = 200;

/// Every block of the chain was checked against the clock when it was accepted: no slot is in the future any more.
const NOW_LATE: i64 = i64::MAX >> 1;

impl<F: Fn(VerifyProgress) + Sync> Meeting<'_, F> {
    pub(super) async fn derive(
        &self,
        findings: &mut Findings,
        fast: &[Account],
        slow: &[Account],
    ) -> Result<(), StoreError> {
        let Some(state) = self.derive_state(findings).await? else { return Ok(()) };
        let derived: Vec<Account> = state.accounts().cloned().collect();
        self.compare_with(findings, (Tier::Fast, fast), (Tier::Either, &derived), Tier::Fast);
        self.compare_with(findings, (Tier::Slow, slow), (Tier::Either, &derived), Tier::Slow);
        let round = self.inputs.fast.round_state().await?.value;
        if round.as_ref() != state.round() {
            findings.add(Tier::Fast, "the running round", "it is not the one that the chain gives");
        }
        Ok(())
    }

    /// `None`: a block of PostgreSQL cannot be applied; that is a finding.
    async fn derive_state(&self, findings: &mut Findings) -> Result<Option<MemoryState>, StoreError> {
        let profile = &self.inputs.profile;
        let checker = Checker::default();
        let (mut state, _) = MemoryState::from_genesis((*self.inputs.genesis).clone(), profile)?;
        let Some(tip) = self.snapshot.reads().tip().await? else { return Ok(Some(state)) };
        let stored = self.snapshot.reads().block_by_height(1).await?;
        if stored.as_ref() != Some(&*self.inputs.genesis) {
            findings.add(
                Tier::Slow,
                "the genesis block",
                "postgres has another one than the one that was given",
            );
            return Ok(None);
        }
        let mut from = 2;
        while from <= tip.height {
            let to = from.saturating_add(BLOCKS_A_CHUNK - 1).min(tip.height);
            for block in self.snapshot.reads().blocks(from..=to).await? {
                let subject = format!("block {} (height {})", block.id, block.height);
                let applied = check_block(block, profile, &checker)
                    .and_then(|checked| apply_block(&state, checked, profile, NOW_LATE, &checker));
                match applied {
                    Ok(applied) => state
                        .commit(&applied.changes)
                        .map_err(|error| StoreError::Disagreement(error.to_string()))?,
                    Err(refusal) => {
                        findings.add(
                            Tier::Slow,
                            subject,
                            format!("it cannot follow the block before: {refusal}"),
                        );
                        return Ok(None);
                    }
                }
            }
            self.at("deriving", to.into(), tip.height.into());
            from = to + 1;
        }
        if state.tip().map(|tip| tip.id) != Some(tip.id) {
            findings.add(Tier::Slow, "the tip", "the blocks do not lead to it");
            return Ok(None);
        }
        Ok(Some(state))
    }
}
