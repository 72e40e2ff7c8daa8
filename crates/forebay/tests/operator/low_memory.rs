//! Too little memory: the operator is asked on a terminal, and refused without one. Nothing is loaded before.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::Place;
use crate::terminal::Terminal;

/// A limit that no plan fits into, and that the oracle's chain does.
const TOO_LITTLE: (&str, &str) = ("FOREBAY_REDIS_MEMORY_BYTES_MAX", "12000000");
/// Its exit code.
const LOW_MEMORY: i32 = 9;

fn place() -> Option<Place> {
    let place = Place::new()?;
    place.replay("first", &place.blocks()[1..20]);
    Some(place)
}

fn pop(place: &Place) -> Command {
    let mut command = place.command(&["pop"]);
    command.env(TOO_LITTLE.0, TOO_LITTLE.1);
    command
}

fn height(place: &Place) -> Value {
    place.run(&["status", "--json"]).with_code(0).json()["slow"]["height"].clone()
}

#[test]
fn without_a_terminal_a_start_is_refused_with_its_own_code_and_nothing_is_loaded() {
    let Some(place) = place() else { return };
    let output = pop(&place).arg("--json").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(LOW_MEMORY), "{stderr}");
    assert!(stderr.contains("nobody can be asked") && stderr.contains("--accept-low-memory"), "{stderr}");
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["kind"], "low-memory", "{error}");
    assert_eq!(height(&place), 20, "nothing was done");
    place.assert_no_server();
}

#[test]
fn accepted_on_the_command_line_it_starts() {
    let Some(place) = place() else { return };
    let output = pop(&place).arg("--accept-low-memory").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("starting all the same"), "{stderr}");
    assert_eq!(height(&place), 19);
}

#[test]
fn on_a_terminal_no_is_no() {
    let Some(place) = place() else { return };
    for answer in ["n", "", "what?"] {
        let mut terminal = Terminal::start(&mut pop(&place));
        terminal.until("[y/N]").line(answer);
        let (code, seen) = terminal.end();
        assert_eq!(code, Some(LOW_MEMORY), "{answer}: {seen}");
        assert!(seen.contains("transaction index") && seen.contains("at the limits"), "the figures: {seen}");
        assert!(seen.contains("Redis refuses blocks"), "what would happen: {seen}");
        assert!(seen.contains("you said no"), "{seen}");
    }
    assert_eq!(height(&place), 20, "nothing was done");
}

#[test]
fn on_a_terminal_yes_is_yes() {
    let Some(place) = place() else { return };
    for (answer, expected) in [("y", 19), ("YES", 18)] {
        let mut terminal = Terminal::start(&mut pop(&place));
        terminal.until("[y/N]").line(answer);
        let (code, seen) = terminal.end();
        assert_eq!(code, Some(0), "{answer}: {seen}");
        assert_eq!(height(&place), expected);
    }
}

/// The same command in a control group of so many bytes, as far as it can see; `None` where we may not mount.
fn in_group(place: &Place, name: &str, bytes: u64, command: &Command) -> Option<Command> {
    let group = place.path(name);
    std::fs::create_dir_all(group.join("memory")).unwrap();
    for (file, content) in [
        ("memory.max", bytes),
        ("memory.current", 0),
        ("memory/memory.limit_in_bytes", bytes),
        ("memory/memory.usage_in_bytes", 0),
    ] {
        std::fs::write(group.join(file), content.to_string()).unwrap();
    }
    let mount = format!("mount --bind {} /sys/fs/cgroup", group.display());
    let may = Command::new("unshare").args(["-m", "sh", "-c", &mount]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED a small control group: only root may mount a picture of one");
        return None;
    }
    let mut inside = Command::new("unshare");
    inside.args(["-m", "sh", "-c", &format!("{mount} && exec \"$@\""), "sh"]).arg(command.get_program());
    inside.args(command.get_args()).stdin(std::process::Stdio::null());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(variable, value),
            None => inside.env_remove(variable),
        };
    }
    Some(inside)
}

#[test]
fn in_a_small_control_group_it_starts_when_that_is_accepted_and_is_refused_when_the_chain_cannot_fit() {
    let Some(place) = place() else { return };
    let mut pop = place.command(&["pop", "--accept-low-memory"]);
    let Some(mut small) = in_group(&place, "small", 200 << 20, &pop) else { return };
    let output = small.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("starting all the same") && stderr.contains("control group"), "{stderr}");
    assert_eq!(height(&place), 19);

    let output = in_group(&place, "tiny", 1 << 20, &pop).unwrap().output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(LOW_MEMORY), "{stderr}");
    assert!(stderr.contains("not even --accept-low-memory"), "{stderr}");
    assert!(stderr.contains("set redis_memory_bytes_max"), "{stderr}");
    place.assert_no_server();
    assert_eq!(height(&place), 19, "nothing was done");

    // The operator knows better.
    pop.env("FOREBAY_REDIS_MEMORY_BYTES_MAX", "60000000");
    let output = in_group(&place, "tiny", 1 << 20, &pop).unwrap().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(height(&place), 18);
}

#[test]
fn a_limit_that_the_chain_does_not_fit_in_ends_with_the_same_code() {
    let Some(place) = place() else { return };
    let mut pop = place.command(&["pop", "--accept-low-memory"]);
    pop.env("FOREBAY_REDIS_MEMORY_BYTES_MAX", "1000000");
    let output = pop.output().unwrap();
    assert_eq!(output.status.code(), Some(LOW_MEMORY), "{}", String::from_utf8_lossy(&output.stderr));
    place.assert_no_server();
}

#[test]
fn a_signal_ends_the_question() {
    let Some(place) = place() else { return };
    let mut terminal = Terminal::start(&mut pop(&place));
    terminal.until("[y/N]").signal(Signal::TERM);
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(143), "{seen}");
    place.assert_no_server();
    assert_eq!(height(&place), 20, "nothing was done");
}

#[test]
fn with_enough_nobody_is_asked() {
    let Some(place) = place() else { return };
    let (code, seen) = Terminal::start(&mut place.command(&["pop"])).end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(!seen.contains("[y/N]"), "{seen}");
}

#[test]
fn servers_of_yours_are_asked_for_their_own_limit() {
    use forebay_servers::testing::{TestOptions, TestServers};
    let Some(place) = Place::new() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = TestOptions {
        redis_extra: vec![("maxmemory".to_owned(), "20mb".to_owned())],
        ..TestOptions::default()
    };
    let servers = runtime.block_on(TestServers::with(options)).unwrap();
    let postgres = servers.postgres().connection_string(forebay_servers::SUPERUSER).unwrap();
    let redis = servers.redis().redis_url();
    let arguments = [
        "replay",
        "-",
        "--redis-url",
        &redis,
        "--postgres-url",
        &postgres,
        "--postgres-admin-url",
        &postgres,
    ];
    let refused = place.run_here(&arguments).with_code(LOW_MEMORY);
    assert!(refused.stderr.contains("maxmemory"), "{}", refused.stderr);
    let mut connection = redis::Client::open(redis.as_str()).unwrap().get_connection().unwrap();
    let keys: u64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
    assert_eq!(keys, 0, "nothing was loaded");
}
