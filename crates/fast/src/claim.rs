//! Who holds the chain. Ownership is an epoch; whoever holds it may change the chain's keys, nobody else.

use std::collections::HashMap;

use crate::connection::FastTier;
use crate::error::FastError;
use crate::library::{Assumed, Function};
use crate::plan::fixed_keys;

/// Who a holder is, for messages to operators. Never compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Name of the machine.
    pub host: String,
    /// Process id on it.
    pub pid: u32,
    /// When it took the chain, milliseconds since 1970 by its own clock.
    pub since_ms: u64,
}

/// The chain's owner as Redis has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its epoch.
    pub epoch: u64,
    /// Who it is.
    pub holder: Holder,
    /// Grows while the holder lives. A successor watches it stand still.
    pub heartbeat: u64,
    /// The holder gave the chain up; a successor need not wait.
    pub released: bool,
}

impl FastTier {
    /// Who holds the chain; `None` if nobody ever did, or Redis was emptied.
    ///
    /// # Errors
    /// Unavailable or corrupt.
    pub async fn owner(&self) -> Result<Option<Owner>, FastError> {
        let key = self.keys().owner();
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        let fields: HashMap<String, String> = self.ask_any_run("read the owner", &command).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let number = |name: &str| -> Result<u64, FastError> {
            text(name).parse().map_err(|_| FastError::Corrupt {
                key: format!("{key} {name}"),
                detail: format!("\"{}\" is not a number", text(name)),
            })
        };
        Ok(Some(Owner {
            epoch: number("epoch")?,
            holder: Holder {
                host: text("host").to_owned(),
                pid: u32::try_from(number("pid")?).unwrap_or_default(),
                since_ms: number("since_ms")?,
            },
            heartbeat: number("heartbeat")?,
            released: text("released") == "1",
        }))
    }

    /// Takes the chain, if its owner is still exactly as `seen`: same epoch, no heartbeat since. From its return on, all
    /// changes by earlier epochs are refused. Of several that try, one wins. Works while memory is full.
    ///
    /// # Errors
    /// Fenced: the owner is not as seen, or `new_epoch` is not above its epoch.
    pub async fn claim(
        &self,
        seen: Option<&Owner>,
        new_epoch: u64,
        holder: &Holder,
    ) -> Result<(), FastError> {
        let args = [
            seen.map(|owner| owner.epoch.to_string()).unwrap_or_default(),
            seen.map(|owner| owner.heartbeat.to_string()).unwrap_or_default(),
            new_epoch.to_string(),
            holder.host.clone(),
            holder.pid.to_string(),
            holder.since_ms.to_string(),
        ];
        self.call_as(new_epoch, "take the chain", Function::Claim, &args).await
    }

    /// Shows that the holder lives.
    ///
    /// # Errors
    /// Fenced: another holds the chain.
    pub async fn heartbeat(&self, epoch: u64) -> Result<(), FastError> {
        self.call_as(epoch, "show a heartbeat", Function::Heartbeat, &[epoch.to_string()]).await
    }

    /// Gives the chain up: this epoch can change nothing more, and a successor need not wait.
    ///
    /// # Errors
    /// Fenced: another holds the chain.
    pub async fn release(&self, epoch: u64) -> Result<(), FastError> {
        self.call_as(epoch, "release the chain", Function::Release, &[epoch.to_string()]).await
    }

    /// A function that needs no other keys than the fixed ones.
    pub(crate) async fn call_as(
        &self,
        epoch: u64,
        doing: &str,
        function: Function,
        args: &[String],
    ) -> Result<(), FastError> {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.clone().into_bytes()).collect();
        let assumed = Assumed { doing, epoch, seq: 0, tip: "" };
        self.call(assumed, function, &fixed_keys(self.keys()), &args).await
    }
}
