//! Seeing inside from outside: `/metrics`, `/livez`, `/readyz`.
//!
//! The store knows nothing of this: it shows a `Progress`, and each request looks at the newest. `names.rs` has every
//! metric, `export.rs` fills them in, `ready.rs` decides what readiness is, `listener.rs` answers.

mod export;
mod listener;
mod names;
mod process;
mod ready;

use std::sync::{Arc, Mutex, PoisonError};

use forebay_api::Api;
use forebay_ledger::profile::NetworkProfile;
use forebay_store::{Limits, Node, Phase, PhaseProgress};

pub use self::listener::Listener;
use self::ready::Readiness;

/// What can be seen of this process' node. Cheap to clone.
#[derive(Clone)]
pub struct Observed {
    seen: Arc<Mutex<Seen>>,
    /// Seconds since 1970.
    started_at: f64,
}

#[derive(Clone, Default)]
struct Seen {
    /// The last step of the start, or of a restore.
    step: Option<PhaseProgress>,
    node: Option<ObservedNode>,
    api: Option<Api>,
    network: Option<String>,
    is_over: bool,
}

/// A node that runs, and by what it is measured.
#[derive(Clone)]
struct ObservedNode {
    node: Node,
    profile: Arc<NetworkProfile>,
    limits: Limits,
}

impl Default for Observed {
    fn default() -> Self {
        Self { seen: Arc::default(), started_at: process::unix_seconds() }
    }
}

impl Observed {
    /// A step of a start, or of a restore in between.
    pub fn step(&self, step: PhaseProgress) {
        self.change(|seen| seen.step = (step.phase != Phase::Ready).then_some(step));
    }

    /// The network is known.
    pub fn network(&self, name: &str) {
        self.change(|seen| seen.network = Some(name.to_owned()));
    }

    /// The node runs.
    pub fn running(&self, node: &Node, profile: &Arc<NetworkProfile>, limits: Limits) {
        let node = ObservedNode { node: node.clone(), profile: Arc::clone(profile), limits };
        self.change(|seen| seen.node = Some(node));
    }

    /// The API is served.
    pub fn api(&self, api: &Api) {
        self.change(|seen| seen.api = Some(api.clone()));
    }

    /// It has ended, or did not start.
    pub fn ended(&self) {
        self.change(|seen| seen.is_over = true);
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn now(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Seen {
    fn readiness(&self) -> Readiness {
        match &self.node {
            _ if self.is_over => Readiness::of_ended(),
            Some(node) => Readiness::of_node(&node.node.progress(), self.step.as_ref()),
            None => Readiness::of_start(self.step.as_ref()),
        }
    }
}
