//! `config show` and `config check`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::support::{Ended, Place};

fn with_file(text: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let place = Place::with_oracle(PathBuf::new());
    let file = place.path("forebay.toml");
    fs::write(&file, text).unwrap();
    let output = place
        .command(arguments)
        .arg("--config")
        .arg(&file)
        .env_remove("FOREBAY_DATA_DIR")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn show_tells_each_setting_with_its_origin() {
    let file = "postgres_prefix = \"mine\"\ndrain_seconds = 5\n[limits]\nundo_kept = 300";
    let environment = [("FOREBAY_DRAIN_SECONDS", "6"), ("FOREBAY_LIMITS__GRACE_SECONDS", "7")];
    let shown =
        with_file(file, &["config", "show", "--json", "--data-dir", "/x"], &environment).with_code(0).json();
    let settings = &shown["settings"];
    assert_eq!(
        (&settings["data_dir"]["value"], &settings["data_dir"]["origin"]),
        (&"/x".into(), &"flag".into())
    );
    assert_eq!(settings["drain_seconds"]["value"], 6);
    assert_eq!(settings["drain_seconds"]["origin"], "environment variable FOREBAY_DRAIN_SECONDS");
    assert_eq!(settings["limits.grace_seconds"]["value"], 7);
    assert_eq!(settings["limits.undo_kept"]["value"], 300);
    assert!(settings["limits.undo_kept"]["origin"].as_str().unwrap().ends_with("forebay.toml"));
    assert_eq!(settings["log_format"]["value"], "auto");
    assert_eq!(settings["log_format"]["origin"], "default");
    assert!(settings["redis_url"]["value"].is_null());
}

#[test]
fn what_show_prints_is_a_configuration_with_the_same_effect() {
    let file = "postgres_prefix = \"a \\\"b\\\" \\\\ c\"\n[limits]\nundo_kept = 300";
    let shown = with_file(file, &["config", "show"], &[]).with_code(0).stdout;
    let again = with_file(&shown, &["config", "show"], &[]).with_code(0).stdout;
    let without_origins = |text: &str| {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(without_origins(&shown), without_origins(&again));
    assert!(shown.contains("undo_kept = 300"), "{shown}");
}

#[test]
fn an_unknown_key_is_an_error_that_suggests_one() {
    for (file, environment, message, remedy) in [
        ("datadir = \"x\"", None, "unknown setting \"datadir\"", "Did you mean \"data_dir\"?"),
        ("undo_kept = 5", None, "unknown setting \"undo_kept\"", "belongs below [limits]"),
        ("[limits]\ndrain_seconds = 5", None, "limits.drain_seconds", "belongs above the first [section]"),
        (
            "[limits]\nlag_block_max = 5",
            None,
            "limits.lag_block_max",
            "Did you mean \"limits.lag_blocks_max\"?",
        ),
        ("[limit]\nundo_kept = 5", None, "limit.undo_kept", "belongs below [limits]"),
        ("", Some("FOREBAY_DRAIN_SECOND"), "environment variable FOREBAY_DRAIN_SECOND", "drain_seconds"),
        ("", Some("FOREBAY_XYZZY"), "environment variable FOREBAY_XYZZY", "forebay config show"),
    ] {
        let environment: Vec<_> = environment.map(|name| (name, "1")).into_iter().collect();
        let ended = with_file(file, &["status"], &environment).with_code(3);
        assert!(ended.stderr.contains(message) && ended.stderr.contains(remedy), "{file}: {}", ended.stderr);
    }
}

#[test]
fn check_names_every_problem_and_ends_with_3() {
    let file = "datadir = \"x\"\nlog_fromat = \"json\"\n[limits]\nlag = 1";
    let report = with_file(file, &["config", "check", "--json"], &[]).with_code(3).json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["problems"].as_array().unwrap().len(), 3, "{report}");

    let file = "redis_url = \"redis://host\"\npostgres_writer_password_file = \"/nowhere/password\"";
    let report = with_file(file, &["config", "check", "--json"], &[]).with_code(3).json();
    let text = report["problems"].to_string();
    for wrong in ["belong together", "does not know its network", "/nowhere/password"] {
        assert!(text.contains(wrong), "{wrong}: {text}");
    }
}

#[test]
fn check_is_content_with_good_settings_and_warns_of_an_open_password_file() {
    let Some(place) = Place::new() else { return };
    let password = place.write("password", &["x".to_owned()]);
    let run = |mode| {
        fs::set_permissions(&password, fs::Permissions::from_mode(mode)).unwrap();
        let output = place
            .command(&["config", "check", "--json", "--network", "rise-devnet", "--genesis"])
            .arg(place.oracle.join("genesis.json"))
            .env("FOREBAY_POSTGRES_READER_PASSWORD_FILE", &password)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(run(0o640)["warnings"], serde_json::json!([]));
    assert!(run(0o644)["warnings"][0].as_str().unwrap().contains("postgres_reader_password_file"));
    assert!(!place.data_dir().exists(), "a check makes nothing");
}

#[test]
fn a_password_of_a_later_place_wins_over_a_file_of_an_earlier_one() {
    let file = "postgres_writer_password_file = \"/nowhere/password\"";
    let environment = [("FOREBAY_POSTGRES_WRITER_PASSWORD", "x")];
    let shown = with_file(file, &["config", "show", "--json"], &environment).with_code(0).json();
    assert!(shown["settings"]["postgres_writer_password_file"]["value"].is_null(), "{shown}");
    let file = "postgres_writer_password_file = \"/x\"\npostgres_writer_password = \"x\"";
    with_file(file, &["config", "show"], &[]).with_code(3).says("Give one of them");
}

/// What a node refuses, the check refuses, in the same words; and the other way round.
#[test]
fn the_check_and_a_start_refuse_the_same_values() {
    for (file, wrong) in [
        ("log = \"forebay=loud\"", "the log filter \"forebay=loud\""),
        ("drain_seconds = 9223372036854775807", "drain_seconds"),
        ("write_log_files_max = 0", "write_log_files_max must be above 0"),
        ("postgres_prefix = \"\"", "postgres_prefix"),
        ("data_dir = \" \"", "data_dir is empty or blank"),
        ("redis_url = \"host:6379\"\npostgres_url = \"host=/nowhere\"", "redis_url cannot be read"),
        ("redis_url = \"redis://host\"\npostgres_url = \"nonsense\"", "postgres_url cannot be read"),
        ("[limits]\nblocks_kept = 4294967295", "limits.blocks_kept is 4294967295"),
        ("[limits]\nblocks_kept = 9999999999", "limits.blocks_kept"),
        ("[limits]\nlag_blocks_max = 0", "limits.lag_blocks_max must be above 0"),
        ("[limits]\ntakeover_after_seconds = 9223372036854775807", "limits.takeover_after_seconds"),
        ("[api]\nconnections_max = 0", "api.connections_max must be above 0"),
        ("[api]\nrequests_max = 0", "api.requests_max must be above 0"),
        ("[api]\nrequests_max = 9223372036854775807", "api.requests_max"),
        ("[api]\nstreams_max = 0", "api.streams_max must be above 0"),
        ("[api]\npostgres_sessions_max = 0", "api.postgres_sessions_max must be above 0"),
        ("[api]\nbody_bytes_max = 0", "api.body_bytes_max must be above 0"),
        ("[api]\nrequest_timeout_seconds = 0", "api.request_timeout_seconds must be above 0"),
        ("[api]\norigins = [\"*\"]", "api.origins: \"*\""),
        (
            "[api]\norigins = [\"https://good.example\", \"wallet.example/\"]",
            "api.origins: \"wallet.example/\"",
        ),
        ("[api]\npostgres_url = \"nonsense\"", "api.postgres_url cannot be read"),
        ("[api]\ntls_key = \"/nowhere/key.pem\"", "api.tls_certificates and api.tls_key belong together"),
        ("[api]\ntls_key = \"/nowhere/k\"\ntls_certificates = \"/nowhere/c\"", "/nowhere/c"),
        ("[api]\nwrite_token = \" \"", "api.write_token is empty"),
        ("[api]\nwrite_token_file = \"/nowhere/token\"", "/nowhere/token"),
    ] {
        let report = with_file(file, &["config", "check", "--json"], &[]).with_code(3).json();
        assert!(report["problems"].to_string().contains(&wrong.replace('"', "\\\"")), "{file}: {report}");
        // The token is asked for where blocks may be given in, after the chain is known; everything else at once.
        if !file.contains("write_token") {
            with_file(file, &["run", "--listen", "127.0.0.1:0"], &[]).with_code(3).says(wrong);
        }
    }
}

#[test]
fn a_broken_rust_log_is_told_by_the_check_too() {
    let report =
        with_file("", &["config", "check", "--json"], &[("RUST_LOG", "forebay=loud")]).with_code(3).json();
    assert!(report["problems"].to_string().contains("RUST_LOG"), "{report}");
    with_file("", &["status"], &[("RUST_LOG", "forebay=loud")]).with_code(3).says("RUST_LOG");
}

#[test]
fn the_check_tells_every_problem_of_a_file_once() {
    let file = "log = \"=,=\"\ndrain_seconds = 9223372036854775807\n[limits]\nlag_bytes_max = 0\n[api]\norigins = [\"*\"]";
    let report = with_file(file, &["config", "check", "--json"], &[]).with_code(3).json();
    let problems = report["problems"].as_array().unwrap();
    // And that the data directory knows no network.
    assert_eq!(problems.len(), 5, "{report}");
    let unreadable = "redis_url = \"redis://host\"\npostgres_url = \"host=x\"\npostgres_writer_password_file = \"/nowhere/p\"";
    let report = with_file(unreadable, &["config", "check", "--json"], &[]).with_code(3).json();
    assert_eq!(report["problems"].to_string().matches("/nowhere/p").count(), 1, "{report}");
}

#[test]
fn the_check_warns_of_settings_that_say_nothing_with_these_servers() {
    let place = Place::new();
    let Some(place) = place else { return };
    let genesis = place.oracle.join("genesis.json").display().to_string();
    let chain = ["--network", "rise-devnet", "--genesis", &genesis];
    let check = |file: &str| {
        let report =
            with_file(file, &[&["config", "check", "--json"][..], &chain].concat(), &[]).with_code(0).json();
        report["warnings"].to_string()
    };
    let yours = "redis_url = \"redis://host\"\npostgres_url = \"host=x\"\n";
    assert_eq!(check(yours), "[]");
    assert!(check(&format!("{yours}redis_memory_bytes_max = 900000")).contains("redis_memory_bytes_max"));
    assert_eq!(check("redis_memory_bytes_max = 900000"), "[]");
    assert!(check(&format!("{yours}redis_server = \"/x\"")).contains("redis_server"));
    assert!(check("[api]\npostgres_url = \"host=x\"").contains("api.postgres_url"));
}
