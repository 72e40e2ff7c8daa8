//! Progress on a terminal of 80 columns: no line wraps, no rate has more digits than anybody reads.

use std::path::PathBuf;

use crate::support::Place;
use crate::terminal::{COLUMNS, Terminal, drawn};

#[test]
fn bars_fit_the_terminal_and_their_rates_are_round() {
    let place = Place::with_oracle(PathBuf::new());
    let path = |name: &str| place.path(&format!("net/{name}")).display().to_string();
    let (net, profile, genesis, blocks) =
        (path(""), path("profile.toml"), path("genesis.json"), path("blocks.jsonl"));
    let all = ["--network", &profile, "--genesis", &genesis];
    for (command, bar) in [
        (
            vec!["generate", "--out", &net, "--accounts", "2000", "--blocks", "400", "--delegates", "101"],
            "blocks  ",
        ),
        ([&["replay", &blocks][..], &all].concat(), "tx/s"),
        ([&["verify", "--deep"][..], &all].concat(), ""),
    ] {
        let mut command_line = place.command(&command);
        let terminal = Terminal::start(command_line.env("TERM", "xterm"));
        let (code, seen) = terminal.end();
        assert_eq!(code, Some(0), "{command:?}: {seen}");
        let lines = drawn(&seen);
        assert!(lines.iter().any(|line| line.contains(bar)), "{command:?} draws a bar: {seen}");
        // A result, and a command to copy, are sentences that may be long.
        for line in lines.iter().filter(|line| line.ends_with(" left") || line.contains("/s ")) {
            let columns = line.chars().count();
            assert!(columns <= COLUMNS.into(), "{command:?}: {columns} columns: {line}");
            for rate in line.split_whitespace().filter_map(|word| word.strip_suffix("/s")) {
                let decimals = rate.split_once('.').map_or(0, |(_, decimals)| decimals.len());
                assert!(decimals <= 1, "{command:?}: {line}");
            }
        }
    }
}
