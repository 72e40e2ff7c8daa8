//! What takes a second process (the example `private_servers`): a parent that dies, a holder of a lock, another user.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use forebay_servers::{DataDirLock, LockError, PrivateServers, ServersError};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::fixture::{Place, get, is_root, set, superuser};

/// The account `nobody` on every Linux.
const NOBODY: u32 = 65534;

/// The example, copied to where other users can execute it.
fn second_program(place: &Place) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().and_then(Path::parent).unwrap().join("examples/private_servers");
    let program = place.path().join("private_servers");
    fs::copy(&example, &program)
        .expect("`cargo test -p forebay-servers` builds the example; `--test` alone does not");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// A process that holds the node's lock and has started the servers, in a process group of its own.
fn holder(place: &Place, data_dir: &Path) -> Child {
    let mut command = Command::new(second_program(place));
    command.arg("hold").arg(data_dir).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line == "ready"), "it ended early");
    child
}

#[tokio::test]
async fn servers_survive_the_kill_of_the_whole_process_group_that_started_them() {
    let place = Place::new().await;
    let mut parent = holder(&place, &place.path().join("a"));
    let group = Pid::from_raw(i32::try_from(parent.id()).unwrap()).unwrap();
    kill_process_group(group, Signal::KILL).unwrap();
    parent.wait().unwrap();

    let (redis, postgres) = place.open("a").await.start().await.unwrap();
    assert!(redis.is_adopted() && postgres.is_adopted());
    set(&redis, "k", "v").await;
    superuser(&postgres).await.batch_execute("select 1").await.unwrap();
    assert_eq!(session_of(redis.pid()), redis.pid());
    assert_eq!(session_of(postgres.pid()), postgres.pid());
}

/// The sixth field of proc(5)'s stat.
fn session_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(3).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_lock_held_by_another_process_is_reported_and_vanishes_with_it() {
    let place = Place::new().await;
    let data_dir = place.path().join("a");
    let before = SystemTime::now() - Duration::from_secs(1);
    let mut holder = holder(&place, &data_dir);
    let error = DataDirLock::acquire(&data_dir, "second").unwrap_err();
    let text = error.to_string();
    let LockError::Held { by, .. } = error else { panic!("{text}") };
    assert_eq!((by.pid, by.command.as_str()), (holder.id(), "private_servers hold"));
    assert!(by.since() >= before && by.since() <= SystemTime::now());
    assert!(text.contains(&format!("process {}", holder.id())) && text.contains(" since 20"), "{text}");

    holder.kill().unwrap();
    holder.wait().unwrap();
    // The servers run on, and must not have inherited the lock.
    assert_eq!(DataDirLock::holder(&data_dir).unwrap(), None);
    DataDirLock::acquire(&data_dir, "second").unwrap();
}

#[tokio::test]
async fn a_start_beside_another_one_says_who_is_at_it() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.timeouts.lock = Duration::from_millis(100);
    let servers = PrivateServers::open(options).await.unwrap();
    // A lock is an open file's, so this process can play the other one.
    let path = servers.data_dir().join("servers.lock");
    let file = fs::File::create(&path).unwrap();
    file.lock().unwrap();
    let pid = std::process::id();
    fs::write(&path, format!(r#"{{"pid":{pid},"since_unix_ms":1700000000000,"command":"starting"}}"#))
        .unwrap();
    let error = servers.start_redis().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ServersError::LockBusy(_)), "{text}");
    assert!(text.contains(&format!("process {pid}")) && text.contains("2023-11-14T22:13:20Z"), "{text}");
    drop(file);
    servers.start_redis().await.unwrap();
}

#[tokio::test]
async fn an_ordinary_user_runs_the_servers_as_itself_and_root_goes_on_with_their_owner() {
    let place = Place::new().await;
    let directory = place.path().join("theirs");
    fs::create_dir(&directory).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&directory, Some(NOBODY), None).unwrap();
    }
    let program = second_program(&place);
    for action in ["start", "stop", "start"] {
        let mut command = Command::new(&program);
        command.arg(action).arg(directory.join("a"));
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let servers = place.open("theirs/a").await;
    let (redis, postgres) = servers.start().await.unwrap();
    assert!(redis.is_adopted() && postgres.is_adopted());
    set(&redis, "k", "v").await;
    servers.stop().await.unwrap();
    let (redis, postgres) = servers.start().await.unwrap();
    assert_eq!(get(&redis, "k").await.as_deref(), Some("v"));
    let expected = if is_root() { NOBODY } else { rustix::process::geteuid().as_raw() };
    for pid in [redis.pid(), postgres.pid()] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains(&format!("Uid:\t{expected}\t")), "{status}");
    }
}

#[tokio::test]
async fn data_of_another_user_are_refused() {
    if !is_root() {
        // Only root can make data that belong to another account.
        return;
    }
    let place = Place::new().await;
    place.open("a").await.start_redis().await.unwrap();
    let mut command = Command::new(second_program(&place));
    command.arg("start").arg(place.path().join("a")).uid(NOBODY).gid(NOBODY);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("Start it as that user or as root"), "{text}");
}
