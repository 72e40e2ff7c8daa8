//! What takes a second process: this test program started again, with one test of its own, as a parent that dies, as
//! a holder of a lock, as another user.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use forebay_servers::{DataDirLock, LockError, PrivateServers, ServersError};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::fixture::{Place, get, is_root, options, set, superuser};

/// Where the second process works; not set in an ordinary run.
const DATA_DIR: &str = "FOREBAY_SERVERS_TEST_DATA_DIR";

/// The account `nobody` on every Linux.
const NOBODY: u32 = 65534;

fn data_dir_of_second_process() -> PathBuf {
    PathBuf::from(std::env::var_os(DATA_DIR).expect("run by another test, in a process of its own"))
}

fn second_process(program: &Path, test: &str, data_dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([&format!("other_process::{test}"), "--exact", "--ignored", "--nocapture"]);
    command.env(DATA_DIR, data_dir).stdout(Stdio::piped()).current_dir("/");
    command
}

/// Starts it and waits until it prints `ready`.
fn spawn_ready(test: &str, data_dir: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut child = second_process(&program, test, data_dir).process_group(0).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line.ends_with("ready")), "{test} ended early");
    child
}

fn wait_for_ever() -> ! {
    println!("\nready");
    loop {
        std::thread::park();
    }
}

#[tokio::test]
#[ignore = "a second process of `servers_survive_the_kill_of_the_process_that_started_them`"]
async fn start_and_wait() {
    let servers = PrivateServers::open(options(data_dir_of_second_process())).await.unwrap();
    let (redis, _) = servers.start().await.unwrap();
    set(&redis, "k", "v").await;
    wait_for_ever();
}

#[tokio::test]
async fn servers_survive_the_kill_of_the_process_that_started_them() {
    let place = Place::new().await;
    let mut parent = spawn_ready("start_and_wait", &place.path().join("a"));
    // As a terminal does it: the whole process group of the parent.
    let group = Pid::from_raw(i32::try_from(parent.id()).unwrap()).unwrap();
    kill_process_group(group, Signal::KILL).unwrap();
    parent.wait().unwrap();
    let (redis, postgres) = place.open("a").await.start().await.unwrap();
    assert!(redis.is_adopted() && postgres.is_adopted());
    assert_eq!(get(&redis, "k").await.as_deref(), Some("v"));
    superuser(&postgres).await.batch_execute("select 1").await.unwrap();
    let session = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(3).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(session(redis.pid()), redis.pid());
    assert_eq!(session(postgres.pid()), postgres.pid());
}

#[test]
#[ignore = "a second process of `a_lock_held_by_another_process_is_reported_and_vanishes_with_it`"]
fn hold_the_node_lock() {
    let _lock = DataDirLock::acquire(&data_dir_of_second_process(), "forebay run --network x").unwrap();
    wait_for_ever();
}

#[test]
fn a_lock_held_by_another_process_is_reported_and_vanishes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let before = SystemTime::now() - Duration::from_secs(1);
    let mut holder = spawn_ready("hold_the_node_lock", directory.path());
    let error = DataDirLock::acquire(directory.path(), "second").unwrap_err();
    let text = error.to_string();
    let LockError::Held { by, .. } = error else { panic!("{text}") };
    assert_eq!((by.pid, by.command.as_str()), (holder.id(), "forebay run --network x"));
    assert!(by.since() >= before && by.since() <= SystemTime::now());
    assert!(text.contains(&format!("process {}", holder.id())) && text.contains(" since 20"), "{text}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(DataDirLock::holder(directory.path()).unwrap(), None);
    DataDirLock::acquire(directory.path(), "second").unwrap();
}

#[test]
#[ignore = "a second process of `a_start_beside_another_one_says_who_is_at_it`"]
fn hold_the_servers_lock() {
    let path = data_dir_of_second_process().join("servers.lock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(&path).unwrap();
    file.lock().unwrap();
    let holder =
        format!(r#"{{"pid":{},"since_unix_ms":1700000000000,"command":"starting"}}"#, std::process::id());
    fs::write(&path, holder).unwrap();
    wait_for_ever();
}

#[tokio::test]
async fn a_start_beside_another_one_says_who_is_at_it() {
    let place = Place::new().await;
    let mut holder = spawn_ready("hold_the_servers_lock", &place.path().join("a"));
    let mut options = place.options("a");
    options.timeouts.lock = Duration::from_millis(100);
    let servers = PrivateServers::open(options).await.unwrap();
    let error = servers.start_redis().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ServersError::LockBusy(by) if by.pid == holder.id()), "{text}");
    assert!(text.contains("2023-11-14T22:13:20Z"), "{text}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    servers.start_redis().await.unwrap();
}

#[tokio::test]
#[ignore = "a second process of `an_ordinary_user_runs_the_servers_as_itself`"]
async fn start_use_and_stop() {
    let servers = PrivateServers::open(options(data_dir_of_second_process())).await.unwrap();
    let (redis, postgres) = servers.start().await.unwrap();
    set(&redis, "k", "v").await;
    superuser(&postgres).await.batch_execute("create table t as select 1").await.unwrap();
    servers.stop().await.unwrap();
    let (redis, _) = servers.start().await.unwrap();
    assert_eq!(get(&redis, "k").await.as_deref(), Some("v"));
    // Left running for root to adopt.
}

/// This test program where another user can execute it.
fn program_for_others(place: &Place) -> PathBuf {
    let program = place.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test]
async fn an_ordinary_user_runs_the_servers_as_itself() {
    let place = Place::new().await;
    let directory = place.path().join("theirs");
    fs::create_dir(&directory).unwrap();
    let program = program_for_others(&place);
    let mut command = second_process(&program, "start_use_and_stop", &directory.join("a"));
    if is_root() {
        std::os::unix::fs::chown(&directory, Some(NOBODY), None).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    // As root the same data go on with the same owner.
    let (redis, postgres) = place.open("theirs/a").await.start().await.unwrap();
    assert!(redis.is_adopted() && postgres.is_adopted());
    place.open("theirs/a").await.stop().await.unwrap();
    let (redis, _) = place.open("theirs/a").await.start().await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", redis.pid())).unwrap();
    let expected = if is_root() { NOBODY } else { rustix::process::geteuid().as_raw() };
    assert!(status.contains(&format!("Uid:\t{expected}\t")), "{status}");
    assert_eq!(get(&redis, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
#[ignore = "a second process of `data_of_root_are_closed_to_ordinary_users`"]
async fn open_is_refused_for_the_owner() {
    let error = PrivateServers::open(options(data_dir_of_second_process())).await.unwrap_err();
    assert!(matches!(error, ServersError::WrongOwner { .. }), "{error}");
    println!("\nrefused as it should be");
}

#[tokio::test]
async fn data_of_root_are_closed_to_ordinary_users() {
    if !is_root() {
        // Only root has data that belong to another account.
        return;
    }
    let place = Place::new().await;
    place.open("a").await.start_redis().await.unwrap();
    let program = program_for_others(&place);
    let mut command = second_process(&program, "open_is_refused_for_the_owner", &place.path().join("a"));
    let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("refused as it should be"), "{text}");
}
