//! `forebay redis-conf` and `forebay postgres-conf`: what they print is what private servers run with, and a check tells
//! what differs.

use std::fs;

use forebay_servers::testing::{TestOptions, TestServers};
use forebay_servers::{PrivateServers, SUPERUSER, ServersOptions};
use rustix::process::Signal;
use serde_json::Value;
use tokio_postgres::NoTls;

use crate::support::{Ended, Place};

/// Servers of yours, and how the program is told about them.
struct Yours {
    runtime: tokio::runtime::Runtime,
    servers: TestServers,
    place: Place,
}

impl Yours {
    fn start(redis_extra: &[(&str, &str)], postgres_extra: &[(&str, &str)]) -> Option<Self> {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let place = Place::new()?;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = TestOptions {
            redis_extra: owned(redis_extra),
            postgres_extra: owned(postgres_extra),
            postgres_fsync: true,
            ..TestOptions::default()
        };
        let servers = runtime.block_on(TestServers::with(options)).unwrap();
        Some(Self { runtime, servers, place })
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_as(&self.servers.postgres().connection_string(SUPERUSER).unwrap(), arguments)
    }

    /// With a writer's address of one's own.
    fn run_as(&self, writer: &str, arguments: &[&str]) -> Ended {
        let admin = self.servers.postgres().connection_string(SUPERUSER).unwrap();
        let redis = self.servers.redis().redis_url();
        let mut all = arguments.to_vec();
        all.extend(["--redis-url", &redis, "--postgres-url", writer, "--postgres-admin-url", &admin]);
        self.place.run_here(&all)
    }

    /// As the superuser.
    fn sql(&self, statement: &str) -> Vec<tokio_postgres::Row> {
        self.runtime.block_on(async {
            let config = self.servers.postgres().config(SUPERUSER).unwrap();
            let (client, connection) = config.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            client.query(statement, &[]).await.unwrap()
        })
    }

    fn redis(&self) -> redis::Connection {
        redis::Client::open(self.servers.redis().redis_url()).unwrap().get_connection().unwrap()
    }
}

#[track_caller]
fn stops(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().filter(|f| f["stops"] == true).map(|f| f["subject"].as_str().unwrap()).collect()
}

#[test]
fn private_servers_run_with_the_printed_files_and_pass_the_check() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..3]);
    let node = place.start_node();
    let with_reasons = |text: &str| {
        text.lines().filter(|line| !line.starts_with("maxmemory ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let printed = place.run(&["redis-conf"]).with_code(0).stdout;
    let written = fs::read_to_string(place.data_dir().join("redis/redis.conf")).unwrap();
    assert_eq!(with_reasons(&printed), with_reasons(&written));
    let printed = place.run(&["postgres-conf"]).with_code(0).stdout;
    let written = fs::read_to_string(place.data_dir().join("postgres/forebay.conf")).unwrap();
    assert_eq!(printed.trim_end(), written.trim_end());

    let report = place.run(&["redis-conf", "--check", "--json"]).with_code(0).json();
    assert_eq!(
        (&report["ok"], &report["findings"], &report["keysExpiring"]),
        (&true.into(), &Value::Array(Vec::new()), &0.into())
    );
    assert!(report["keys"].as_u64().unwrap() > 10, "{report}");
    let report = place.run(&["postgres-conf", "--check", "--json"]).with_code(0).json();
    assert_eq!((&report["ok"], &report["findings"]), (&true.into(), &Value::Array(Vec::new())), "{report}");
    node.end(Signal::TERM).with_code(0);
}

#[test]
fn secrets_of_the_private_redis_are_in_no_output() {
    let Some(place) = Place::new() else { return };
    let genesis = place.oracle.join("genesis.json");
    let output = place
        .command(&["-vv", "--json", "run", "--feed", "-", "--network", "rise-devnet", "--genesis"])
        .arg(genesis)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let mut text = String::from_utf8(text).unwrap();
    text.push_str(&place.run(&["redis-conf"]).with_code(0).stdout);
    text.push_str(&fs::read_to_string(place.data_dir().join("redis/redis.conf")).unwrap());
    let secrets: Value =
        serde_json::from_slice(&fs::read(place.data_dir().join("redis/secrets.json")).unwrap()).unwrap();
    let roles = secrets["roles"].as_object().unwrap();
    assert_eq!(roles.len(), 3);
    for (role, password) in roles {
        assert!(!text.contains(password.as_str().unwrap()), "the password of {role}");
    }
}

#[test]
fn an_eviction_policy_stops_the_check_and_the_start() {
    let Some(yours) = Yours::start(&[("maxmemory-policy", "allkeys-lru")], &[]) else { return };
    let report = yours.run(&["redis-conf", "--check", "--json"]).with_code(3).json();
    assert_eq!(stops(&report), ["maxmemory-policy"]);
    yours.run(&["replay", "-"]).with_code(3).says("noeviction");
}

#[test]
fn too_small_limits_stop_a_start_with_the_remedy() {
    let Some(yours) = Yours::start(&[("hash-max-listpack-value", "16")], &[]) else { return };
    yours.run(&["replay", "-"]).with_code(3).says("Set `hash-max-listpack-value 64`");
    let mut connection = yours.redis();
    let keys: u64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
    assert_eq!(keys, 0, "nothing was written");
}

#[test]
fn a_warning_does_not_stop() {
    let Some(yours) = Yours::start(&[("slowlog-max-len", "1")], &[]) else { return };
    let report = yours.run(&["redis-conf", "--check", "--json"]).with_code(0).json();
    let found = report["findings"].as_array().unwrap();
    assert!(found.iter().any(|f| f["subject"] == "slowlog-max-len" && f["stops"] == false), "{report}");
    yours.run(&["replay", "-"]).with_code(0);
}

#[test]
fn a_key_of_ours_that_expires_stops_the_check_and_the_next_start() {
    let Some(yours) = Yours::start(&[], &[]) else { return };
    yours.run(&["replay", "-"]).with_code(0);
    let mut connection = yours.redis();
    let set: u64 = redis::cmd("EXPIRE").arg("{rise-devnet}:outbox").arg(3600).query(&mut connection).unwrap();
    assert_eq!(set, 1);
    let report = yours.run(&["redis-conf", "--check", "--json"]).with_code(3).json();
    assert_eq!(report["keysExpiring"], 1);
    assert_eq!(report["keysExpiringNames"][0], "{rise-devnet}:outbox");
    yours.run(&["replay", "-"]).with_code(3).says("PERSIST");
    let _: u64 = redis::cmd("PERSIST").arg("{rise-devnet}:outbox").query(&mut connection).unwrap();
    // Keys of others may expire as they like.
    let _: () = redis::cmd("SET").arg("theirs").arg(1).arg("EX").arg(3600).query(&mut connection).unwrap();
    yours.run(&["replay", "-"]).with_code(0);
}

#[test]
fn postgres_without_fsync_or_full_pages_is_refused() {
    for setting in ["fsync", "full_page_writes"] {
        let Some(yours) = Yours::start(&[], &[(setting, "off")]) else { return };
        let report = yours.run(&["postgres-conf", "--check", "--json"]).with_code(3).json();
        assert_eq!(stops(&report), [setting]);
        let text = yours.run(&["postgres-conf", "--check"]).with_code(3).stdout;
        assert!(text.contains(&format!("STOP  {setting} is off, not on")), "{text}");
        let refused = yours.run(&["replay", "-", "--json"]).with_code(3);
        assert_eq!(refused.json()["error"]["kind"], "configuration");
        refused
            .says(&format!("{setting} is off, not on"))
            .says(&format!("alter system set {setting} = 'on'"));
        let made = "select from pg_roles where rolname = 'forebay_owner'";
        assert!(yours.sql(made).is_empty(), "nothing was done");
    }
}

#[test]
fn a_private_postgres_that_somebody_set_not_to_flush_is_refused() {
    let Some(place) = Place::new() else { return };
    place.replay("first", &place.blocks()[1..3]);
    let alter = |statement: &str| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let servers = PrivateServers::open(ServersOptions::new(place.data_dir())).await.unwrap();
            let config = servers.start_postgres().await.unwrap().config(SUPERUSER).unwrap();
            let (client, connection) = config.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(statement).await.unwrap();
            servers.stop().await.unwrap();
        });
    };
    alter("alter system set full_page_writes = 'off'");
    place.run(&["pop"]).with_code(3).says("full_page_writes is off, not on");
    place.assert_no_server();
    alter("alter system reset full_page_writes");
    place.run(&["pop"]).with_code(0);
}

#[test]
fn an_administrator_on_another_server_than_the_writer_is_refused() {
    let Some(yours) = Yours::start(&[], &[]) else { return };
    // Prepared data are copied, so this one has the same system identifier.
    let copy = TestOptions { redis: false, postgres_fsync: true, ..TestOptions::default() };
    let copy = yours.runtime.block_on(TestServers::with(copy)).unwrap();
    let copy = copy.postgres().connection_string(SUPERUSER).unwrap();
    // And this one a system identifier of its own.
    let options = ServersOptions::new(yours.place.data_dir());
    let (private, foreign) = yours.runtime.block_on(async {
        let private = PrivateServers::open(options).await.unwrap();
        let foreign = private.start_postgres().await.unwrap().connection_string(SUPERUSER).unwrap();
        (private, foreign)
    });
    let made = "select from pg_roles where rolname = 'forebay_owner'";
    for elsewhere in [&copy, &foreign] {
        yours.run_as(elsewhere, &["replay", "-"]).with_code(3).says("leads to another server");
        assert!(yours.sql(made).is_empty(), "nothing was done");
    }
    // Without a role there nobody can ask which server it is, before one was made here.
    let unknown = foreign.replace(&format!("user='{SUPERUSER}'"), "user='my_writer'");
    yours.run_as(&unknown, &["replay", "-"]).with_code(3).says("the writer's address is refused");
    yours.runtime.block_on(private.stop()).unwrap();
}

#[test]
fn a_file_for_a_server_of_yours_starts_one_that_passes_the_check() {
    let Some(yours) = Yours::start(&[], &[]) else { return };
    yours.place.write("node", &["a node's password".to_owned()]);
    yours.place.write("reader", &["a reader's password".to_owned()]);
    let folder = yours.place.path("redis");
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| yours.place.path(name).display().to_string();
    let text = yours
        .run(&[
            "redis-conf",
            "--port",
            "0",
            "--socket",
            &path("r.sock"),
            "--dir",
            &path("redis"),
            "--node-password-file",
            &path("node"),
            "--reader-password-file",
            &path("reader"),
        ])
        .with_code(0)
        .stdout;
    assert!(!text.contains("password\n") && text.contains("user default off"), "{text}");
    fs::write(yours.place.path("redis.conf"), &text).unwrap();
    let mut server = std::process::Command::new("redis-server")
        .arg(yours.place.path("redis.conf"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::support::until("Redis listens", || {
        std::os::unix::net::UnixStream::connect(yours.place.path("r.sock")).is_ok()
    });
    let url = format!("redis+unix://{}?user=forebay-node&pass=a%20node%27s%20password", path("r.sock"));
    let postgres = yours.servers.postgres().connection_string(SUPERUSER).unwrap();
    let all = |command: &[&'static str]| {
        let mut words: Vec<&str> = command.to_vec();
        words.extend(["--redis-url", &url, "--postgres-url", &postgres, "--postgres-admin-url", &postgres]);
        yours.place.run_here(&words)
    };
    let report = all(&["redis-conf", "--check", "--json"]);
    let replayed = all(&["replay", "-"]);
    server.kill().unwrap();
    server.wait().unwrap();
    let report = report.with_code(0).json();
    assert_eq!(report["findings"], Value::Array(Vec::new()), "{report}");
    replayed.with_code(0);
}

#[test]
fn servers_of_yours_are_planned_for_before_the_first_start() {
    let Some(yours) = Yours::start(&[], &[]) else { return };
    // Neither the writer's role nor its database is there yet.
    let admin = yours.servers.postgres().connection_string(SUPERUSER).unwrap();
    let writer = admin.replace(&format!("user='{SUPERUSER}'"), "user='my_writer'");
    assert_ne!(writer, admin);
    assert!(yours.run_as(&writer, &["redis-conf"]).with_code(0).stdout.contains("maxmemory "));
    let plan = yours.run_as(&writer, &["memory", "--json"]).json();
    assert!(plan["neededBytes"].as_u64().unwrap() > 0, "{plan}");
}

#[test]
fn what_is_for_a_server_of_yours_is_refused_beside_a_private_one_and_a_check() {
    let Some(place) = Place::new() else { return };
    for (flag, value) in
        [("--port", "7000"), ("--bind", "10.0.0.1"), ("--dir", "/x"), ("--socket", "/x/r.sock")]
    {
        let refused = place.run_here(&["redis-conf", flag, value]).with_code(3);
        assert!(refused.stdout.is_empty(), "{}", refused.stdout);
        assert!(
            refused.stderr.contains(flag) && refused.stderr.contains("--redis-url"),
            "{flag}: {}",
            refused.stderr
        );
        place.run_here(&["redis-conf", "--check", flag, value]).with_code(2).says(flag);
    }
    assert!(!place.data_dir().exists());
}

#[test]
fn what_a_server_of_yours_is_told_stands_in_its_file() {
    let Some(yours) = Yours::start(&[], &[]) else { return };
    let text = yours
        .run(&["redis-conf", "--port", "7000", "--bind", "10.0.0.1", "--dir", "/mnt/redis"])
        .with_code(0)
        .stdout;
    for line in ["port 7000", "bind 10.0.0.1", "dir \"/mnt/redis\""] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
    let usual = yours.run(&["redis-conf"]).with_code(0).stdout;
    for line in ["port 6379", "bind 127.0.0.1 -::1", "dir \"/var/lib/redis\""] {
        assert!(usual.lines().any(|found| found == line), "{line}:\n{usual}");
    }
}

#[test]
fn a_user_that_cannot_work_is_named_with_the_right_that_it_lacks() {
    let Some(yours) = Yours::start(&[], &[]) else { return };
    let mut connection = yours.redis();
    let postgres = yours.servers.postgres().connection_string(SUPERUSER).unwrap();
    let url = format!("{}?user=node&pass=x", yours.servers.redis().redis_url());
    let mut run = |rights: &[&str], command: &[&str]| {
        let mut words =
            vec!["SETUSER", "node", "reset", "on", ">x", "~{rise-devnet}:*", "~{rise-devnet.measure}:*"];
        words.extend(["+@all"].iter().chain(rights));
        let _: () = redis::cmd("ACL").arg(&words).query(&mut connection).unwrap();
        let mut all = command.to_vec();
        all.extend(["--redis-url", &url, "--postgres-url", &postgres, "--postgres-admin-url", &postgres]);
        yours.place.run_here(&all)
    };
    for (rights, missing) in [
        (&["-@transaction"][..], "+multi"),
        (&["-fcall"], "+fcall"),
        (&["-scan"], "+scan"),
        (&["-hset"], "+hset"),
        (&["resetkeys", "~{rise-testnet}:*"], "~{rise-devnet}:*"),
    ] {
        let report = run(rights, &["redis-conf", "--check", "--json"]).with_code(3).json();
        assert_eq!(report["ok"], false, "{report}");
        assert!(stops(&report).contains(&"user node"), "{report}");
        let text = run(rights, &["redis-conf", "--check"]).with_code(3).stdout;
        assert!(text.contains("STOP  user node is without ") && text.contains(missing), "{rights:?}: {text}");
        assert!(text.ends_with("a node does not start on it\n"), "{text}");
        run(rights, &["replay", "-"]).with_code(3).says("user node is without ").says(missing);
    }
    // Without CONFIG a node works, and the check says what it could not compare.
    let text = run(&["-config"], &["redis-conf", "--check"]).with_code(0).stdout;
    assert!(text.contains("warn  CONFIG GET is refused, not allowed"), "{text}");
    let text = run(&[], &["redis-conf", "--check"]).with_code(0).stdout;
    assert!(!text.contains("user node"), "{text}");
    run(&[], &["replay", "-"]).with_code(0);
}

#[test]
fn a_missing_command_is_told_in_a_sentence() {
    let Some(yours) =
        Yours::start(&[("rename-command", "XREVRANGE other"), ("rename-command", "XTRIM \"\"")], &[])
    else {
        return;
    };
    let text = yours.run(&["redis-conf", "--check"]).with_code(3).stdout;
    assert!(text.contains("STOP  command XTRIM is missing or renamed (version "), "{text}");
    assert!(text.contains("), not there\n") && !text.contains("version is version"), "{text}");
}

#[test]
fn the_memory_that_you_allow_is_written_planned_with_and_compared() {
    let Some(yours) = Yours::start(&[], &[]) else { return };
    let redis = yours.servers.redis().redis_url();
    let postgres = yours.servers.postgres().connection_string(SUPERUSER).unwrap();
    let run = |bytes: &str, command: &[&str]| {
        let genesis = yours.place.oracle.join("genesis.json");
        let output = yours
            .place
            .command(command)
            .args(["--redis-url", &redis, "--postgres-url", &postgres, "--postgres-admin-url", &postgres])
            .args(["--network", "rise-devnet", "--genesis"])
            .arg(genesis)
            .env("FOREBAY_REDIS_MEMORY_BYTES_MAX", bytes)
            .output()
            .unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    };
    let plenty = "2000000000";
    let text = run(plenty, &["redis-conf"]).with_code(0).stdout;
    assert!(text.lines().any(|line| line == "maxmemory 2000000000"), "{text}");
    let text = run(plenty, &["redis-conf", "--check"]).with_code(0).stdout;
    assert!(
        text.contains("warn  maxmemory is 0 (no limit), not at most 2000000000 (redis_memory_bytes_max)"),
        "{text}"
    );
    run(plenty, &["replay", "-"]).with_code(0).says("redis_memory_bytes_max");
    // A node plans with it, as if the server had the limit.
    run("12000000", &["replay", "-"]).with_code(9).says("redis_memory_bytes_max");
    let mut connection = yours.redis();
    let _: () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "2000000000"]).query(&mut connection).unwrap();
    let text = run(plenty, &["redis-conf", "--check"]).with_code(0).stdout;
    assert!(!text.contains("maxmemory"), "{text}");

    let report = run(plenty, &["config", "check", "--json"]).with_code(0).json();
    assert!(report["warnings"].to_string().contains("redis_memory_bytes_max"), "{report}");
}
