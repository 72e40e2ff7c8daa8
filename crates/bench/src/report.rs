//! The report: a table for people, JSON for machines, a page with charts.

use serde::Serialize;

use crate::machine::Machine;
use crate::options::BenchOptions;
use crate::row::Row;

/// What was measured, on what, and how.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The machine and the versions.
    pub machine: Machine,
    /// What was asked for.
    pub options: BenchOptions,
    /// The figures.
    pub results: Vec<Row>,
}

/// A row in one line.
pub(crate) fn line(row: &Row) -> String {
    let size = row.block_size.map_or(String::new(), |size| format!(" x{size}"));
    let mut text = format!(
        "  {} {}{size} of {} {}: {} {}",
        row.what,
        row.load,
        row.accounts,
        row.profile,
        number(row.figure),
        row.unit
    );
    if let (Some(control), Some(figure), Some(ratio)) = (row.control, row.control_figure, row.ratio) {
        text.push_str(&format!("; {control}: {}; ratio {ratio:.2}", number(figure)));
    }
    text
}

/// Enough digits to compare, no more.
fn number(value: f64) -> String {
    if value >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut text = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        text
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}
