//! A block's step, and a chunk of a restore: transactions that run only if a function let them through.
//!
//! A function that writes a whole block costs Redis three times what the writes alone do: each goes through Lua. So the
//! writes are plain commands between MULTI and EXEC, and the function only decides. All of it is sent at once:
//!
//! ```text
//! WATCH owner meta outbox   what the function looks at must not change before EXEC
//! SET pass                  \
//! FCALL guard               |  the function removes the pass if it finds nothing to refuse
//! WATCH pass                |
//! DEL pass                  /  a pass that is still there is changed here: EXEC does nothing
//! MULTI … EXEC              the writes and the outbox entry
//! ```
//!
//! So nothing is written unless the function ran and agreed: also not when it is missing, refused or broken. While memory
//! is full, the commands are refused when they are queued, and EXEC does nothing.
//!
//! A command of the transaction can fail only if a bucket is no hash any more: then another program destroyed it. The
//! caller is told that the chain is damaged and restores it.

use forebay_failpoint::reach;
use redis::{Pipeline, RedisError, Value};

use crate::connection::FastTier;
use crate::entry::OutboxEntry;
use crate::error::{Effect, FastError};
use crate::head::{Fence, tip_word};
use crate::keys::Buckets;
use crate::library::{Answer, Assumed, Function, is_missing};
use crate::plan::{Plan, fixed_keys};
use crate::working_set::{READ_ATTEMPTS_MAX, moved_on};

/// Place of the function's answer among those of the pipeline.
const GUARD_AT: usize = 2;

impl FastTier {
    /// Sends a block's plan with its outbox entry. `Ok(false)`: nothing was done, for a reason that a second try need not
    /// meet.
    pub(crate) async fn guarded(
        &self,
        doing: &str,
        fence: &Fence,
        entry: &OutboxEntry,
        buckets: &Buckets,
        plan: &Plan,
    ) -> Result<bool, FastError> {
        let tip = tip_word(fence.tip);
        let assumed = Assumed { doing, epoch: fence.epoch, seq: fence.seq, tip: &tip };
        let pipeline = self.pipeline(fence, &tip, entry, buckets, plan);
        reach("fast.before_step");
        let done = self.transact(assumed, &pipeline).await;
        reach("fast.after_step");
        done
    }

    /// Sends a chunk of a restore.
    pub(crate) async fn guarded_write(
        &self,
        doing: &str,
        epoch: u64,
        states: &str,
        plan: &Plan,
    ) -> Result<(), FastError> {
        let keys = self.keys();
        let (pass, fixed) = (keys.pass(epoch), fixed_keys(keys));
        let mut pipeline = Pipeline::with_capacity(plan.commands() + 8);
        pipeline.cmd("WATCH").arg(&fixed);
        pipeline.cmd("SET").arg(&pass).arg(1);
        pipeline.cmd("FCALL").arg(Function::GuardWrite.name()).arg(fixed.len() + 1).arg(&fixed).arg(&pass);
        pipeline.arg(epoch).arg(states);
        pipeline.cmd("WATCH").arg(&pass);
        pipeline.cmd("DEL").arg(&pass);
        pipeline.cmd("MULTI");
        plan.append_to(&mut pipeline);
        pipeline.cmd("EXEC");
        let assumed = Assumed { doing, epoch, seq: 0, tip: "" };
        for _ in 0..STEP_ATTEMPTS_MAX {
            if self.transact(assumed, &pipeline).await? {
                return Ok(());
            }
        }
        Err(moved_on(doing))
    }

    /// Sends a guarded transaction, and says what became of it.
    async fn transact(&self, assumed: Assumed<'_>, pipeline: &Pipeline) -> Result<bool, FastError> {
        let doing = assumed.doing;
        let answers = self.change(doing, pipeline).await?;
        let guard = answers.get(GUARD_AT).cloned().unwrap_or(Value::Nil);
        match answers.last() {
            Some(Value::Array(done)) => match done.iter().find_map(refused) {
                None => Ok(true),
                Some(error) => Err(FastError::Corrupt {
                    key: format!("{}a:… or t:…", self.keys().prefix()),
                    detail: format!("a bucket was replaced by another program: {error}"),
                }),
            },
            Some(Value::Nil) => match refused(&guard) {
                Some(error) if is_missing(&error) => {
                    self.load_library_again(doing).await?;
                    Ok(false)
                }
                Some(error) => Err(FastError::of_answer(doing, Effect::Change, error)),
                // The function agreed, but owner or meta changed since: it is asked again.
                None => Answer::of(doing, guard)?.accepted(assumed).map(|()| false),
            },
            // Refused when they were queued; the first refusal says why.
            Some(Value::ServerError(aborted)) => {
                let why = answers.iter().find_map(refused).unwrap_or_else(|| aborted.clone().into());
                Err(FastError::of_answer(doing, Effect::Change, why))
            }
            other => {
                Err(FastError::UnexpectedAnswer { doing: doing.to_owned(), detail: format!("{other:?}") })
            }
        }
    }

    fn pipeline(
        &self,
        fence: &Fence,
        tip: &str,
        entry: &OutboxEntry,
        buckets: &Buckets,
        plan: &Plan,
    ) -> Pipeline {
        let keys = self.keys();
        let (pass, fixed) = (keys.pass(fence.epoch), fixed_keys(keys));
        let (others, count_delta) = plan.checked_keys(|key| !keys.is_bucket(key));
        let mut pipeline = Pipeline::with_capacity(plan.commands() + 8);
        pipeline.cmd("WATCH").arg(&fixed);
        pipeline.cmd("SET").arg(&pass).arg(1);
        pipeline.cmd("FCALL").arg(Function::Guard.name()).arg(fixed.len() + 1 + others.len());
        pipeline.arg(&fixed).arg(&pass);
        others.iter().for_each(|(key, _)| {
            pipeline.arg(*key);
        });
        pipeline.arg(fence.epoch).arg(fence.seq).arg(tip).arg(buckets.accounts).arg(buckets.transactions);
        pipeline.arg(entry.position.to_string()).arg(count_delta);
        others.iter().for_each(|(_, kind)| {
            pipeline.arg(*kind);
        });
        pipeline.cmd("WATCH").arg(&pass);
        pipeline.cmd("DEL").arg(&pass);
        pipeline.cmd("MULTI");
        pipeline.cmd("XADD").arg(keys.outbox()).arg(entry.position.to_string());
        for (name, value) in entry.to_fields() {
            pipeline.arg(name).arg(value);
        }
        plan.append_to(&mut pipeline);
        pipeline.cmd("EXEC");
        pipeline
    }

    /// Whether this user may do what steps need: one that may not queue would write at once, unfenced.
    ///
    /// # Errors
    /// Misconfigured, unavailable.
    pub(crate) async fn check_transactions(&self) -> Result<(), FastError> {
        let doing = "find out whether transactions are allowed";
        let mut pipeline = redis::pipe();
        pipeline.cmd("WATCH").arg(self.keys().owner()).cmd("MULTI").cmd("EXEC");
        self.ask_all(doing, &pipeline).await.map(|_| ())
    }
}

/// The server's refusal, if the answer is one.
fn refused(answer: &Value) -> Option<RedisError> {
    match answer {
        Value::ServerError(error) => Some(error.clone().into()),
        _ => None,
    }
}

/// Tries again while a step is neither done nor refused.
pub(crate) fn gave_up(doing: &str) -> FastError {
    moved_on(doing)
}

/// How often a step is tried that is neither done nor refused.
pub(crate) const STEP_ATTEMPTS_MAX: u32 = READ_ATTEMPTS_MAX / 8;
