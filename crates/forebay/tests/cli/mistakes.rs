use crate::support::{Place, is_alive, until};

fn nowhere() -> Place {
    Place::with_oracle(std::path::PathBuf::from("/nowhere"))
}

#[test]
fn wrong_arguments_are_usage_and_help_names_the_exit_codes() {
    let place = nowhere();
    for arguments in [
        vec!["fly"],
        vec!["replay"],
        vec!["pop", "--count", "1", "--to-height", "2"],
        vec!["dump", "accounts"],
    ] {
        place.run(&arguments).with_code(2);
    }
    let help = place.run(&["--help"]).with_code(0).stdout;
    for text in ["Exit codes", "verification failed", "replay", "--data-dir"] {
        assert!(help.contains(text), "{text}:\n{help}");
    }
    assert!(!place.data_dir().exists());
}

#[test]
fn wrong_settings_are_told_with_their_place() {
    let place = nowhere();
    let file = place.write("forebay.toml", &["drain_secondz = 3".to_owned()]);
    place
        .run(&["status", "--config", file.to_str().unwrap()])
        .with_code(3)
        .says("drain_secondz")
        .says("forebay.toml");
    place.run(&["status", "--config", "/nowhere/forebay.toml"]).with_code(3).says("/nowhere/forebay.toml");
    place.run(&["status", "--redis-url", "redis://localhost"]).with_code(3).says("postgres_url");
    let mut command = place.command(&["status"]);
    let output = command.env("FOREBAY_DRAIN_SECONDS", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!place.data_dir().exists());
}

#[test]
fn a_data_directory_without_a_network_and_one_with_another_are_told() {
    let Some(place) = Place::new() else { return };
    place.run(&["status"]).with_code(3).says("--network");
    place.run(&["run", "--network", "rise-devnet"]).with_code(3).says("--genesis");
    place.run(&["run", "--network", "rise-nonet"]).with_code(3).says("rise-mainnet");
    place.run_here(&["status"]).with_code(3).says("no chain yet");
    let genesis = place.oracle.join("genesis.json").display().to_string();
    for network in ["rise-mainnet", "rise-testnet"] {
        place.run(&["config", "check", "--network", network, "--genesis", &genesis]).with_code(3);
        place
            .run(&["run", "--network", network, "--genesis", &genesis])
            .with_code(3)
            .says("is not the genesis block of");
    }
    assert!(!place.data_dir().exists(), "a read makes nothing");
    place.run_here(&["replay", "/nowhere/blocks.jsonl"]).with_code(1).says("/nowhere/blocks.jsonl");
    assert!(!place.data_dir().exists(), "a missing file is told before anything starts");

    place.replay("blocks.jsonl", &place.blocks()[..3]);
    place.run(&["status", "--network", "rise-mainnet"]).with_code(3).says("rise-devnet").says("rise-mainnet");
    let blocks = place.blocks();
    let file = place.write(
        "other-genesis.json",
        &[blocks[0].replacen("16985986483000875063", "16985986483000875064", 1)],
    );
    place.run(&["pop", "--genesis", file.to_str().unwrap()]).with_code(3).says("genesis block");
    place.run_here(&["status"]).with_code(0);
}

#[test]
fn servers_that_are_away_end_with_their_own_code_after_the_given_time() {
    let Some(place) = Place::new() else { return };
    let file = place.write("blocks.jsonl", &place.blocks()[..3]);
    let yours = [
        "--redis-url",
        "redis://127.0.0.1:1/",
        "--postgres-url",
        "postgresql://u:geheim@127.0.0.1:1/d",
        "--connect-timeout",
        "1",
    ];
    for command in
        [vec!["replay", file.to_str().unwrap()], vec!["status"], vec!["dump", "accounts", "--tier", "slow"]]
    {
        let arguments: Vec<&str> = command.into_iter().chain(yours).collect();
        let ended = place.run_here(&arguments).with_code(4);
        assert!(!ended.stderr.contains("geheim"), "no password is shown:\n{}", ended.stderr);
    }
}

#[test]
fn a_feed_socket_that_cannot_be_made_is_told_before_anything_starts() {
    let Some(place) = Place::new() else { return };
    place.run_here(&["run", "--feed", "/nowhere/feed.sock"]).with_code(3).says("/nowhere");
    let file = place.write("feed.sock", &[]);
    place.run_here(&["run", "--feed", file.to_str().unwrap()]).with_code(3).says("another kind");
    assert!(!place.data_dir().exists());
}

#[test]
fn a_benchmark_of_nothing_is_refused_before_it_measures() {
    let place = nowhere();
    for (option, value, says) in [
        ("--repeats", "0", "--repeats"),
        ("--transactions", "0", "--transactions"),
        ("--seconds", "0", "--seconds"),
        ("--seconds", "nan", "--seconds"),
        ("--block-size", "0", "--block-size"),
        ("--load", "uniform:0", "2 to 10000000 accounts"),
        ("--load", "uniform:4000000000", "2 to 10000000 accounts"),
        ("--load", "nonsense", "uniform:ACCOUNTS"),
        ("--restore", "0:5", "each at least 1"),
        ("--restore", "5", "ACCOUNTS:TRANSACTIONS"),
    ] {
        place.run(&["bench", "accept", option, value]).with_code(2).says(option).says(says);
    }
    let nowhere = place.data_dir().join("nowhere/report.html");
    place.run(&["bench", "accept", "--report", nowhere.to_str().unwrap()]).says("nowhere");
    let servers = place.data_dir().join("nowhere/servers");
    let arguments = ["bench", "accept", "--quick", "--dir", servers.to_str().unwrap()];
    place.run(&arguments).with_code(3).says("nowhere/servers").says("Choose another directory with --dir");
    assert!(!place.data_dir().exists());
}

#[test]
fn a_benchmark_that_cannot_start_leaves_nothing() {
    let place = nowhere();
    // A Redis that is too old; PostgreSQL is running by then.
    let program = place.write("redis-server", &["#!/bin/sh\necho 'Redis server v=5.0.14 sha=0'".to_owned()]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let folder = program.parent().unwrap().to_owned();
    let (report, directory) = (folder.join("report.html"), folder.join("servers"));
    let arguments = ["bench", "accept", "--quick", "--transactions", "50"];
    let mut command = place.command(&arguments);
    command.arg("--report").arg(&report).arg("--dir").arg(&directory);
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command.env("PATH", format!("{}:{path}", folder.display())).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("Install a newer redis-server"), "{told}");
    assert!(!report.exists() && !directory.exists());
}

#[test]
fn a_benchmark_that_is_interrupted_twice_leaves_nothing() {
    let place = nowhere();
    let folder = place.path("b");
    let report = place.path("report.html");
    let mut command = place.command(&["bench", "accept", "--quick"]);
    command.arg("--report").arg(&report).arg("--dir").arg(&folder);
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let server = || {
        let text = std::fs::read_to_string(folder.join("durable/redis/redis.pid")).ok()?;
        text.trim().parse::<i32>().ok()
    };
    until("its servers run", || server().is_some());
    let server = server().unwrap();
    for _ in 0..2 {
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        // Two of one kind that come together count as one.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{told}");
    assert!(!is_alive(server) && !folder.exists() && !report.exists(), "{told}");
}

#[test]
fn what_is_missing_of_a_data_directory_is_named() {
    let Some(place) = Place::new() else { return };
    place.replay("blocks.jsonl", &place.blocks()[..3]);
    let file = place.data_dir().join("nowhere/backup");
    place.run(&["backup", file.to_str().unwrap()]).with_code(3).says("nowhere is no directory");

    let genesis = place.data_dir().join("chain/genesis.json");
    let kept = genesis.with_extension("kept");
    std::fs::rename(&genesis, &kept).unwrap();
    place.run(&["status"]).with_code(3).says("genesis.json is missing").says("Copy the genesis block");
    std::fs::rename(&kept, &genesis).unwrap();

    let data = place.data_dir().join("postgres/data");
    std::fs::rename(data.join("PG_VERSION"), data.join("kept")).unwrap();
    place.run(&["status"]).with_code(3).says("holds no PostgreSQL data");
    std::fs::rename(data.join("kept"), data.join("PG_VERSION")).unwrap();

    let (postgres, aside) = (place.data_dir().join("postgres"), place.data_dir().join("aside"));
    std::fs::rename(&postgres, &aside).unwrap();
    place.run(&["status"]).with_code(3).says("Redis' files and none of PostgreSQL's").says("restore-backup");
    std::fs::rename(&aside, &postgres).unwrap();
    place.run(&["account", "1R"]).with_code(1);
}
