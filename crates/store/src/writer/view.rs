//! The state that a block is verified against: what is resident, and what is read for it.
//!
//! With steps on their way the read may see some of them and not others. So nothing of theirs is taken from it: the accounts
//! that they changed are resident, and their names and ids are looked up among them.

use std::collections::HashMap;

use forebay_ledger::state::Needs;

use crate::error::StoreError;
use crate::resident::BlockView;
use crate::writer::Writer;

/// Ids of a block that may be looked up with steps on their way: each is compared with all of theirs.
const LOOKUPS_AHEAD_MAX: usize = 64;

impl Writer {
    /// The state as a block sees it.
    pub(super) async fn view(&self, needed: Needs) -> Result<BlockView<'_>, StoreError> {
        let missing = self.resident.missing(needed);
        let nothing =
            missing.accounts.is_empty() && missing.usernames.is_empty() && missing.transactions.is_empty();
        let mut view = BlockView {
            resident: &self.resident,
            accounts: HashMap::default(),
            usernames: Default::default(),
            transactions: Default::default(),
        };
        if nothing {
            return Ok(view);
        }
        // Of the steps on their way, the read may see some and not others: what they wrote must be known without it.
        if missing.transactions.len() > LOOKUPS_AHEAD_MAX && !self.sent.is_empty() {
            return Err(not_ahead("so many ids have to be looked up"));
        }
        let loaded = self.fast.read_needs(&missing).await?;
        if !(self.seq..=self.seq_sent()).contains(&loaded.at.position.seq) {
            return Err(StoreError::Disagreement(format!(
                "Redis is at operation {}, the writer at {} to {}: somebody else wrote",
                loaded.at.position,
                self.seq,
                self.seq_sent()
            )));
        }
        if let Some(oldest) = self.sent.front()
            && !self.resident.accounts.has_all_since(oldest.drops_before)
        {
            return Err(not_ahead("the cache may have dropped accounts of steps on their way"));
        }
        view.accounts = loaded.value.accounts.into_iter().map(|account| (account.address, account)).collect();
        view.usernames = loaded.value.usernames.into_iter().collect();
        view.transactions = loaded.value.transactions.into_iter().map(|(id, _)| id).collect();
        for changes in self.sent.iter().map(|sent| &sent.changes) {
            let taken = changes.usernames.iter().map(|(name, _)| name);
            view.usernames.extend(taken.filter(|name| missing.usernames.contains(name)).cloned());
            let ids = missing.transactions.iter().filter(|id| changes.transactions.contains(id));
            view.transactions.extend(ids.copied());
        }
        Ok(view)
    }
}

/// A block that has to wait until the steps before it are done; nothing was sent.
fn not_ahead(why: &str) -> StoreError {
    StoreError::Disagreement(format!("the block cannot be verified ahead: {why}"))
}
