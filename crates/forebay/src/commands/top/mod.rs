//! `forebay top`: a running node, live. It asks no server: what the node says of itself is in its report, several times a
//! second, during a start too.

mod draw;
mod samples;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::draw::draw;
use self::samples::{Look, Samples};
use super::Context;
use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::home::Home;
use crate::node_report::NodeReport;

/// Between two looks at the node's report: as often as it is written.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs the command until somebody quits.
pub async fn run(context: &Context) -> anyhow::Result<i32> {
    if context.output.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(no_terminal().into());
    }
    let chain = Chain::load(&context.home.settings)?;
    let title = Title {
        network: chain.profile.name.clone(),
        data_dir: context.home.data_dir().display().to_string(),
    };
    let asked_to_end = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn({
        let (signals, asked) = (context.signals.clone(), Arc::clone(&asked_to_end));
        async move {
            signals.asked().await;
            asked.store(true, Ordering::Relaxed);
        }
    });
    // The keyboard is waited for without async: the runtime has other threads.
    let outcome = tokio::task::block_in_place(|| show(&context.home, &title, &asked_to_end));
    watching.abort();
    outcome?;
    Ok(Exit::Success as i32)
}

/// What does not change.
struct Title {
    network: String,
    data_dir: String,
}

fn no_terminal() -> Told {
    Told::refused(
        "no-terminal",
        "forebay top shows a live view, and needs a terminal for it (stdin and stdout), without --json",
        "For programs: `forebay status --json`, or /metrics of `forebay run --metrics-listen`.",
    )
}

/// The terminal is as it was when this returns, whatever happened.
fn show(home: &Home, title: &Title, asked_to_end: &AtomicBool) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init().context("preparing the terminal")?;
    let outcome = (|| {
        let mut samples = Samples::default();
        while !asked_to_end.load(Ordering::Relaxed) {
            samples.add(look(home)?);
            terminal.draw(|frame| draw(frame, title, &samples)).context("drawing")?;
            if is_quit_asked()? {
                break;
            }
        }
        anyhow::Ok(())
    })();
    ratatui::try_restore().context("giving the terminal back")?;
    outcome
}

fn look(home: &Home) -> anyhow::Result<Look> {
    let holder = home.holder()?;
    let report = holder.as_ref().and_then(|by| NodeReport::read(home.data_dir(), by.pid));
    Ok(Look { at: Instant::now(), holder, report })
}

/// Waits for a key until the next look is due.
fn is_quit_asked() -> anyhow::Result<bool> {
    let until = Instant::now() + LOOK_EVERY;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !event::poll(left).context("waiting for a key")? {
            return Ok(false);
        }
        match event::read().context("reading a key")? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let is_ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q' | 'Q') | KeyCode::Esc => return Ok(true),
                    KeyCode::Char('c') if is_ctrl => return Ok(true),
                    _ => {}
                }
            }
            // Drawn anew at once.
            Event::Resize(..) => return Ok(false),
            _ => {}
        }
    }
}
