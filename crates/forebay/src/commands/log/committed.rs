//! PostgreSQL's own log: one entry an operation, written by triggers in the transaction that did it.

use forebay_ledger::ids::Height;
use forebay_slow::{LoggedOperation, OperationFilter, OperationKind};
use serde::Serialize;

use super::{Wanted, range};
use crate::args::Logged;
use crate::commands::Context;
use crate::exit::Exit;
use crate::reads::{Answered, Look, Reads};

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    tier: Answered,
    /// The newest last.
    operations: Vec<Operation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    epoch: u64,
    seq: u64,
    /// The last operation of the same transaction.
    batch_seq: u64,
    operation: &'static str,
    from_height: Height,
    to_height: Height,
    first_id: String,
    last_id: String,
    blocks: u64,
    transactions: u64,
    attempt: u32,
    started_at: String,
    duration_ms: f64,
}

/// Shows the committed operations that are wanted.
pub async fn run(context: &Context, wanted: &Wanted) -> anyhow::Result<i32> {
    let found = context.read(Look::Slow, async |reads| find(reads, wanted).await).await?;
    let answer =
        Answer { tier: Answered::Slow, operations: found.into_iter().map(Operation::from).collect() };
    context.output.result(&answer, || text_of(&answer.operations))?;
    Ok(Exit::Success as i32)
}

async fn find(reads: &Reads, wanted: &Wanted) -> anyhow::Result<Vec<LoggedOperation>> {
    let filter = OperationFilter {
        from_seq: wanted.from_seq,
        to_seq: wanted.to_seq,
        height: wanted.height,
        since: wanted.since,
        kind: wanted.operation.map(|operation| match operation {
            Logged::Append => OperationKind::Append,
            Logged::TakeBack => OperationKind::TakeBack,
        }),
        limit: wanted.limit,
    };
    Ok(reads.slow().await?.reads().operations(filter).await?)
}

impl From<LoggedOperation> for Operation {
    fn from(logged: LoggedOperation) -> Self {
        Self {
            epoch: logged.epoch,
            seq: logged.seq,
            batch_seq: logged.batch_seq,
            operation: logged.kind.name(),
            from_height: logged.from_height,
            to_height: logged.to_height,
            first_id: logged.first_id.to_string(),
            last_id: logged.last_id.to_string(),
            blocks: logged.blocks,
            transactions: logged.transactions,
            attempt: logged.attempt,
            started_at: humantime::format_rfc3339_millis(logged.started_at).to_string(),
            duration_ms: logged.duration.as_secs_f64() * 1000.0,
        }
    }
}

fn text_of(operations: &[Operation]) -> String {
    if operations.is_empty() {
        return "no operation fits".to_owned();
    }
    let line = |cells: [String; 9]| {
        let [time, epoch, seq, operation, heights, id, transactions, attempt, duration] = cells;
        format!(
            "{time:24}  {epoch:>5}  {seq:>9}  {operation:9}  {heights:>15}  {id:>20}  {transactions:>4}  {attempt:>3}  {duration:>9}"
        )
    };
    let head =
        ["transaction began", "epoch", "seq", "operation", "heights", "last block", "txs", "try", "ms"];
    let mut lines = vec![line(head.map(str::to_owned))];
    lines.extend(operations.iter().map(|operation| {
        line([
            operation.started_at.clone(),
            operation.epoch.to_string(),
            operation.seq.to_string(),
            operation.operation.to_owned(),
            range(operation.from_height.into(), operation.to_height.into()),
            operation.last_id.clone(),
            operation.transactions.to_string(),
            operation.attempt.to_string(),
            format!("{:.1}", operation.duration_ms),
        ])
    }));
    lines.join("\n")
}
