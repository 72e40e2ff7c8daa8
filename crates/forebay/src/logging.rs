//! Log lines: always on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::{Command, Common, LogFormat};
use crate::config::Settings;
use crate::exit::Told;
use crate::screen::{LogWriter, Screen};

/// Our crates; others speak from `warn` on.
const CRATES: [&str; 7] = [
    "forebay",
    "forebay_api",
    "forebay_store",
    "forebay_fast",
    "forebay_slow",
    "forebay_servers",
    "forebay_generator",
];

/// Starts the log. RUST_LOG, then the setting `log`, then `-v` and `-q` say what is in it.
///
/// # Errors
/// A filter that cannot be read.
pub fn start(common: &Common, settings: &Settings, command: &Command, screen: &Screen) -> anyhow::Result<()> {
    let wanted = match of_environment()? {
        Some(wanted) => wanted,
        None => {
            let text = settings.log.clone().unwrap_or_else(|| usual(common, command));
            filter(&text).map_err(|error| Told::configuration(error, REMEDY))?
        }
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(wanted)
        .with_writer(LogWriter(screen.clone()))
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let is_json = match settings.log_format {
        LogFormat::Text => false,
        LogFormat::Json => true,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    // What a node that stays up says beside its log is read by the same programs.
    if is_json && matches!(command, Command::Run(_)) {
        screen.speak_json();
    }
    // A second start in one process cannot happen; it would change nothing.
    let _ = match is_json {
        false => builder.with_target(false).try_init(),
        true => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
    Ok(())
}

/// What to do about a filter that cannot be read.
pub const REMEDY: &str = "Give for example \"info\", or \"warn,forebay_store=debug\".";

/// What a text lets through.
///
/// # Errors
/// It is no filter.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|error| format!("the log filter \"{text}\": {error}"))
}

/// The filter of RUST_LOG, if that is set.
///
/// # Errors
/// Configuration: it is no filter.
pub fn of_environment() -> anyhow::Result<Option<EnvFilter>> {
    let given = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = given.map(|text| filter(&text)).transpose();
    filter.map_err(|error| Told::configuration(format!("RUST_LOG: {error}"), REMEDY).into())
}

fn usual(common: &Common, command: &Command) -> String {
    let level = match (common.quiet, common.verbose) {
        (true, _) => "error",
        // A node that stays up is read by its log; short commands speak for themselves.
        (false, 0) if matches!(command, Command::Run(_) | Command::Api(_)) => "info",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => return "trace".to_owned(),
    };
    let mut ours: Vec<String> = CRATES.iter().map(|name| format!("{name}={level}")).collect();
    if level == "warn" && matches!(command, Command::Bench(_)) {
        // It holds PostgreSQL still with a lock, so some attempts fail as they should, between its results.
        ours.push("forebay_store::syncer=error".to_owned());
    }
    // The pool of sessions warns of each that PostgreSQL ends, at every stop; who asks for one hears what is wrong.
    ours.push("deadpool=error".to_owned());
    let others = if common.quiet { "error" } else { "warn" };
    format!("{others},{}", ours.join(","))
}
