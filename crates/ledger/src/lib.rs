//! What a block means.
//!
//! Types, bytes, ids, signatures, rounds, rewards, and `apply` and `undo` as pure functions from a state view to a
//! change set. No I/O, no clock, no async: the same blocks give the same state everywhere. The rules were written from
//! a description of the reference node's behaviour (cited as "RULES n" in the docs) and are checked against its data.

pub mod account;
pub mod apply;
pub mod block;
pub mod crypto;
pub mod forgers;
pub mod ids;
pub mod json;
pub mod keys;
pub mod memory;
pub mod profile;
pub mod refusal;
pub mod round;
pub mod state;
pub mod transaction;
pub mod verify;
