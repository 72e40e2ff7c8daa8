//! Servers that others work with are not stopped under them, and not left behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{Place, superuser};

/// A file that cannot grow, in the place of another one; `None` where we may not mount.
struct FullFile {
    disk: PathBuf,
    at: PathBuf,
}

impl FullFile {
    fn mount(disk: PathBuf, at: PathBuf) -> Option<Self> {
        let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        std::fs::create_dir(&disk).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&disk).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let this = Self { disk, at };
        let file = this.disk.join("file");
        std::fs::write(&file, b"").unwrap();
        let full = std::fs::write(this.disk.join("ballast"), vec![0; 1 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        assert!(done(Command::new("mount").arg("--bind").arg(&file).arg(&this.at)));
        Some(this)
    }
}

impl Drop for FullFile {
    fn drop(&mut self) {
        for place in [&self.at, &self.disk] as [&Path; 2] {
            let _ = Command::new("umount").arg(place).output();
        }
    }
}

#[tokio::test]
async fn a_disk_that_is_full_keeps_no_server_from_being_stopped() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let (redis, postgres) = servers.start().await.unwrap();
    servers.in_use().await.unwrap().leave().await.unwrap();
    let lock = servers.data_dir().join("in-use.lock");
    assert!(lock.exists());
    let disk = servers.data_dir().join("full");
    let Some(full) = FullFile::mount(disk, lock) else {
        eprintln!("SKIPPED a full disk: it may not be mounted here");
        return;
    };
    let reader = servers.in_use().await.unwrap();
    let told = servers.stop_unless_in_use().await.unwrap_err().to_string();
    assert!(told.contains("in-use.lock"), "somebody could not be told: {told}");
    assert!(redis.is_running() && postgres.is_running());
    reader.leave().await.unwrap();
    assert!(servers.stop_unless_in_use().await.unwrap());
    assert!(!redis.is_running() && !postgres.is_running());
    drop(full);
}

#[tokio::test]
async fn servers_in_use_outlive_their_node_and_end_with_the_last_who_works_with_them() {
    let place = Place::new().await;
    let (node, reader, other) = (place.open("a").await, place.open("a").await, place.open("a").await);
    let (redis, postgres) = node.start().await.unwrap();
    let (first, second) = (reader.in_use().await.unwrap(), other.in_use().await.unwrap());
    let session = superuser(&postgres).await;

    assert!(!node.stop_unless_in_use().await.unwrap());
    first.leave().await.unwrap();
    assert!(redis.is_running() && postgres.is_running());
    session.batch_execute("select 1").await.unwrap();

    second.leave().await.unwrap();
    assert!(!redis.is_running() && !postgres.is_running());
}

#[tokio::test]
async fn without_anybody_else_servers_stop_at_once_and_nothing_is_left_to_a_later_reader() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let (redis, postgres) = servers.start().await.unwrap();
    servers.in_use().await.unwrap().leave().await.unwrap();
    assert!(redis.is_running() && postgres.is_running(), "a reader leaves the servers of a node alone");
    assert!(servers.stop_unless_in_use().await.unwrap());
    assert!(!redis.is_running() && !postgres.is_running());

    let (redis, postgres) = servers.start().await.unwrap();
    servers.in_use().await.unwrap().leave().await.unwrap();
    assert!(redis.is_running() && postgres.is_running());
}

#[tokio::test]
async fn a_postgres_started_for_reads_ends_with_the_last_reader() {
    let place = Place::new().await;
    let (first, second) = (place.open("a").await, place.open("a").await);
    let (postgres, first) = first.start_postgres_in_use().await.unwrap();
    let (adopted, second) = second.start_postgres_in_use().await.unwrap();
    assert!(adopted.is_adopted());
    first.leave().await.unwrap();
    assert!(postgres.is_running());
    second.leave().await.unwrap();
    assert!(!postgres.is_running());
}

#[tokio::test]
async fn a_node_that_comes_meanwhile_keeps_the_postgres_that_readers_started_and_leaves_it_to_them_at_its_end()
 {
    let place = Place::new().await;
    let (node, reader) = (place.open("a").await, place.open("a").await);
    let (postgres, first) = reader.start_postgres_in_use().await.unwrap();
    assert!(node.start_postgres().await.unwrap().is_adopted());
    first.leave().await.unwrap();
    assert!(postgres.is_running(), "it is the node's now");

    let (_, second) = reader.start_postgres_in_use().await.unwrap();
    assert!(!node.stop_unless_in_use().await.unwrap());
    assert!(postgres.is_running());
    second.leave().await.unwrap();
    assert!(!postgres.is_running());
}

#[tokio::test]
async fn what_a_killed_reader_started_ends_with_the_next_one() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let (postgres, killed) = servers.start_postgres_in_use().await.unwrap();
    // As the end of a process does: the lock is gone, and nothing was stopped.
    drop(killed);
    assert!(postgres.is_running());
    let (_, next) = servers.start_postgres_in_use().await.unwrap();
    next.leave().await.unwrap();
    assert!(!postgres.is_running());
}

#[tokio::test]
async fn a_lock_file_that_is_a_symbolic_link_is_not_followed() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let victim = place.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, servers.data_dir().join("in-use.lock")).unwrap();
    servers.in_use().await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}
