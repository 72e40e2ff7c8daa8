//! A network of its own and signed chains, from a seed: for demos, benchmarks and tests.
//!
//! [`Network::from_seed`] makes a profile, a genesis block and all secrets. [`Chain`] makes block after block on top
//! of it: a mix of transactions, skipped slots, forks. Each block was verified and applied by the ledger before
//! it is handed out, so what comes out is valid by construction, and the forger lists are the ledger's own.
//!
//! Everything is a function of the seeds and options: the same ones give the same bytes, on every platform, today and
//! later. No clock, no files: [`files`] writes to whatever the caller opened.
//!
//! The secrets follow from the seed. A network made here is for tests and never for anything of value.

pub mod chain;
mod compose;
pub mod error;
pub mod files;
pub mod mix;
pub mod network;
mod random;

pub use chain::{Chain, ChainOptions};
pub use error::GenerateError;
pub use mix::Mix;
pub use network::{GenerationTwoOptions, Network, NetworkOptions, Wallet};
