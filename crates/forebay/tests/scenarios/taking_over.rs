//! Row 8 with processes: a node that is stopped by a signal wakes up after another took the chain over.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Place, asking, until};
use crate::yours::{Yours, with};

fn is_stopped(pid: i32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat[stat.rfind(')').unwrap() + 1..].trim_start().starts_with('T')
    })
}

#[test]
fn a_paused_node_is_replaced_and_ends_when_it_wakes_up() {
    let Some(place) = Place::new() else { return };
    let Some(other) = Place::new() else { return };
    let blocks = place.blocks();
    let yours = Yours::start();
    let settings = yours.settings();
    let settings = with(&settings, &[("FOREBAY_LIMITS__TAKEOVER_AFTER_SECONDS", "2")]);
    let first = place.start_node_with(&settings);
    let mut feed = first.connect();
    blocks[1..20].iter().for_each(|block| assert_eq!(feed.ask(&asking(block))["accepted"], true));

    // While its heart beats, another is told who has the chain and since when.
    let genesis = other.oracle.join("genesis.json");
    let mut second =
        other.command(&["run", "--network", "rise-devnet", "--genesis", genesis.to_str().unwrap()]);
    let refused = second.envs(settings.clone()).output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(6), "{told}");
    assert!(told.contains(&format!("held by process {}", first.pid())) && told.contains("since"), "{told}");

    let pid = Pid::from_raw(first.pid()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    // The signal takes hold thread by thread: one that still runs would answer before another has the chain.
    until("all its threads stand still", || is_stopped(first.pid()));
    // It lies in the paused node's socket, and is read only when it wakes up.
    feed.send(&asking(&blocks[20]));
    let second = other.start_node_with(&settings);
    let mut other_feed = second.connect();
    blocks[20..40].iter().for_each(|block| assert_eq!(other_feed.ask(&asking(block))["accepted"], true));
    kill_process(pid, Signal::CONT).unwrap();
    let answer = feed.receive();
    assert!(answer["error"].is_object(), "{answer}");
    let ended = first.ended();
    assert!([Some(6), Some(7)].contains(&ended.code), "{:?}\n{}", ended.code, ended.stderr);
    let told = ["took the chain over", "does not hold the chain"];
    assert!(told.iter().any(|text| ended.stderr.contains(text)), "{}", ended.stderr);

    blocks[40..60].iter().for_each(|block| assert_eq!(other_feed.ask(&asking(block))["accepted"], true));
    assert_eq!(other_feed.ask(r#"{"op":"await","height":60}"#)["durable"], true);
    until("the trim is over", || {
        other.command(&["verify", "--deep"]).envs(settings.clone()).output().unwrap().status.success()
    });
    second.end(Signal::TERM).with_code(0);
}
