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

impl Report {
    /// The page: facts, one chart a part, the table. One file, nothing is loaded from elsewhere.
    #[must_use]
    pub fn html(&self) -> String {
        let machine = &self.machine;
        let facts = format!(
            "{}, {} cores, {:.1} GiB, Linux {}, load {:.1} at the start &middot; forebay {}{} &middot; Redis {} &middot; PostgreSQL {} \
             &middot; fdatasync of 4 KiB {:.0} \u{b5}s",
            escaped(&machine.processor),
            machine.cores,
            crate::row::figure(machine.memory_bytes) / f64::from(1 << 30),
            escaped(&machine.kernel),
            machine.load_average,
            machine.forebay,
            if machine.optimised { "" } else { " (not optimised)" },
            escaped(&machine.redis),
            escaped(&machine.postgres),
            machine.fdatasync_us
        );
        let mut parts: Vec<&'static str> = self.results.iter().map(|row| row.part).collect();
        parts.dedup();
        let sections: String = parts.into_iter().map(|part| self.section(part)).collect();
        let options = serde_json::to_string(&self.options).unwrap_or_default();
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Forebay benchmark</title><style>{STYLE}</style>\
             <h1>Forebay benchmark</h1><p>{facts}</p>{sections}<h2>Options</h2><p><code>{}</code></p></html>",
            escaped(&options)
        )
    }

    fn section(&self, part: &str) -> String {
        let rows: Vec<&Row> = self.results.iter().filter(|row| row.part == part).collect();
        let lines: String = rows.iter().map(|row| table_line(row)).collect();
        format!(
            "<h2>{part}</h2>{}<table><tr><th>what<th>load<th>a block<th>accounts<th>profile<th>Forebay<th>control<th>ratio<th>\
             control arm</tr>{lines}</table>",
            chart(&rows)
        )
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#222}\
     table{border-collapse:collapse;width:100%}td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left}\
     td.n{text-align:right;white-space:nowrap}svg{width:100%;height:auto}code{word-break:break-all}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn table_line(row: &Row) -> String {
    let control = row.control_figure.map(|figure| format!("{} {}", number(figure), row.unit));
    format!(
        "<tr><td>{}<td>{}<td class=n>{}<td class=n>{}<td>{}<td class=n>{} {}<td class=n>{}<td class=n>{}<td>{}</tr>",
        escaped(&row.what),
        row.load,
        row.block_size.map(|size| size.to_string()).unwrap_or_default(),
        row.accounts,
        row.profile,
        number(row.figure),
        row.unit,
        control.unwrap_or_default(),
        row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        escaped(row.control.unwrap_or_default())
    )
}

/// A pair of bars a row: ours and the control's, each row on a scale of its own, since units differ. What grows is on one
/// scale, to be seen growing.
fn chart(rows: &[&Row]) -> String {
    const LINE: usize = 34;
    let bars: String = rows
        .iter()
        .enumerate()
        .map(|(place, row)| {
            let alike = |other: &&&Row| row.part == "growth" && other.unit == row.unit;
            let largest = |row: &Row| row.control_figure.unwrap_or(0.0).max(row.figure);
            let most = rows.iter().filter(alike).map(|other| largest(other)).fold(largest(row), f64::max);
            let most = most.max(f64::MIN_POSITIVE);
            let (y, ours) = (place * LINE + 4, 420.0 * row.figure / most);
            let size = row.block_size.map(|size| format!(" x{size}")).unwrap_or_default();
            let label = format!("{}, {}{size}, {}", row.what, row.load, row.profile);
            let control = row.control_figure.map_or(String::new(), |figure| {
                let width = 420.0 * figure / most;
                format!(
                    "<rect x=\"430\" y=\"{}\" width=\"{width:.1}\" height=\"11\" fill=\"#bbb\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
                    y + 13,
                    436.0 + width,
                    y + 23,
                    number(figure)
                )
            });
            format!(
                "<text x=\"424\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"430\" y=\"{y}\" width=\"{ours:.1}\" height=\"11\" \
                 fill=\"#1769aa\"/><text x=\"{:.1}\" y=\"{}\">{} {}</text>{control}",
                y + 14,
                escaped(&label),
                436.0 + ours,
                y + 10,
                number(row.figure),
                row.unit
            )
        })
        .collect();
    let height = rows.len() * LINE + 8;
    format!(
        "<svg viewBox=\"0 0 1000 {height}\" font-size=\"11\" font-family=\"system-ui,sans-serif\" role=\"img\">{bars}</svg>\
         <p>Blue: Forebay. Grey: the control arm of the same run. Each row has a scale of its own; what grows has one.</p>"
    )
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
        text.push_str(&format!("; {control}: {} {}; ratio {ratio:.2}", number(figure), row.unit));
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
