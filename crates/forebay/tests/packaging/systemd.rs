//! The units played: this test is systemd. It runs their commands with a notify socket, waits for readiness, sends their
//! stop signals, and looks at what is left. What it cannot play are the sandbox and accounts of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Connection, Place, asking, is_alive, until};
use crate::units::{UNITS, Unit, installed};

const PATIENCE: Duration = Duration::from_secs(120);

/// A machine: everything installed below a directory, and the account that all units run as here.
struct Machine {
    place: Place,
    account: Option<(u32, u32)>,
    name: String,
}

impl Machine {
    /// `None`: the oracle's data are not there, and the test is skipped.
    fn new() -> Option<Self> {
        let place = Place::new()?;
        let root = place.path("");
        installed(&root, "rise-devnet", &place.oracle.join("genesis.json"));
        // PostgreSQL does not run as root.
        let is_root = rustix::process::geteuid().is_root();
        let name = if is_root { "postgres".to_owned() } else { words(Command::new("id").arg("-un")) };
        let id = |flag: &str| words(Command::new("id").args([flag, &name])).parse::<u32>().unwrap();
        let account = is_root.then(|| (id("-u"), id("-g")));
        for directory in UNITS.iter().flat_map(|unit| [format!("var/lib/{unit}"), format!("run/{unit}")]) {
            let directory = root.join(directory);
            fs::create_dir_all(&directory).unwrap();
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
            give(&directory, account);
        }
        for entry in ["etc/forebay", "etc/forebay/secrets"].map(|entry| root.join(entry)) {
            give(&entry, account);
            for file in fs::read_dir(&entry).unwrap() {
                give(&file.unwrap().path(), account);
            }
        }
        let machine = Self { place, account, name };
        let config = root.join("etc/forebay/forebay.toml");
        fs::write(&config, machine.below_root(&fs::read_to_string(&config).unwrap())).unwrap();
        Some(machine)
    }

    /// A text whose paths are below our directory.
    fn below_root(&self, text: &str) -> String {
        let root = self.place.path("").display().to_string();
        let root = root.trim_end_matches('/');
        ["/etc/forebay", "/run/forebay", "/var/lib/forebay", "/usr/lib/forebay", "/usr/bin/forebay"]
            .iter()
            .fold(text.to_owned(), |text, path| text.replace(path, &format!("{root}{path}")))
    }

    fn command(&self, line: &str) -> Command {
        let line = self.below_root(line.trim_start_matches(['-', '+']));
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("NODE_ACCOUNT", &self.name)
            .env("FOREBAY", self.place.path("usr/bin/forebay"))
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts a unit; ready when it returns.
    fn start(&self, name: &str) -> Service {
        let unit = Unit::of(name);
        for line in unit.all("ExecStartPre") {
            let output = self.command(line).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
        let socket = self.place.path(&format!("{name}.notify"));
        let _ = fs::remove_file(&socket);
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = self.command(unit.one("ExecStart"));
        let log = fs::File::create(self.place.path(&format!("{name}.log"))).unwrap();
        command.env("NOTIFY_SOCKET", &socket).stdout(log.try_clone().unwrap()).stderr(log);
        for set in unit.all("Environment").iter().flat_map(|line| line.split(' ')) {
            let (variable, value) = set.split_once('=').unwrap();
            if variable != "NODE_ACCOUNT" {
                command.env(variable, value);
            }
        }
        let child = command.spawn().unwrap();
        let mut service = Service {
            name: name.to_owned(),
            child: Some(child),
            notified,
            messages: Vec::new(),
            log: self.place.path(&format!("{name}.log")),
            stop_signal: if unit.all("KillSignal") == ["SIGINT"] { Signal::INT } else { Signal::TERM },
        };
        service.until_told("READY=1");
        service
    }

    fn feed(&self) -> Connection {
        let socket = self.place.path("run/forebay/feed.sock");
        Connection::to(&socket)
    }

    fn ask_redis(&self, words: &[&str]) -> String {
        let password = fs::read_to_string(self.place.path("etc/forebay/secrets/redis-node")).unwrap();
        let mut command = Command::new("redis-cli");
        command
            .arg("-s")
            .arg(self.place.path("run/forebay-redis/redis.sock"))
            .args(["--no-auth-warning", "--user", "forebay-node", "--pass", &password])
            .args(words);
        self::words(&mut command)
    }
}

/// A unit that was started.
struct Service {
    name: String,
    child: Option<Child>,
    notified: UnixDatagram,
    messages: Vec<String>,
    log: PathBuf,
    stop_signal: Signal,
}

impl Service {
    /// Waits for a message with this line.
    #[track_caller]
    fn until_told(&mut self, line: &str) {
        let begun = Instant::now();
        loop {
            let mut bytes = [0; 4096];
            if let Ok(length) = self.notified.recv(&mut bytes) {
                let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
                let is_it = message.lines().any(|told| told == line);
                self.messages.push(message);
                if is_it {
                    return;
                }
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "{}: no {line}; {ended:?}\n{}",
                self.name,
                self.log()
            );
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// As `systemctl stop` does; what it told on its way out, and its exit code.
    fn stop(&mut self) -> (Vec<String>, Option<i32>) {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), self.stop_signal).unwrap();
        let status = child.wait().unwrap();
        let before = self.messages.len();
        let mut bytes = [0; 4096];
        while let Ok(length) = self.notified.recv(&mut bytes) {
            self.messages.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        (self.messages.split_off(before), status.code())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        eprintln!("{}'s log:\n{}", self.name, self.log());
        // PostgreSQL ends its sessions only when it is asked.
        let _ = kill_process(Pid::from_child(&child), Signal::QUIT);
        let begun = Instant::now();
        while child.try_wait().is_ok_and(|ended| ended.is_none()) && begun.elapsed() < Duration::from_secs(10)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn give(path: &Path, account: Option<(u32, u32)>) {
    if let Some((uid, gid)) = account {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

#[track_caller]
fn words(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn units_start_tell_when_they_are_ready_and_a_stop_of_the_node_leaves_the_servers_with_the_chain() {
    let Some(machine) = Machine::new() else { return };
    let mut postgres = machine.start("forebay-postgres");
    let mut redis = machine.start("forebay-redis");
    let mut node = machine.start("forebay");
    let told = node.messages.join("\n");
    assert!(told.contains("EXTEND_TIMEOUT_USEC="), "{told}");
    for phase in ["setup", "claim", "restore"] {
        assert!(told.contains(&format!("STATUS=starting: {phase}")), "{phase}: {told}");
    }

    let mut feed = machine.feed();
    for block in &machine.place.blocks()[1..4] {
        assert_eq!(feed.ask(&asking(block))["accepted"], true);
    }
    // A second node, as when somebody starts one by hand: it must not come back again and again.
    let unit = Unit::of("forebay");
    let second = machine.command(unit.one("ExecStart").split(" --feed").next().unwrap()).output().unwrap();
    let prevented = unit.one("RestartPreventExitStatus");
    let code = second.status.code().unwrap().to_string();
    assert_eq!(code, "6", "{second:?}");
    assert!(prevented.split(' ').any(|prevented| prevented == code));

    let (told, code) = node.stop();
    assert_eq!(code, Some(0), "{}", node.log());
    let told = told.join("\n");
    assert!(told.contains("STOPPING=1") && told.contains("EXTEND_TIMEOUT_USEC="), "{told}");
    assert!(is_alive(redis.pid()) && is_alive(postgres.pid()), "the servers go on");
    let keys: u64 = machine.ask_redis(&["DBSIZE"]).parse().unwrap();
    assert!(keys > 10, "Redis has the chain: {keys} keys");

    // Started again, after Redis was: its configuration was written anew from the chain's plan.
    let (_, code) = redis.stop();
    assert_eq!(code, Some(0), "{}", redis.log());
    let mut redis = machine.start("forebay-redis");
    let mut node = machine.start("forebay");
    let mut feed = machine.feed();
    let answer = feed.ask(&asking(&machine.place.blocks()[4]));
    assert_eq!((&answer["height"], &answer["accepted"]), (&5.into(), &true.into()), "{answer}");
    drop(feed);
    assert_eq!(node.stop().1, Some(0), "{}", node.log());
    assert_eq!(redis.stop().1, Some(0), "{}", redis.log());
    assert_eq!(postgres.stop().1, Some(0), "{}", postgres.log());
}

#[test]
fn a_node_waits_for_servers_that_start_later_and_asks_for_time() {
    let Some(machine) = Machine::new() else { return };
    let unit = Unit::of("forebay");
    let socket = machine.place.path("early.notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let log = fs::File::create(machine.place.path("early.log")).unwrap();
    let mut command = machine.command(unit.one("ExecStart"));
    command.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null()).stderr(log);
    let mut node = command.spawn().unwrap();
    let next = || {
        let mut bytes = [0; 4096];
        let length = notified.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    // Two requests for time: the second one comes only while it waits.
    for _ in 0..2 {
        while !next().starts_with("EXTEND_TIMEOUT_USEC=") {}
    }
    assert!(node.try_wait().unwrap().is_none(), "it waits");
    let postgres = machine.start("forebay-postgres");
    let redis = machine.start("forebay-redis");
    while !next().lines().any(|line| line == "READY=1") {}
    kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
    let mut code = None;
    until("the node has ended", || {
        code = node.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(0));
    drop((postgres, redis));
}
