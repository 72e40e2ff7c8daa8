//! schemathesis reads the OpenAPI document of a running node and asks everything that it can think of.

use std::path::PathBuf;
use std::process::Command;

use crate::Serving;
use crate::support::Place;

/// As tested; a later one may know new checks.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// schemathesis in an environment of its own; `None`: Python is not here, and the test is skipped.
fn install(place: &Place) -> Option<PathBuf> {
    let folder = place.path("python");
    let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
    let there = made.as_ref().is_ok_and(|ran| ran.status.success());
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(there || !in_ci, "python3 and its venv are missing; with CI=true that is a failure: {made:?}");
    if !there {
        eprintln!("SKIPPED schemathesis: python3 with venv is not here");
        return None;
    }
    let installed =
        Command::new(folder.join("bin/pip")).args(["install", "-q", SCHEMATHESIS]).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    Some(folder.join("bin/schemathesis"))
}

#[test]
fn schemathesis_finds_no_failure_of_the_server_and_no_undocumented_answer() {
    let Some(place) = Place::new() else { return };
    let Some(program) = install(&place) else { return };
    place.replay("blocks", &place.blocks()[..120]);
    // Heights that nobody has are not waited for: that would be all that it does.
    let node = Serving::node_with(
        &place,
        &[("FOREBAY_API__WAIT_SECONDS_MAX", "0"), ("FOREBAY_API__ACCESS_LOG", "false")],
    );
    let ran = Command::new(program)
        .current_dir(place.data_dir())
        .args(["run", &format!("{}/openapi.json", node.url), "--url", &node.url])
        // A stream of events does not end.
        .args(["--exclude-path", "/v1/events"])
        .args(["--checks", "not_a_server_error,content_type_conformance,response_schema_conformance"])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--no-color"])
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{told}");
    assert_eq!(node.get("/api/blocks/getHeight").1["height"], 120);
    node.end();
}
