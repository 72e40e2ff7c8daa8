//! Secrets come from files and the environment, work, and are in no output.

use std::fs;
use std::path::PathBuf;

use forebay_servers::SUPERUSER;
use forebay_servers::testing::{TestOptions, TestServers};

use crate::support::Place;

/// Part of every secret here.
const SECRET: &str = "sesame";

/// Every way to give a secret, right and wrong.
const GIVEN: [&str; 9] = [
    "postgres_writer_password = \"sesame-1\"\npostgres_reader_password = \"sesame-2\"\nredis_password = \"sesame-3\"",
    "postgres_admin_password = \"sesame\"",
    "redis_url = \"redis://user:sesame@127.0.0.1:1/0\"\npostgres_url = \"postgresql://u:sesame@127.0.0.1:1/db\"\n\
     postgres_admin_url = \"host=127.0.0.1 port=1 user=u password='sesame 2'\"",
    "redis_url = \"redis+unix:///nowhere/r.sock?user=u&pass=sesame\"\npostgres_url = \"host=/nowhere password=sesame\"",
    // Of the wrong type, no text at all, twice, unknown, and lines that are no TOML.
    "postgres_writer_password = [\"sesame\"]",
    "postgres_writer_password = \"sesame",
    "postgres_writer_password = \"sesame\"\npostgres_writer_password = \"sesame\"",
    "postgres_wirter_password = \"sesame\"",
    "postgres_writer_password = sesame",
];

#[test]
fn no_command_shows_a_secret_however_it_was_given() {
    let Some(place) = Place::new() else { return };
    let genesis = place.oracle.join("genesis.json");
    let file = place.path("forebay.toml");
    for given in GIVEN {
        fs::write(&file, format!("connect_timeout_seconds = 0\n{given}")).unwrap();
        for command in [
            &["config", "show"][..],
            &["config", "show", "--json"],
            &["config", "check"],
            &["config", "check", "--json"],
            &["-vvv", "status", "--json"],
        ] {
            let output = place
                .command(command)
                .args(["--network", "rise-devnet", "--genesis"])
                .arg(&genesis)
                .arg("--config")
                .arg(&file)
                .output()
                .unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!text.contains(SECRET), "{given}\n{command:?}:\n{text}");
            assert!(!text.is_empty());
        }
    }
}

#[test]
fn secrets_of_the_environment_and_of_files_are_not_shown_either() {
    let place = Place::with_oracle(PathBuf::new());
    let file = place.write("password", &[SECRET.to_owned()]);
    for (name, value) in [
        ("FOREBAY_REDIS_PASSWORD", SECRET),
        ("FOREBAY_POSTGRES_WRITER_PASSWORD", SECRET),
        ("FOREBAY_POSTGRES_URL", "postgresql://u:sesame@host/db"),
        ("FOREBAY_POSTGRES_READER_PASSWORD_FILE", file.to_str().unwrap()),
    ] {
        for command in [&["config", "show"][..], &["config", "check"], &["-vvv", "status"]] {
            let output = place.command(command).env(name, value).output().unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!text.contains(SECRET), "{name} {command:?}:\n{text}");
        }
    }
}

#[test]
fn a_password_file_opens_redis_and_a_wrong_one_does_not() {
    let Some(place) = Place::new() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let servers = runtime
        .block_on(TestServers::with(TestOptions { postgres_fsync: true, ..TestOptions::default() }))
        .unwrap();
    let admin = servers.redis().redis_url();
    let mut connection = redis::Client::open(admin.as_str()).unwrap().get_connection().unwrap();
    let _: () = redis::cmd("ACL")
        .arg(&["SETUSER", "door", "on", ">sesame @:/?", "~*", "&*", "+@all"])
        .query(&mut connection)
        .unwrap();
    let socket = admin.split_once("://").unwrap().1.split('?').next().unwrap();
    let url = format!("redis+unix://{socket}?user=door");
    let postgres = servers.postgres().connection_string(SUPERUSER).unwrap();
    let genesis = place.oracle.join("genesis.json");
    let replay = |password: &str| {
        let file = place.write("password", &[password.to_owned()]);
        place
            .command(&[
                "replay",
                "-",
                "--redis-url",
                &url,
                "--postgres-url",
                &postgres,
                "--network",
                "rise-devnet",
            ])
            .args(["--postgres-admin-url", &postgres, "--genesis"])
            .arg(&genesis)
            .env("FOREBAY_REDIS_PASSWORD_FILE", file)
            .output()
            .unwrap()
    };
    let wrong = replay("wrong");
    assert_ne!(wrong.status.code(), Some(0), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("authentication failed"), "{wrong:?}");
    let right = replay("sesame @:/?");
    assert_eq!(right.status.code(), Some(0), "{right:?}");
}
