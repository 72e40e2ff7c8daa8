use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::http::{Scrape, free_address, get, get_json};
use crate::names::{ALL, Kind};
use crate::support::{Place, asking, until};

fn part<'a>(readiness: &'a Value, name: &str) -> &'a Value {
    readiness["parts"].as_array().unwrap().iter().find(|part| part["part"] == name).unwrap()
}

#[test]
fn a_scrape_has_every_metric_with_kind_and_help_and_counts_what_was_done() {
    let Some(place) = Place::new() else { return };
    let address = free_address();
    let blocks = place.blocks();
    let node = place.start_node_with(&[("FOREBAY_METRICS_LISTEN", &address.to_string())]);
    let mut feed = node.connect();
    blocks[1..40].iter().for_each(|block| feed.send(&asking(block)));
    blocks[1..40].iter().for_each(|_| drop(feed.receive()));
    feed.ask(&json!({"op": "await", "height": 40}).to_string());
    assert_eq!(feed.ask(r#"{"op":"pop","count":2}"#)["height"], 38);
    // It follows a block that the chain does not have.
    assert_eq!(feed.ask(&asking(&blocks[45]))["error"]["kind"], "previous-block");
    // One that nobody signed is refused before the node's loop sees it.
    let mut unsigned: Value = serde_json::from_str(&asking(&blocks[38])).unwrap();
    unsigned["block"]["blockSignature"] = json!("00".repeat(64));
    assert_ne!(feed.ask(&unsigned.to_string())["accepted"], true);
    until("quantiles are there and all is durable", || {
        let scrape = Scrape::of(address);
        scrape.samples.contains_key("forebay_durable_latency_seconds{quantile=\"0.99\"}")
            && scrape.samples.get("forebay_durable_height") == Some(&38.0)
            && scrape.samples.get("forebay_requests_refused_total") == Some(&2.0)
            && scrape.samples.get("forebay_redis_memory_bytes").is_some_and(|bytes| *bytes > 0.0)
    });

    let scrape = Scrape::of(address);
    for metric in ALL {
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        let (name, help) = (metric.name, metric.help);
        assert!(scrape.text.contains(&format!("# TYPE {name} {kind}\n")), "{name}\n{}", scrape.text);
        assert!(scrape.text.contains(&format!("# HELP {name} {help}\n")), "{name}\n{}", scrape.text);
        for sample in scrape.samples.keys().filter(|sample| sample.split('{').next() == Some(name)) {
            let labels = sample.split_once('{').map_or("", |(_, labels)| labels);
            let found: Vec<_> = labels
                .split("\",")
                .filter(|label| !label.is_empty() && *label != "}")
                .map(|label| label.split('=').next().unwrap())
                .collect();
            assert_eq!(found, metric.labels, "{sample}");
        }
    }
    for sample in scrape.samples.keys() {
        let name = sample.split('{').next().unwrap();
        assert!(ALL.iter().any(|metric| metric.name == name), "{name} is not in names.rs");
    }
    // The genesis block is the node's own.
    assert_eq!(scrape.value("forebay_blocks_accepted_total"), 40.0);
    assert_eq!(scrape.value("forebay_blocks_durable_total"), 40.0);
    assert_eq!(scrape.value("forebay_blocks_taken_back_total"), 2.0);
    assert_eq!(scrape.value("forebay_operations_accepted_total"), 42.0);
    assert_eq!(scrape.value("forebay_accepted_height"), 38.0);
    assert_eq!(scrape.value("forebay_requests_refused_total"), 2.0);
    assert_eq!(scrape.value("forebay_lag_operations"), 0.0);
    assert_eq!(scrape.value("forebay_lag_operations_limit"), 1000.0);
    assert_eq!(scrape.value("forebay_redis_outbox_kept_limit"), 202.0);
    assert_eq!(scrape.value("forebay_redis_outbox_kept"), 42.0);
    assert_eq!(scrape.value("forebay_redis_blocks_kept"), 38.0);
    assert_eq!(scrape.value("forebay_phase{phase=\"ready\"}"), 1.0);
    assert_eq!(scrape.value("forebay_phase{phase=\"restore\"}"), 0.0);
    assert_eq!(scrape.value("forebay_ready"), 1.0);

    // The same beside it, for people and scripts.
    let mut status = Value::Null;
    until("the node's report follows", || {
        status = place.run(&["status", "--json"]).with_code(0).json();
        status["node"]["tips"]["acceptedHeight"] == 38
    });
    assert_eq!(status["node"]["counts"]["blocksAccepted"], 40);
    assert_eq!(status["node"]["limits"]["lagOperationsMax"], 1000);
    node.end(Signal::TERM).with_code(0);
}

#[test]
fn readiness_names_each_part_and_a_postgres_that_is_away_does_not_end_it() {
    let Some(place) = Place::new() else { return };
    let address = free_address();
    let blocks = place.blocks();
    let node = place.start_node_with(&[
        ("FOREBAY_METRICS_LISTEN", &address.to_string()),
        ("FOREBAY_DRAIN_SECONDS", "1"),
        ("FOREBAY_LIMITS__LAG_BLOCKS_MAX", "8"),
    ]);
    assert_eq!(get_json(address, "/livez").0, 200);
    let (status, readiness) = get_json(address, "/readyz");
    assert_eq!((status, &readiness["ready"]), (200, &json!(true)), "{readiness}");
    for name in ["node", "redis", "postgres", "lag", "memory"] {
        assert_eq!(part(&readiness, name)["ok"], true, "{readiness}");
    }
    assert_eq!(get(address, "/other").unwrap().0, 404);

    let _away = place.postgres_away();
    let mut feed = node.connect();
    assert_eq!(feed.ask(&asking(&blocks[1]))["accepted"], true);
    until("the trouble is seen", || part(&get_json(address, "/readyz").1, "postgres")["ok"] == false);
    let (status, readiness) = get_json(address, "/readyz");
    assert_eq!((status, &readiness["ready"]), (200, &json!(true)), "{readiness}");
    assert!(Scrape::of(address).value("forebay_failures_total{tier=\"postgres\"}") >= 1.0);

    // At the limit nothing more is taken: not ready, and it says why. It lives all the same.
    blocks[2..12].iter().for_each(|block| feed.send(&asking(block)));
    until("the limit is reached", || get_json(address, "/readyz").0 == 503);
    let (_, readiness) = get_json(address, "/readyz");
    let lag = part(&readiness, "lag");
    assert!(lag["ok"] == false && lag["reason"].as_str().unwrap().contains("at the limit"), "{readiness}");
    // Steps on their way take room already, and are lag a moment later.
    until("all of it is lag", || {
        let scrape = Scrape::of(address);
        scrape.value("forebay_lag_operations") >= scrape.value("forebay_lag_operations_limit")
    });
    let scrape = Scrape::of(address);
    assert_eq!(scrape.value("forebay_writer_pace{pace=\"waiting\"}"), 1.0);
    assert_eq!(scrape.value("forebay_ready"), 0.0);
    assert!(scrape.value("forebay_no_progress_seconds") > 0.0);
    assert_eq!(get_json(address, "/livez").0, 200);
    node.end(Signal::TERM);
}

#[test]
fn a_redis_that_stands_still_is_told_of_and_requests_are_answered_without_it() {
    let Some(place) = Place::new() else { return };
    let (metrics, api) = (free_address(), free_address());
    let node = place.start_node_with(&[("FOREBAY_METRICS_LISTEN", &metrics.to_string())]);
    let mut beside = place.command(&["api", "--listen", &api.to_string()]).spawn().unwrap();
    until("it serves, and all is durable", || {
        get(api, "/v1/status").is_some() && get_json(api, "/v1/status").1["slow"]["height"] == 1
    });
    let redis = Pid::from_raw(place.server_pids().unwrap().0).unwrap();
    kill_process(redis, Signal::STOP).unwrap();
    for _ in 0..3 {
        // A request that waits for its end is answered with 503.
        let (status, answer) = get_json(api, "/v1/status");
        let available = (&answer["fast"]["available"], &answer["slow"]["available"]);
        assert_eq!((status, available), (200, (&json!(false), &json!(true))), "{answer}");
    }
    until("the node is not ready", || get_json(metrics, "/readyz").0 == 503);
    let (_, readiness) = get_json(metrics, "/readyz");
    assert_eq!(part(&readiness, "redis")["ok"], false, "{readiness}");
    kill_process(redis, Signal::CONT).unwrap();
    until("it is ready again", || get_json(metrics, "/readyz").0 == 200);
    until("Redis is asked again", || get_json(api, "/v1/status").1["fast"]["available"] == true);
    kill_process(Pid::from_child(&beside), Signal::TERM).unwrap();
    assert!(beside.wait().unwrap().success());
    node.end(Signal::TERM).with_code(0);
}

#[test]
fn a_start_is_seen_before_its_servers_answer() {
    let Some(place) = Place::new() else { return };
    let (address, nobody) = (free_address(), free_address());
    let genesis = place.oracle.join("genesis.json");
    let mut child = place
        .command(&["run", "--network", "rise-devnet", "--genesis", genesis.to_str().unwrap()])
        .args(["--metrics-listen", &address.to_string()])
        .args([
            "--redis-url",
            &format!("redis://{nobody}"),
            "--postgres-url",
            &format!("postgresql://x@{nobody}/x"),
        ])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("it listens", || get(address, "/livez").is_some());
    until("the network is known", || Scrape::of(address).text.contains("network=\"rise-devnet\""));
    // By itself, with what it waits for.
    until("the reason is told", || get(address, "/readyz").unwrap().1.contains("waiting because of"));
    until("attempts are counted", || Scrape::of(address).value("forebay_start_failures") >= 2.0);
    let (status, readiness) = get_json(address, "/readyz");
    assert_eq!((status, &readiness["ready"]), (503, &json!(false)));
    assert!(part(&readiness, "node")["reason"].as_str().unwrap().starts_with("starting"), "{readiness}");
    assert_eq!(get_json(address, "/livez").0, 200);
    let scrape = Scrape::of(address);
    assert_eq!((scrape.value("forebay_ready"), scrape.value("forebay_phase{phase=\"ready\"}")), (0.0, 0.0));
    assert!(!scrape.samples.contains_key("forebay_lag_operations"), "nothing is invented");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
}

#[test]
fn an_address_that_is_taken_is_told_before_anything_is_started() {
    let Some(place) = Place::new() else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = place.run_here(&["run", "--metrics-listen", &address]).with_code(3);
    let port = taken.local_addr().unwrap().port();
    ended
        .says(&format!("listening for monitors on {address}"))
        .says(&format!("what to do: Another program listens on port {port}"))
        .says("--metrics-listen");
    // Not ours to take.
    let elsewhere = place.run_here(&["run", "--metrics-listen", "203.0.113.7:9464", "--json"]).with_code(3);
    assert_eq!(elsewhere.json()["error"]["kind"], "configuration");
    elsewhere.says("no address 203.0.113.7");
    place.assert_no_server();
    assert!(!place.data_dir().join("redis").exists());
}
