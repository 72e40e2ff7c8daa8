//! The blocks that the chain had when a replay began: they are skipped without checking their signatures again.

use anyhow::Context as _;
use forebay_ledger::ids::BlockId;
use forebay_slow::open_session;

use crate::session::Session;

/// Ids, ascending. Eight bytes a block of the chain.
pub struct KnownBlocks(Vec<BlockId>);

impl KnownBlocks {
    /// Asks PostgreSQL, which has the whole chain right after a start.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn load(session: &Session) -> anyhow::Result<Self> {
        if session.node.progress().tip.is_none_or(|tip| tip.height <= 1) {
            return Ok(Self(Vec::new()));
        }
        let doing = "asking PostgreSQL which blocks it has";
        let client = open_session(&session.connections.postgres, doing).await?;
        let rows = client.query("select id from rise.blocks", &[]).await.context(doing)?;
        let mut ids = rows
            .iter()
            .map(|row| Ok(row.try_get::<_, &str>(0)?.parse()?))
            .collect::<anyhow::Result<Vec<BlockId>>>()
            .context(doing)?;
        ids.sort_unstable();
        Ok(Self(ids))
    }

    /// Whether the chain had it.
    pub fn contains(&self, id: BlockId) -> bool {
        self.0.binary_search(&id).is_ok()
    }
}
