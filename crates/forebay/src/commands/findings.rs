//! What a check of a live server found, for machines and for people: the same for Redis and PostgreSQL.

use forebay_fast::conf::{Finding, Grade};
use serde_json::{Value, json};

/// For machines.
pub fn value_of(version: &str, findings: &[Finding], stops: bool) -> Value {
    json!({
        "ok": !stops,
        "version": version,
        "findings": findings.iter().map(|finding| json!({
            "stops": finding.grade == Grade::Stop, "subject": finding.subject, "expected": finding.expected,
            "found": finding.found, "risk": finding.risk, "remedy": finding.remedy,
        })).collect::<Vec<_>>(),
    })
}

/// For people.
pub fn lines(findings: &[Finding]) -> Vec<String> {
    let line = |finding: &Finding| {
        let Finding { subject, found, expected, risk, remedy, .. } = finding;
        let grade = if finding.grade == Grade::Stop { "STOP" } else { "warn" };
        format!(
            "{grade}  {subject} is {found}, not {expected}\n      risk: {risk}\n      what to do: {remedy}"
        )
    };
    findings.iter().map(line).collect()
}

/// The last line. `words`: what is said of a server that is not fit, and of one without any difference.
pub fn verdict(server: &str, stops: bool, differences: usize, [unfit, same]: [&str; 2]) -> String {
    match (stops, differences) {
        (true, _) => format!("{server}: {unfit}"),
        (false, 0) => format!("{server}: {same}"),
        (false, 1) => format!("{server}: fit, with 1 difference"),
        (false, more) => format!("{server}: fit, with {more} differences"),
    }
}
