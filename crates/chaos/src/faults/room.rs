//! Memory that does not suffice while blocks are taken back.

use crate::driver::Wish;
use crate::supervisor::Supervisor;

/// Operations until there are undo records to take back with.
const OPERATIONS_UNTIL_UNDO: u64 = 40;

impl Supervisor {
    /// Blocks are refused then, but taking back works, with the memory as it is.
    pub(super) async fn redis_memory_take_back(&mut self) -> anyhow::Result<()> {
        self.wish_heard(Wish::Shallow).await?;
        self.load_until(self.operations() + OPERATIONS_UNTIL_UNDO).await?;
        self.rest().await?;
        self.light().limit_memory().await?;
        self.wish(Wish::TakeBacks);
        self.resume_load();
        self.wait_for_progress("Redis was full and blocks are taken back").await?;
        self.servers.redis_command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        self.wish(Wish::Anything);
        Ok(())
    }
}
