use forebay_servers::SUPERUSER;
use forebay_servers::testing::{TestOptions, TestServers};

use crate::support::Place;

#[test]
fn servers_of_yours_are_set_up_used_and_left_running() {
    let Some(place) = Place::new() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let servers = runtime
        .block_on(TestServers::with(TestOptions { postgres_fsync: true, ..TestOptions::default() }))
        .unwrap();
    let redis = servers.redis().redis_url();
    let admin = servers.postgres().connection_string(SUPERUSER).unwrap();
    let socket = servers.postgres().socket_dir().to_str().unwrap().to_owned();
    let port = servers.postgres().port();
    let writer = format!("host={socket} port={port} user=mine_writer password=secret-word dbname=mine");
    let file = place.write("blocks.jsonl", &place.blocks()[..40]);
    let with = |command: &[&str], more: &[&str]| {
        let mut arguments = command.to_vec();
        arguments.extend(["--redis-url", &redis, "--postgres-url", &writer]);
        arguments.extend(more);
        place.run_here(&arguments)
    };
    let replayed =
        with(&["replay", file.to_str().unwrap(), "--json"], &["--postgres-admin-url", &admin]).with_code(0);
    assert_eq!(replayed.json()["durableHeight"], 40);
    assert!(!replayed.stderr.contains("secret-word"));
    assert!(servers.redis().is_running() && servers.postgres().is_running());

    // Without the administrator, on what it made.
    let status = with(&["status", "--json"], &[]).with_code(0);
    assert_eq!(status.json()["slow"]["height"], 40);
    assert_eq!(status.json()["running"], false);
    assert!(!format!("{}{}", status.stdout, status.stderr).contains("secret-word"));
    assert_eq!(with(&["pop", "--count", "3", "--json"], &[]).with_code(0).json()["height"], 37);
    let fast = with(&["dump", "accounts", "--tier", "fast"], &[]).with_code(0).stdout;
    assert_eq!(fast, with(&["dump", "accounts", "--tier", "slow"], &[]).with_code(0).stdout);
    with(&["verify"], &[]).with_code(0);
    assert!(!place.data_dir().join("redis").exists(), "no private servers beside yours");
}
