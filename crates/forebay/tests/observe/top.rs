use std::process::Command;

use rustix::process::Signal;

use crate::support::{Place, asking, until};
use crate::terminal::Terminal;

/// `forebay top` on a terminal of the usual size: a new pseudo-terminal has none.
fn top(place: &Place) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "stty rows 24 cols 80 && exec \"$0\" top", env!("CARGO_BIN_EXE_forebay")]);
    shell.env("FOREBAY_DATA_DIR", place.data_dir()).env("TERM", "xterm");
    shell
}

#[test]
fn top_shows_a_running_node_and_q_quits() {
    let Some(place) = Place::new() else { return };
    let node = place.start_node();
    let mut feed = node.connect();
    place.blocks()[1..30].iter().for_each(|block| drop(feed.ask(&asking(block))));
    until("the node tells of the last block", || {
        let status = place.run(&["status", "--json"]).with_code(0).json();
        status["node"]["tips"]["acceptedHeight"] == 30 && status["node"]["lagOperations"] == 0
    });
    let mut terminal = Terminal::start(&mut top(&place));
    // Blanks are jumped over, not written: words, one by one.
    for word in
        ["rise-devnet", "ready", "Tips", "         30", "blocks/s", "operations", "planned", "retries:"]
    {
        terminal.until(word);
    }
    terminal.line("q");
    assert_eq!(terminal.end().0, Some(0));
    node.end(Signal::TERM).with_code(0);

    let mut terminal = Terminal::start(&mut top(&place));
    terminal.until("waits");
    terminal.line("q");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn without_a_terminal_top_says_what_to_use_instead() {
    let Some(place) = Place::new() else { return };
    let ended = place.run(&["top"]).with_code(1);
    assert_eq!(ended.stdout, "");
    ended.says("needs a terminal").says("status --json").says("--metrics-listen");
}
