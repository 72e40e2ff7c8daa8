//! An attempt as one line of JSON.

use forebay_slow::SlowOperation;
use serde_json::{Value, json};

use super::{AttemptOutcome, Failure, LoggedAttempt, LoggedTip};

pub(super) fn line(attempt: &LoggedAttempt<'_>) -> String {
    let mut line = json!({
        "startedAt": humantime::format_rfc3339_millis(attempt.started_at).to_string(),
        "epoch": attempt.epoch,
        "fromSeq": attempt.expected_seq + 1,
        "toSeq": attempt.expected_seq + attempt.operations.len() as u64,
        "operations": runs(attempt.expected_seq, attempt.operations, attempt.tips),
        "attempt": attempt.attempt,
        "durationMs": attempt.duration.as_micros() as f64 / 1000.0,
    });
    let more = match &attempt.outcome {
        AttemptOutcome::Ok(committed) => json!({
            "outcome": "ok",
            "blocksInserted": committed.blocks_inserted,
            "transactionsInserted": committed.transactions_inserted,
            "blocksDeleted": committed.blocks_deleted,
        }),
        AttemptOutcome::Retry(failure) => failed("retry", failure),
        AttemptOutcome::Failed(failure) => failed("failed", failure),
    };
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    line.to_string()
}

fn failed(outcome: &str, failure: &Failure) -> Value {
    json!({
        "outcome": outcome, "kind": failure.kind, "sqlstate": failure.sqlstate, "message": failure.message
    })
}

/// Blocks added one after the other are one entry; each take-back is one.
fn runs(expected_seq: u64, operations: &[SlowOperation], tips: &[LoggedTip]) -> Vec<Value> {
    let mut runs: Vec<Value> = Vec::new();
    let (mut rest, mut tips) = (operations, tips);
    let mut seq = expected_seq;
    while let Some(first) = rest.first() {
        let length = match first {
            SlowOperation::TakeBack { to_height } => {
                let (height, id) = tips.first().copied().unwrap_or_default();
                let last_id = id.map(|id| id.to_string());
                let blocks = height.saturating_sub(*to_height);
                runs.push(json!({
                    "operation": "take-back",
                    "fromSeq": seq + 1,
                    "toSeq": seq + 1,
                    "fromHeight": to_height + 1,
                    "toHeight": height,
                    "firstId": last_id.as_ref().filter(|_| blocks == 1),
                    "lastId": last_id,
                    "blocks": blocks,
                }));
                1
            }
            SlowOperation::Append(first) => {
                let appended = || {
                    rest.iter().map_while(|operation| match operation {
                        SlowOperation::Append(row) => Some(&row.block),
                        SlowOperation::TakeBack { .. } => None,
                    })
                };
                let last = appended().last().unwrap_or(&first.block);
                let length = appended().count();
                runs.push(json!({
                    "operation": "append",
                    "fromSeq": seq + 1,
                    "toSeq": seq + length as u64,
                    "fromHeight": first.block.height,
                    "toHeight": last.height,
                    "firstId": first.block.id.to_string(),
                    "lastId": last.id.to_string(),
                    "blocks": length,
                    "transactions": appended().map(|block| block.transactions.len()).sum::<usize>(),
                }));
                length
            }
        };
        seq += length as u64;
        rest = rest.get(length..).unwrap_or_default();
        tips = tips.get(length..).unwrap_or_default();
    }
    runs
}
