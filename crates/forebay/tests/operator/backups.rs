//! A backup puts a chain back, verified; anything else is refused and changes nothing.

use std::fs;
use std::process::{Child, Stdio};

use forebay_servers::{PrivateServers, SUPERUSER, ServersOptions};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::support::{Ended, Place, asking, until};

/// A table that only pg_dump looks at, locked, so that a backup waits until it is let go.
struct HeldUp {
    runtime: Runtime,
    admin: Client,
}

impl HeldUp {
    /// On the servers that run now.
    fn on(place: &Place) -> Self {
        let runtime = Runtime::new().unwrap();
        let admin = runtime.block_on(async {
            let servers = PrivateServers::open(ServersOptions::new(place.data_dir())).await.unwrap();
            let mut config = servers.running_postgres().await.unwrap().unwrap().config(SUPERUSER).unwrap();
            let (client, connection) = config.dbname("forebay").connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("create table rise.held_up ()").await.unwrap();
            client.batch_execute("begin; lock table rise.held_up").await.unwrap();
            client
        });
        Self { runtime, admin }
    }

    /// A backup that has begun, and waits.
    fn backup(&self, place: &Place) -> Child {
        let child = place
            .command(&["backup", place.path("chain.dump").to_str().unwrap(), "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let waits = "select count(*) from pg_locks where not granted and relation = 'rise.held_up'::regclass";
        until("pg_dump waits for the table", || {
            let row = self.runtime.block_on(self.admin.query_one(waits, &[])).unwrap();
            row.get::<_, i64>(0) > 0
        });
        child
    }

    fn let_go(self) {
        self.runtime.block_on(self.admin.batch_execute("rollback")).unwrap();
    }
}

fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn no_other_command_stops_the_servers_under_a_backup_and_none_are_left_behind() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..10]);
    // Servers as a killed node leaves them.
    place.start_node().end(Signal::KILL);
    let held_up = HeldUp::on(&place);
    let backup = held_up.backup(&place);
    place.run(&["status", "--json"]).with_code(0);
    place.run(&["memory", "--measure"]).with_code(0);
    place.run(&["pop"]).with_code(0);
    place.run(&["verify"]).with_code(0);
    place.run(&["restore-backup", "/nowhere"]).with_code(1);
    let (_, postgres) = place.server_pids().expect("the backup works with them");
    assert!(crate::support::is_alive(postgres));
    held_up.let_go();
    let saved = ended(backup).with_code(0).json();
    assert_eq!(saved["height"], 10, "its snapshot is older than the rest");
    place.assert_no_server();
    assert_eq!(place.run(&["status", "--json"]).with_code(0).json()["slow"]["height"], 9);
}

#[test]
fn a_node_that_ends_leaves_its_servers_to_a_backup_that_works_with_them() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..10]);
    let node = place.start_node();
    let held_up = HeldUp::on(&place);
    let backup = held_up.backup(&place);
    node.end(Signal::TERM).with_code(0).says("still read from the private servers");
    assert!(place.server_pids().is_some());
    held_up.let_go();
    assert_eq!(ended(backup).with_code(0).json()["height"], 10);
    place.assert_no_server();
}

#[test]
fn a_backup_whose_server_goes_away_says_so_with_its_code() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..10]);
    let node = place.start_node();
    let held_up = HeldUp::on(&place);
    let backup = held_up.backup(&place);
    let (_, postgres) = place.server_pids().unwrap();
    kill_process(Pid::from_raw(postgres).unwrap(), Signal::INT).unwrap();
    ended(backup).with_code(4).says("PostgreSQL went away while pg_dump was working");
    assert!(!place.path("chain.dump").exists() && !place.path("chain.dump.partial").exists());
    node.end(Signal::TERM).with_code(0);
}

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
    place.assert_no_server();
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
        place.assert_no_server();
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
    other.assert_no_server();
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
