//! `forebay config`: the settings as they are in force, whether a node could start with them, and their schema. It starts
//! nothing, changes nothing, and shows no secret.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::args::{Common, ConfigAction};
use crate::chain::Chain;
use crate::config::schema::{Key, keys, schema};
use crate::config::secret::{HIDDEN, is_secret, shown};
use crate::config::{Layers, Problem, Settings};
use crate::exit::{Exit, Verdict};
use crate::home::Home;
use crate::logging;
use crate::output::{Output, error_value, print};

/// Whoever may read a password file besides its owner and group.
const OTHERS: u32 = 0o007;

/// Runs the command.
///
/// # Errors
/// Configuration: the file cannot be read. `show` wants settings without a problem.
pub fn run(common: &Common, action: ConfigAction, output: Output) -> anyhow::Result<i32> {
    match action {
        ConfigAction::Schema => print(&serde_json::to_string_pretty(&schema())?)?,
        ConfigAction::Show => {
            let layers = Settings::layers(common)?;
            layers.settings()?.check()?;
            show(&layers, output)?;
        }
        ConfigAction::Check => return check(common, output),
    }
    Ok(Exit::Success as i32)
}

/// A setting in force.
struct Shown {
    path: String,
    value: Option<Value>,
    origin: Option<String>,
}

fn show(layers: &Layers, output: Output) -> anyhow::Result<()> {
    let settings: Vec<Shown> = keys().into_iter().map(|key| in_force(key, layers)).collect();
    let values: Map<String, Value> = settings
        .iter()
        .map(|setting| {
            let origin = setting.origin.as_deref().unwrap_or("default");
            (setting.path.clone(), json!({ "value": setting.value, "origin": origin }))
        })
        .collect();
    output.result(&json!({ "settings": values }), || text_of(&settings))
}

fn in_force(key: Key, layers: &Layers) -> Shown {
    let Some((value, origin)) = layers.find(&key.path) else {
        return Shown { path: key.path, value: key.default, origin: None };
    };
    let value = match serde_json::to_value(value).unwrap_or_default() {
        Value::String(text) if key.is_number => text.parse::<u64>().map_or(Value::String(text), Value::from),
        Value::String(text) => Value::String(shown(&key.path, &text)),
        _ if is_secret(&key.path) => HIDDEN.into(),
        other => other,
    };
    Shown { path: key.path, value: Some(value), origin: Some(origin) }
}

/// TOML again, so that it can be the beginning of a file.
fn text_of(settings: &[Shown]) -> String {
    let mut lines = Vec::new();
    let mut section = "";
    for setting in settings {
        let (of, name) = setting.path.split_once('.').unwrap_or(("", &setting.path));
        if of != section {
            lines.push(format!("\n[{of}]"));
            section = of;
        }
        lines.push(match (&setting.value, &setting.origin) {
            (Some(value), Some(origin)) => format!("{name} = {value}  # {origin}"),
            (Some(value), None) => format!("#{name} = {value}"),
            (None, _) => format!("#{name} ="),
        });
    }
    lines.join("\n")
}

fn check(common: &Common, output: Output) -> anyhow::Result<i32> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    match Settings::layers(common).map(|layers| layers.extract()) {
        Err(error) => problems.push(told(&error)),
        Ok(Err(found)) => problems = found,
        Ok(Ok(settings)) => {
            look_at(&settings, &mut problems, &mut warnings);
            problems.extend(Home::new(settings).err().map(|error| told(&error)));
        }
    }
    let mut told_already = Vec::new();
    problems.retain(|problem| {
        !told_already.contains(problem) && {
            told_already.push(problem.clone());
            true
        }
    });
    let ok = problems.is_empty();
    let value = json!({ "ok": ok, "problems": problems, "warnings": warnings });
    output.result(&value, || {
        let line = |problem: &Problem| format!("wrong: {}\n       {}", problem.message, problem.remedy);
        let mut lines: Vec<String> = problems.iter().map(line).collect();
        lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
        lines.push(
            if ok { "The settings are good." } else { "A node does not start with these settings." }
                .to_owned(),
        );
        lines.join("\n")
    })?;
    Ok(if ok { Exit::Success } else { Exit::Configuration } as i32)
}

/// Everything that a start looks at before it does anything, by the same functions.
fn look_at(settings: &Settings, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) {
    problems.extend(settings.problems());
    problems.extend(logging::of_environment().err().map(|error| told(&error)));
    problems.extend(Chain::load(settings).err().map(|error| told(&error)));
    problems.extend(settings.api.tls().err().map(|error| told(&error)));
    problems.extend(settings.api.writes().err().map(|error| told(&error)));
    for (name, secret, file) in [
        ("redis_password_file", settings.redis_password(), settings.redis_password_file.as_deref()),
        (
            "postgres_writer_password_file",
            settings.writer_password(),
            settings.postgres_writer_password_file.as_deref(),
        ),
        (
            "postgres_reader_password_file",
            settings.reader_password(),
            settings.postgres_reader_password_file.as_deref(),
        ),
        (
            "postgres_admin_password_file",
            settings.admin_password(),
            settings.postgres_admin_password_file.as_deref(),
        ),
        ("api.write_token_file", Ok(None), settings.api.write_token_file()),
    ] {
        problems.extend(secret.err().map(|error| told(&error)));
        if file.is_some_and(is_open_to_others) {
            warnings.push(format!("{name}: every user of this machine may read the file; chmod o= it"));
        }
    }
    warnings.extend(of_no_use(settings));
}

/// Settings that say nothing to a node with these servers, or less than one may think.
fn of_no_use(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let is_yours = settings.redis_url.is_some();
    if is_yours && settings.redis_memory_bytes_max.is_some() {
        warnings.push(
            "redis_memory_bytes_max: nobody sets it on a Redis of yours. Set its maxmemory (`forebay redis-conf` writes it); \
             the memory plan counts on no more than either, and a start says where they differ"
                .to_owned(),
        );
    }
    if is_yours && settings.redis_server.is_some() {
        warnings.push("redis_server: of no use with redis_url, no Redis is started".to_owned());
    }
    if !is_yours && settings.api.postgres_url.is_some() {
        warnings.push(
            "api.postgres_url: of no use without postgres_url, the private PostgreSQL is asked".to_owned(),
        );
    }
    warnings
}

fn is_open_to_others(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & OTHERS != 0)
}

fn told(error: &anyhow::Error) -> Problem {
    let value = error_value(error);
    let message = value.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
    Problem { message: message.to_owned(), remedy: Verdict::of(error).remedy }
}
