//! Chain data as the reference node shows them: its names, its forms of numbers and texts, its order of fields.

mod account;
mod block;
mod block_tag;
mod delegate;
mod transaction;
mod written_block;

pub use account::{Account, GroupAccount, Rich, VoterAccount};
pub use block::{Block, MemoryBlock};
pub use block_tag::BlockTag;
pub use delegate::{Delegate, Shown, collation};
pub use transaction::{Listed, Single};
pub use written_block::WrittenBlock;
