//! A backup puts a chain back, verified; anything else is refused and changes nothing.

use std::fs;

use rustix::process::Signal;

use crate::support::{Place, asking};

#[test]
fn a_lost_data_directory_comes_back_from_a_backup_and_is_verified() {
    let (Some(place), Some(other)) = (Place::new(), Place::new()) else { return };
    place.replay("all", &place.blocks()[1..]);
    let file = place.path("chain.dump").display().to_string();
    let saved = place.run(&["backup", &file, "--json"]).with_code(0).json();
    let before = place.run(&["status", "--json"]).with_code(0).json();
    assert_eq!(
        (&saved["height"], &saved["blockId"]),
        (&before["slow"]["height"], &before["slow"]["blockId"])
    );

    let restored = other.run_here(&["restore-backup", &file, "--json"]).with_code(0).json();
    assert_eq!((&restored["verified"], &restored["deep"]), (&true.into(), &true.into()));
    assert_eq!((&restored["height"], &restored["blockId"]), (&saved["height"], &saved["blockId"]));
    assert_eq!(other.dump("slow"), place.dump("slow"));
    assert_eq!(other.dump("fast"), place.dump("fast"));
    other.run(&["verify", "--deep"]).with_code(0);
    // The roles may what they may: the chain goes on.
    other.run(&["pop"]).with_code(0);
}

#[test]
fn a_backup_beside_a_running_node_is_one_snapshot_and_the_node_goes_on() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    let node = place.start_node();
    let mut feed = node.connect();
    for block in &blocks[1..40] {
        assert_eq!(feed.ask(&asking(block))["accepted"], true);
    }
    feed.ask("{\"op\":\"await\",\"height\":40}");
    let file = place.path("chain.dump").display().to_string();
    let saved = place.run(&["backup", &file, "--json"]).with_code(0).json();
    assert_eq!(saved["height"], 40);
    assert_eq!(feed.ask(&asking(&blocks[40]))["accepted"], true);
    node.end(Signal::TERM).with_code(0);
}

#[test]
fn what_is_there_is_given_up_only_when_asked_and_what_redis_kept_after_the_backup_follows() {
    let Some(place) = Place::new() else { return };
    let blocks = place.blocks();
    place.replay("first", &blocks[1..40]);
    let file = place.path("chain.dump").display().to_string();
    place.run(&["backup", &file]).with_code(0);
    place.run(&["backup", &file]).with_code(1).says("is there already");
    place.run(&["backup", &file, "--force"]).with_code(0);
    place.replay("more", &blocks[40..60]);

    place.run(&["restore-backup", &file]).with_code(1).says("has a chain already");
    let restored = place.run(&["restore-backup", &file, "--replace", "--json"]).with_code(0).json();
    assert_eq!(restored["verified"], true);
    // The outbox still has what came after the backup, as promised for a PostgreSQL that was put back.
    assert_eq!(restored["height"], 60);
    place.run(&["verify", "--deep"]).with_code(0);
}

#[test]
fn a_damaged_file_changes_nothing() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..]);
    let file = place.path("chain.dump");
    place.run(&["backup", file.to_str().unwrap()]).with_code(0);
    let whole = fs::read(&file).unwrap();
    let before = place.run(&["status", "--json"]).with_code(0).json();
    for (name, bytes) in [("cut", &whole[..whole.len() * 2 / 3]), ("noise", b"no backup at all".as_slice())] {
        let damaged = place.path(name);
        fs::write(&damaged, bytes).unwrap();
        place.run(&["restore-backup", damaged.to_str().unwrap(), "--replace"]).with_code(1);
        let after = place.run(&["status", "--json"]).with_code(0).json();
        assert_eq!(after["slow"], before["slow"], "{name}");
    }
    place.run(&["verify"]).with_code(0);
}

#[test]
fn a_backup_of_another_chain_is_refused() {
    let (Some(place), other) = (Place::new(), Place::with_oracle(std::path::PathBuf::new())) else { return };
    place.replay("first", &place.blocks()[1..3]);
    let file = place.path("chain.dump").display().to_string();
    place.run(&["backup", &file]).with_code(0);
    let net = other.path("net").display().to_string();
    other.run(&["generate", "--out", &net, "--accounts", "5", "--blocks", "1", "-q"]).with_code(0);
    let (profile, genesis) = (format!("{net}/profile.toml"), format!("{net}/genesis.json"));
    let refused =
        other.run(&["restore-backup", &file, "--network", &profile, "--genesis", &genesis]).with_code(1);
    assert!(refused.stderr.contains("the backup is of rise-devnet"), "{}", refused.stderr);
}

#[test]
fn beside_a_node_nothing_is_put_back() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..3]);
    let file = place.path("chain.dump").display().to_string();
    place.run(&["backup", &file]).with_code(0);
    let node = place.start_node();
    place.run(&["restore-backup", &file, "--replace"]).with_code(6);
    node.end(Signal::TERM).with_code(0);
}
