//! A model of the protocol between a node, Redis and PostgreSQL: outbox, position, epoch and recovery.
//!
//! [`Protocol`] is explored exhaustively within [`Bounds`] by `stateright`; the invariants are its properties. Each
//! [`Rule`] of the protocol can be left out, and the tests show that a counterexample is found then. [`reach`] shows that
//! every state can still come to rest with everything durable. Nothing here does I/O; `docs/model.md` says what is
//! modelled and what is not.

mod action;
mod canonical;
mod faults;
mod heal;
mod ops;
mod postgres;
mod protocol;
pub mod reach;
mod redis;
mod rules;
mod run;
mod start;
mod world;

pub use action::Action;
pub use ops::{Op, Ops};
pub use protocol::Protocol;
pub use rules::{Bounds, ENTRIES_KEPT, Rule, Rules};
pub use world::{
    Broken, Commit, Node, Order, Phase, Postgres, Readiness, Reason, Redis, Request, Step, Truth, Who, World,
};
