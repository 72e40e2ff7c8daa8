//! The outbox as the syncer uses it: read in order, fetch bodies, trim what is durable and old enough.

use std::collections::HashMap;

use forebay_failpoint::reach;
use forebay_ledger::block::Block;
use forebay_ledger::ids::{BlockId, Height};
use redis::Value;

use crate::codec::block::decode_block;
use crate::connection::FastTier;
use crate::entry::OutboxEntry;
use crate::error::FastError;
use crate::head::{Durable, Position};
use crate::library::{Answer, Assumed, Function};
use crate::plan::Plan;

/// What the outbox holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxRange {
    /// Its oldest entry.
    pub first: Position,
    /// Its newest.
    pub last: Position,
    /// How many there are.
    pub entries: u64,
}

/// What may go. The caller decides: entries that are durable and older than what it keeps, and bodies that neither a
/// kept height nor a remaining entry refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trim {
    /// Entries up to and with this one.
    pub entries_through: Option<Position>,
    /// Blocks' bodies.
    pub bodies: Vec<BlockId>,
    /// Heights that leave the kept window: their entries in the height index.
    pub heights: Vec<Height>,
    /// Heights whose undo records go.
    pub undo_heights: Vec<Height>,
    /// Rounds whose forger lists go.
    pub rounds: Vec<u32>,
    /// What the slow tier is known to have flushed, to be shown in the head.
    pub durable: Option<Durable>,
}

/// An entry that cannot be read: what it says is not to be believed.
#[derive(Debug)]
pub struct DamagedEntry {
    /// Its place.
    pub position: Position,
    /// The height that its fields name, if they name one.
    pub height: Option<Height>,
    /// What is wrong with it.
    pub error: FastError,
}

type StreamEntries = Vec<(String, Vec<(String, Vec<u8>)>)>;

impl FastTier {
    /// Entries after a position, oldest first, at most `count`; from the oldest if `after` is `None`. Answers in every
    /// state. Each entry's checksum is verified.
    ///
    /// # Errors
    /// Unavailable; corrupt: an entry that we did not write so.
    pub async fn outbox_entries(
        &self,
        after: Option<Position>,
        count: usize,
    ) -> Result<Vec<OutboxEntry>, FastError> {
        let from = after.map_or_else(|| "-".to_owned(), |position| format!("({position}"));
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys().outbox()).arg(from).arg("+").arg("COUNT").arg(count);
        self.entries(&command).await
    }

    /// All entries, oldest first, up to the first that cannot be read. Up to the operation `durable_seq` nobody needs them
    /// any more: damaged ones there are left out. Answers in every state.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn outbox_until_damage(
        &self,
        durable_seq: u64,
    ) -> Result<(Vec<OutboxEntry>, Option<DamagedEntry>), FastError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.keys().outbox()).arg("-").arg("+");
        self.entries_until_damage(&command, durable_seq).await
    }

    async fn entries(&self, command: &redis::Cmd) -> Result<Vec<OutboxEntry>, FastError> {
        match self.entries_until_damage(command, 0).await? {
            (entries, None) => Ok(entries),
            (_, Some(damaged)) => Err(damaged.error),
        }
    }

    async fn entries_until_damage(
        &self,
        command: &redis::Cmd,
        durable_seq: u64,
    ) -> Result<(Vec<OutboxEntry>, Option<DamagedEntry>), FastError> {
        let key = self.keys().outbox();
        let found: StreamEntries = self.ask("read the outbox", command).await?;
        let mut entries = Vec::with_capacity(found.len());
        for (id, fields) in &found {
            let position = Position::parse(id).ok_or_else(|| FastError::Corrupt {
                key: key.clone(),
                detail: format!("\"{id}\" is no id of an entry"),
            })?;
            match OutboxEntry::of_fields(&key, position, fields) {
                Ok(entry) => entries.push(entry),
                Err(error) if position.seq <= durable_seq => {
                    tracing::warn!(%error, "an entry of the outbox that is durable already cannot be read");
                }
                Err(error) => {
                    let height = fields.iter().find(|(name, _)| name == "height");
                    let height = height.and_then(|(_, text)| std::str::from_utf8(text).ok()?.parse().ok());
                    return Ok((entries, Some(DamagedEntry { position, height, error })));
                }
            }
        }
        Ok((entries, None))
    }

    /// The oldest and the newest entry's positions; `None` if the outbox is empty. Answers in every state.
    ///
    /// # Errors
    /// Unavailable or corrupt.
    pub async fn outbox_range(&self) -> Result<Option<OutboxRange>, FastError> {
        let key = self.keys().outbox();
        let mut reads = Plan::new(self.keys());
        reads.read_key("XLEN", key.clone());
        reads.read("XRANGE", key.clone(), ("-", "+", "COUNT", 1));
        reads.read("XREVRANGE", key, ("+", "-", "COUNT", 1));
        let values = self.read_together("read the outbox' range", reads).await?;
        let [_meta, length, first, last] =
            <[Value; 4]>::try_from(values).map_err(|_| unexpected("four answers"))?;
        let position = |value: Value| -> Result<Option<Position>, FastError> {
            let entries: StreamEntries = redis::from_redis_value(value).map_err(unexpected)?;
            Ok(entries.first().and_then(|(id, _)| Position::parse(id)))
        };
        match (position(first)?, position(last)?) {
            (Some(first), Some(last)) => {
                let entries = redis::from_redis_value(length).map_err(unexpected)?;
                Ok(Some(OutboxRange { first, last, entries }))
            }
            _ => Ok(None),
        }
    }

    /// Blocks by id, in the order asked for; `None` where there is no body. Answers in every state. One round trip.
    ///
    /// # Errors
    /// Unavailable; corrupt: a body whose checksum does not fit, or that is another block's.
    pub async fn blocks(&self, ids: &[BlockId]) -> Result<Vec<Option<Block>>, FastError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        ids.iter().for_each(|id| {
            command.arg(self.keys().block(*id));
        });
        let bodies: Vec<Option<Vec<u8>>> = self.ask("read blocks", &command).await?;
        ids.iter().zip(bodies).map(|(id, body)| self.block_of(*id, body.as_deref())).collect()
    }

    fn block_of(&self, id: BlockId, body: Option<&[u8]>) -> Result<Option<Block>, FastError> {
        let Some(body) = body else { return Ok(None) };
        let block = decode_block(body).map_err(|cause| FastError::corrupt(self.keys().block(id), cause))?;
        self.compare_ids(id, block.id)?;
        Ok(Some(block))
    }

    /// A body that was kept for a block must be that block's.
    pub(crate) fn compare_ids(&self, id: BlockId, found: BlockId) -> Result<(), FastError> {
        if found == id {
            return Ok(());
        }
        Err(FastError::Corrupt { key: self.keys().block(id), detail: format!("it holds the block {found}") })
    }

    /// The heights whose blocks are kept, with the blocks' ids. Answers in every state.
    ///
    /// # Errors
    /// Unavailable or corrupt.
    pub async fn kept_blocks(&self) -> Result<HashMap<Height, BlockId>, FastError> {
        let key = self.keys().heights();
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        let fields: HashMap<String, String> = self.ask("read the kept heights", &command).await?;
        let read = |(height, id): (&String, &String)| Some((height.parse().ok()?, id.parse().ok()?));
        fields
            .iter()
            .map(|pair| {
                read(pair).ok_or_else(|| FastError::Corrupt {
                    key: format!("{key} {}", pair.0),
                    detail: format!("\"{}\" is no block id", pair.1),
                })
            })
            .collect()
    }

    /// Removes what the caller says, in one atomic call, if the epoch holds the chain. Works while memory is full.
    ///
    /// # Errors
    /// Fenced, not ready (neither ready nor rewinding), outcome unknown (do it again: trimming twice is harmless).
    pub async fn trim(&self, epoch: u64, trim: &Trim) -> Result<(), FastError> {
        let keys = self.keys();
        let mut plan = Plan::new(keys);
        if let Some(through) = trim.entries_through {
            plan.drop_entries_before(keys.outbox(), through.next().to_string());
        }
        trim.bodies.iter().for_each(|id| plan.delete(keys.block(*id)));
        trim.undo_heights.iter().for_each(|height| plan.delete(keys.undo(*height)));
        trim.rounds.iter().for_each(|round| plan.delete(keys.forgers(*round)));
        plan.delete_fields(keys.heights(), trim.heights.iter().map(ToString::to_string));
        if let Some(Durable { position, height }) = trim.durable {
            let fields = [("durable", position.to_string()), ("durable_height", height.to_string())];
            plan.set_fields(keys.meta(), fields);
        }
        // In the lane: what a trim changes is watched by the transactions that are open there.
        let (doing, own) = ("trim the outbox", [epoch.to_string().into_bytes(), b"ready rewinding".to_vec()]);
        let call = plan.call("FCALL", Function::Trim.name(), &own);
        reach("fast.before_trim");
        let answer = self.call_in_lane(doing, call).await?;
        reach("fast.after_trim");
        Answer::of(doing, answer)?.accepted(Assumed { doing, epoch, seq: 0, tip: "" })
    }

    /// A change that is not an operation of the chain, in one of the given states.
    pub(crate) async fn write_plan(
        &self,
        epoch: u64,
        doing: &str,
        function: Function,
        states: &str,
        plan: Plan,
    ) -> Result<(), FastError> {
        let own = [epoch.to_string().into_bytes(), states.into()];
        let assumed = Assumed { doing, epoch, seq: 0, tip: "" };
        self.call_with_plan(assumed, function, &own, &plan).await
    }
}

fn unexpected(error: impl ToString) -> FastError {
    FastError::UnexpectedAnswer { doing: "read the outbox' range".to_owned(), detail: error.to_string() }
}
