//! How `forebay top` looks. Pure: from what was seen to a screen.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline, Wrap};

use super::Title;
use super::samples::{Look, Samples};
use crate::node_report::{NodeReport, Tips, unix_ms};

/// Below that nothing can be read.
const WIDTH_MIN: u16 = 60;
/// See `WIDTH_MIN`.
const HEIGHT_MIN: u16 = 20;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, title: &Title, samples: &Samples) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!("The terminal is too small: {WIDTH_MIN} by {HEIGHT_MIN} at least.\nq quits");
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let rows = [Constraint::Length(1), Constraint::Min(0)];
    let [head, body] = Layout::vertical(rows).areas(area);
    let Some(look) = samples.newest() else { return };
    header(frame, head, title, look);
    match (&look.holder, &look.report) {
        (_, Some(report)) => node(frame, body, report, samples),
        (Some(holder), None) => message(frame, body, &format!("{holder}\n\nIt says nothing of itself yet.")),
        (None, None) => message(
            frame,
            body,
            &format!(
                "No node is running on {}. This waits for one.\n\n`forebay run` starts it.",
                title.data_dir
            ),
        ),
    }
}

fn message(frame: &mut Frame<'_>, area: Rect, text: &str) {
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(Block::bordered()), area);
}

fn header(frame: &mut Frame<'_>, area: Rect, title: &Title, look: &Look) {
    let phase = look.report.as_ref().map_or("stopped", |report| report.phase.as_str());
    let phase = if look.holder.is_some() && look.report.is_none() { "starting" } else { phase };
    let color = match phase {
        "ready" => Color::Green,
        "stopped" => Color::Red,
        _ => Color::Yellow,
    };
    let mut spans = vec![
        Span::styled("forebay top  ", bold()),
        Span::raw(format!("{}  ", title.network)),
        Span::styled(phase.to_owned(), colored(color).add_modifier(Modifier::BOLD)),
    ];
    if let Some(holder) = &look.holder {
        let up = Duration::from_millis(unix_ms().saturating_sub(holder.since_unix_ms)).as_secs();
        let epoch = look.report.as_ref().and_then(|report| report.tips.as_ref()).map(|tips| tips.epoch);
        let epoch = epoch.map(|epoch| format!("epoch {epoch}  ")).unwrap_or_default();
        spans.push(Span::raw(format!("  {epoch}process {}  up {}", holder.pid, short(up))));
    }
    if let Some(silent_s) = look.report.as_ref().and_then(NodeReport::silent_for_s) {
        spans.push(Span::styled(format!("  silent for {silent_s} s"), colored(Color::Red)));
    }
    let quit = "q quits";
    let columns = [Constraint::Min(0), Constraint::Length(8)];
    let [left, right] = Layout::horizontal(columns).areas(area);
    frame.render_widget(Paragraph::new(Line::from(spans)), left);
    frame.render_widget(Paragraph::new(quit).right_aligned(), right);
}

fn node(frame: &mut Frame<'_>, area: Rect, report: &NodeReport, samples: &Samples) {
    let rows = [Constraint::Length(5), Constraint::Min(5), Constraint::Length(4), Constraint::Length(5)];
    let [top, lag_area, memory_area, trouble_area] = Layout::vertical(rows).areas(area);
    match &report.tips {
        Some(tips) => {
            let columns = [Constraint::Fill(1), Constraint::Length(34)];
            let [left, right] = Layout::horizontal(columns).areas(top);
            tips_of(frame, left, tips);
            speed(frame, right, samples);
        }
        None => start(frame, top, report),
    }
    lag(frame, lag_area, report, samples);
    memory(frame, memory_area, report);
    trouble(frame, trouble_area, report, samples);
}

fn tips_of(frame: &mut Frame<'_>, area: Rect, tips: &Tips) {
    let line = |tier: &str, height: u32, id: &Option<String>| {
        let id = id.as_deref().unwrap_or("none");
        Line::from(vec![
            Span::raw(format!("{tier:<11}")),
            Span::styled(format!("{:>11}", HumanCount(height.into()).to_string()), bold()),
            Span::raw(format!("  {id:>20}")),
        ])
    };
    let behind = i64::from(tips.accepted_height) - i64::from(tips.durable_height);
    let text = vec![
        line("Redis", tips.accepted_height, &tips.accepted_id),
        line("PostgreSQL", tips.durable_height, &tips.durable_id),
        Line::from(match behind {
            0 => format!("PostgreSQL has the tip; operation {}", tips.accepted_seq),
            1 => format!("1 block behind; operation {} of {}", tips.durable_seq, tips.accepted_seq),
            _ => format!("{behind} blocks behind; operation {} of {}", tips.durable_seq, tips.accepted_seq),
        }),
    ];
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" Tips ")), area);
}

fn speed(frame: &mut Frame<'_>, area: Rect, samples: &Samples) {
    let text = match samples.rates() {
        None => vec![Line::from("measuring …")],
        Some(rates) => vec![
            Line::from(format!("{:<9}{:>10}{:>12}", "", "blocks/s", "tx/s")),
            Line::from(format!(
                "{:<9}{:>10.1}{:>12.1}",
                "accepted", rates.blocks_accepted, rates.transactions_accepted
            )),
            Line::from(format!(
                "{:<9}{:>10.1}{:>12.1}",
                "durable", rates.blocks_durable, rates.transactions_durable
            )),
        ],
    };
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" Speed ")), area);
}

fn start(frame: &mut Frame<'_>, area: Rect, report: &NodeReport) {
    let block = Block::bordered().title(format!(" Start: {} ", report.phase));
    match (report.phase_done, report.phase_total) {
        (Some(done), Some(total)) if total > 0 => {
            let label = format!("{} of {}", HumanCount(done), HumanCount(total));
            let gauge = Gauge::default().block(block).ratio(ratio(done, total)).label(label);
            frame.render_widget(gauge.gauge_style(colored(Color::Blue)), area);
        }
        _ => frame.render_widget(Paragraph::new("under way").block(block), area),
    }
}

fn lag(frame: &mut Frame<'_>, area: Rect, report: &NodeReport, samples: &Samples) {
    let limits = &report.limits;
    let close = ratio(report.lag_operations, limits.lag_operations_max)
        .max(ratio(report.lag_bytes, limits.lag_bytes_max))
        .max(ratio(report.no_progress_seconds, limits.no_progress_seconds_max));
    let block = Block::bordered().title(" Lag of PostgreSQL ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let rows = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(1)];
    let [first, second, rest] = Layout::vertical(rows).areas(inner);
    let figures = format!(
        "{} of {} operations   {} of {}   {} s{}",
        HumanCount(report.lag_operations),
        HumanCount(limits.lag_operations_max),
        HumanBytes(report.lag_bytes),
        HumanBytes(limits.lag_bytes_max),
        report.lag_seconds,
        match report.no_progress_seconds {
            0 => String::new(),
            seconds => format!("   no progress for {seconds} of {} s", limits.no_progress_seconds_max),
        },
    );
    frame.render_widget(Paragraph::new(figures).style(colored(alarm(close))), first);
    let pace = match report.pace.as_str() {
        "slowed" => format!("; writer slowed by {} ms a block", report.pause_ms),
        "waiting" => "; writer waits at the limit".to_owned(),
        _ => String::new(),
    };
    let durable = match (report.durable_p50_ms, report.durable_p99_ms) {
        (Some(p50), Some(p99)) => format!("durable {p50} ms after accepted, 99 of 100 within {p99} ms{pace}"),
        _ => format!("nothing became durable yet{pace}"),
    };
    frame.render_widget(Paragraph::new(durable), second);
    let bars = samples.lag(usize::from(rest.width));
    let caption = format!(
        "operations, last {} s, highest {}",
        bars.len(),
        HumanCount(bars.iter().copied().max().unwrap_or_default())
    );
    let [graph, below] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(rest);
    frame.render_widget(Sparkline::default().data(&bars).style(colored(Color::Cyan)), graph);
    frame.render_widget(Paragraph::new(caption).style(Style::new().add_modifier(Modifier::DIM)), below);
}

fn memory(frame: &mut Frame<'_>, area: Rect, report: &NodeReport) {
    let block = Block::bordered().title(" Redis memory ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [bar, line] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(inner);
    let (used, planned, max) =
        (report.memory_used_bytes, report.memory_planned_bytes, report.memory_max_bytes);
    // Without maxmemory the plan is what there is to compare with.
    let full = ratio(used, if max > 0 { max } else { planned });
    let whole = if max > 0 { "maxmemory" } else { "the plan" };
    let label = format!("{:.1}% of {whole}", full * 100.0);
    let gauge = Gauge::default().ratio(full).label(label).gauge_style(colored(match report.memory_slowed {
        true => Color::Red,
        false => alarm(full),
    }));
    frame.render_widget(gauge, bar);
    let of_plan = match planned {
        0 => "no plan".to_owned(),
        planned => format!("{} planned after the load", HumanBytes(planned)),
    };
    let of_max = match max {
        0 => "no maxmemory".to_owned(),
        max => format!("{} at most", HumanBytes(max)),
    };
    let slowed = if report.memory_slowed { ": filling up, writer slowed" } else { "" };
    let text = format!("{} used, {of_plan}, {of_max}{slowed}", HumanBytes(used));
    frame.render_widget(Paragraph::new(text), line);
}

fn trouble(frame: &mut Frame<'_>, area: Rect, report: &NodeReport, samples: &Samples) {
    let counts = &report.counts;
    let retries = match &report.tips {
        None => format!("retries of this start: {}", report.retries),
        Some(_) => format!(
            "retries: Redis {}, PostgreSQL {}; restores: {}; taken back: {}; refused: {}",
            HumanCount(counts.redis_failures),
            HumanCount(counts.postgres_failures),
            HumanCount(counts.redis_restores),
            HumanCount(counts.blocks_taken_back),
            HumanCount(counts.requests_refused),
        ),
    };
    let (color, last) = match (&report.last_error, samples.last_error()) {
        (Some(error), _) => (Color::Red, format!("now: {error}")),
        (None, Some((at, error))) => {
            (Color::Reset, format!("last error, {} ago: {error}", short(at.elapsed().as_secs())))
        }
        (None, None) => (Color::Reset, "no error seen".to_owned()),
    };
    let text = vec![Line::from(retries), Line::styled(last, colored(color))];
    let block = Block::bordered().title(" Trouble ");
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(block), area);
}

fn alarm(close: f64) -> Color {
    match close {
        close if close >= 0.9 => Color::Red,
        close if close >= 0.75 => Color::Yellow,
        _ => Color::Green,
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn colored(color: Color) -> Style {
    if std::env::var_os("NO_COLOR").is_some() { Style::new() } else { Style::new().fg(color) }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).clamp(0.0, 1.0) }
}

/// `42 s`, `12 min`, `3 h 5 min`.
fn short(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use forebay_servers::HeldBy;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::node_report::{CountsReport, LimitsReport};

    fn shown(width: u16, height: u16, looks: Vec<Look>) -> String {
        let mut samples = Samples::default();
        looks.into_iter().for_each(|look| samples.add(look));
        let title = Title { network: "rise-devnet".to_owned(), data_dir: "/data".to_owned() };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &title, &samples)).unwrap();
        terminal.backend().to_string()
    }

    fn running(at: Instant, blocks: u64) -> Look {
        let report = NodeReport {
            pid: 7,
            phase: "ready".to_owned(),
            written_unix_ms: unix_ms(),
            lag_operations: 5,
            lag_bytes: 2048,
            lag_seconds: 3,
            pace: "slowed".to_owned(),
            pause_ms: 40,
            memory_used_bytes: 64 << 20,
            memory_planned_bytes: 50 << 20,
            memory_max_bytes: 128 << 20,
            last_error: Some("connection refused".to_owned()),
            tips: Some(Tips {
                epoch: 4,
                accepted_height: 1_205,
                durable_height: 1_200,
                accepted_seq: 1_205,
                durable_seq: 1_200,
                accepted_id: Some(u64::MAX.to_string()),
                ..Tips::default()
            }),
            counts: CountsReport {
                blocks_accepted: blocks,
                transactions_accepted: blocks * 25,
                postgres_failures: 6,
                ..CountsReport::default()
            },
            limits: LimitsReport {
                lag_operations_max: 1_000,
                lag_bytes_max: 256 << 20,
                no_progress_seconds_max: 600,
                durable_within_ms: 1_000,
            },
            ..NodeReport::default()
        };
        let holder = HeldBy { pid: 7, since_unix_ms: unix_ms(), command: "forebay run".to_owned() };
        Look { at, holder: Some(holder), report: Some(report) }
    }

    #[test]
    fn everything_that_matters_is_on_a_small_terminal() {
        let start = Instant::now();
        let screen = shown(80, 24, vec![running(start, 0), running(start + Duration::from_secs(2), 20)]);
        for text in [
            "rise-devnet  ready  epoch 4  process 7",
            "q quits",
            "1,205  18446744073709551615│",
            "5 blocks behind; operation 1200 of 1205",
            "10.0",
            "250.0",
            "5 of 1,000 operations   2.00 KiB of 256.00 MiB   3 s",
            "writer slowed by 40 ms a block",
            "█",
            "64.00 MiB used, 50.00 MiB planned after the load, 128.00 MiB at most",
            "retries: Redis 0, PostgreSQL 6",
            "now: connection refused",
        ] {
            assert!(screen.contains(text), "\"{text}\" is not in\n{screen}");
        }
    }

    #[test]
    fn a_start_shows_its_phase_and_how_far_it_is() {
        let start = Instant::now();
        let mut look = running(start, 0);
        look.report = Some(NodeReport {
            phase: "restore".to_owned(),
            phase_done: Some(500),
            phase_total: Some(2_000),
            written_unix_ms: unix_ms(),
            ..NodeReport::default()
        });
        let screen = shown(80, 24, vec![look]);
        assert!(screen.contains("Start: restore") && screen.contains("500 of 2,000"), "{screen}");
    }

    #[test]
    fn without_a_node_or_without_room_it_says_so() {
        let nobody = || Look { at: Instant::now(), holder: None, report: None };
        assert!(shown(80, 24, vec![nobody()]).contains("No node is running on /data"));
        assert!(shown(40, 10, vec![nobody()]).contains("too small"));
    }
}
