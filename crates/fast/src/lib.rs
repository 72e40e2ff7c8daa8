//! The fast tier: one chain's state in Redis.
//!
//! Redis holds all accounts, every transaction id, the newest blocks, the running round and the outbox. A block (or its
//! being taken back) is **one atomic step**: epoch, sequence number and tip are checked, then everything is written, or it
//! is refused and nothing changes. The keys and their encodings are documented in `docs/redis-keys.md`.
//!
//! Start reading at [`FastTier`]: [`apply`](FastTier::apply) is the way in, [`OutboxEntry`] the way on to the slow tier.
//! This crate does not decide: what a block means is the ledger's, when to trim or who may take over is the store's.

mod claim;
mod codec;
pub mod conf;
mod connection;
mod entry;
mod error;
mod facts;
mod head;
mod index_pages;
mod kept_by_block;
mod keys;
mod lane;
mod library;
mod loader;
mod lookups;
mod memory;
mod outbox;
mod plain;
mod plan;
mod reader;
mod restore;
mod scan;
mod shared_reads;
mod singles;
mod step;
mod working_set;

pub use claim::{Holder, Owner};
pub use codec::account::{AccountRecord, INLINE_BYTES_MAX, decode_account, encode_account};
pub use codec::block::{BodySum, decode_block, encode_block};
pub use codec::round::{decode_closer, decode_round_block, encode_closer, encode_round_block};
pub use codec::undo::{decode_undo, encode_undo};
pub use codec::{CodecError, Fault};
pub use connection::{FastOptions, FastTier, check_address};
pub use entry::{Operation, OutboxEntry};
pub use error::{FastError, FastErrorKind};
pub use facts::ServerFacts;
pub use head::{At, Durable, Fence, Head, Position, ReadPoint, State};
pub use index_pages::TransactionsPage;
pub use kept_by_block::{KeptBlocks, KeptByBlock};
pub use keys::{Buckets, FORMAT_VERSION, Keys, measurement_of};
pub use memory::{Calibration, Contents, Footprint, SERVER_BYTES};
pub use outbox::{DamagedEntry, OutboxRange, Trim};
pub use plain::plain_writes;
pub use reader::{AccountsPage, Counts, RankedBy};
pub use restore::{Cleaned, Expected, Restore, RestoredHead};
pub use scan::{KeyScan, Weights};
pub use shared_reads::SharedCalls;
pub use singles::{FoundTransaction, InChain, KeptBlock, Located};
pub use step::RewindTarget;
pub use working_set::LoadedNeeds;
