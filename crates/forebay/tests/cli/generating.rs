use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::{Place, lines_of};

#[test]
fn a_generated_network_replays_and_the_same_seed_gives_the_same_files() {
    let place = Place::with_oracle(std::path::PathBuf::from("/nowhere"));
    let out = place.path("net");
    let generate = |out: &std::path::Path, more: &[&str]| {
        let mut arguments =
            vec!["generate", "--out", out.to_str().unwrap(), "--seed", "s", "--accounts", "50"];
        arguments.extend([
            "--delegates",
            "11",
            "--blocks",
            "40",
            "--transactions-per-block",
            "30",
            "--mix",
            "all",
            "--json",
        ]);
        arguments.extend(more);
        place.run(&arguments)
    };
    let made = generate(&out, &["--skipped-slots", "10"]).with_code(0).json();
    assert_eq!((&made["blocks"], &made["transactions"]), (&json!(40), &json!(1200)));
    assert_eq!(lines_of(&out.join("blocks.jsonl")).len(), 40);
    let secrets = fs::metadata(out.join("secrets.json")).unwrap().permissions().mode();
    assert_eq!(secrets & 0o777, 0o600);

    generate(&out, &[]).with_code(1).says("--force");
    let again = place.path("again");
    generate(&again, &["--skipped-slots", "10"]).with_code(0);
    for file in ["profile.toml", "genesis.json", "blocks.jsonl", "secrets.json"] {
        assert_eq!(fs::read(out.join(file)).unwrap(), fs::read(again.join(file)).unwrap(), "{file}");
    }
    generate(&out, &["--force", "--name", "Not A Name"]).with_code(1);

    let file = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let (blocks, profile, genesis) = (file("blocks.jsonl"), file("profile.toml"), file("genesis.json"));
    let summary = place
        .run(&[
            "replay",
            &blocks,
            "--network",
            &profile,
            "--genesis",
            &genesis,
            "--redis-profile",
            "volatile",
            "--json",
        ])
        .with_code(0)
        .json();
    assert_eq!((&summary["height"], &summary["transactions"]), (&json!(41), &json!(1200)));
    assert_eq!(summary["blockId"], made["blockId"]);
    assert_eq!(place.run(&["verify", "--deep", "--json"]).with_code(0).json()["findingsTotal"], 0);
    assert_eq!(place.dump("fast"), place.dump("slow"));
}
