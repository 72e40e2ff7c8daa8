//! The units as files: what systemd itself says of them, and whether they fit the program's exit codes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const UNITS: [&str; 3] = ["forebay-postgres", "forebay-redis", "forebay"];

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// `[Section] Key=value` lines of a unit. No line of ours goes on in the next.
pub struct Unit(Vec<(String, String, String)>);

impl Unit {
    pub fn parse(text: &str) -> Self {
        let mut section = String::new();
        let mut lines = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix('[') {
                Some(name) => name.trim_end_matches(']').clone_into(&mut section),
                None => {
                    let (key, value) = line.split_once('=').unwrap();
                    lines.push((section.clone(), key.to_owned(), value.to_owned()));
                }
            }
        }
        Self(lines)
    }

    pub fn of(name: &str) -> Self {
        let file = workspace().join(format!("packaging/systemd/{name}.service"));
        Self::parse(&fs::read_to_string(file).unwrap())
    }

    pub fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(_, name, _)| name == key).map(|(_, _, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub fn one(&self, key: &str) -> &str {
        let all = self.all(key);
        assert_eq!(all.len(), 1, "{key}: {all:?}");
        all[0]
    }
}

/// As `packaging/install` lays everything down for a package.
pub fn installed(root: &Path, network: &str, genesis: &Path) {
    let status = Command::new(workspace().join("packaging/install"))
        .args(["--binary", env!("CARGO_BIN_EXE_forebay"), "--network", network, "--genesis"])
        .arg(genesis)
        .arg("--destdir")
        .arg(root)
        .status()
        .unwrap();
    assert!(status.success());
}

fn codes(unit: &Unit, key: &str) -> Vec<i32> {
    unit.one(key).split(' ').map(|code| code.parse().unwrap()).collect()
}

#[test]
fn no_unit_has_a_limit_of_starts_and_each_comes_back_by_itself() {
    for name in UNITS {
        let unit = Unit::of(name);
        assert_eq!(unit.one("StartLimitIntervalSec"), "0", "{name}");
        assert_eq!(unit.one("Type"), "notify", "{name}");
        assert!(["always", "on-failure"].contains(&unit.one("Restart")), "{name}");
        assert_ne!(unit.one("RestartSec"), "0", "{name}");
    }
}

#[test]
fn the_node_is_started_again_unless_a_person_has_to_do_something_first() {
    let unit = Unit::of("forebay");
    assert_eq!(codes(&unit, "RestartPreventExitStatus"), [2, 3, 6, 9]);
    assert_eq!(codes(&unit, "SuccessExitStatus"), [129, 130, 143]);
    // The runbook has every code, and says the same of it.
    let runbook = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let table = fs::read_to_string(workspace().join("docs/cli.md")).unwrap();
    let documented: Vec<i32> = table
        .split("## Exit codes")
        .nth(1)
        .unwrap()
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|codes| codes.split(", ").filter_map(|code| code.parse().ok()).collect::<Vec<i32>>())
        .collect();
    assert!(documented.len() > 10, "{documented:?}");
    for code in documented.into_iter().filter(|code| *code != 0) {
        let row = runbook
            .lines()
            .find(|line| line.starts_with(&format!("| {code} ")))
            .unwrap_or_else(|| panic!("docs/operations.md has no row for exit code {code}"));
        let comes_back = ![2, 3, 6, 9, 129, 130, 143, 5].contains(&code);
        assert_eq!(row.contains("| yes |"), comes_back, "{row}");
    }
}

#[test]
fn a_stop_of_the_node_reaches_no_server() {
    let node = Unit::of("forebay");
    for key in ["Requires", "BindsTo", "PartOf", "PropagatesStopTo", "Upholds"] {
        assert!(node.all(key).is_empty(), "forebay.service: {key}");
        for server in ["forebay-redis", "forebay-postgres"] {
            assert!(Unit::of(server).all(key).is_empty(), "{server}.service: {key}");
        }
    }
    let users: Vec<String> = UNITS.iter().map(|name| Unit::of(name).one("User").to_owned()).collect();
    assert_eq!(users, ["forebay-postgres", "forebay-redis", "forebay"]);
}

#[test]
fn the_runbook_has_every_alert_and_no_other() {
    let Ok(rules) = fs::read_to_string(workspace().join("dashboards/forebay-alerts.yml")) else {
        eprintln!("SKIPPED there are no alert rules");
        return;
    };
    let rules: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let runbook = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let rows = runbook.lines().filter(|line| line.starts_with("| `Forebay"));
    let told: BTreeSet<&str> = rows
        .flat_map(|row| row.split(" | ").next().unwrap().split('`'))
        .filter(|name| name.starts_with("Forebay"))
        .collect();
    assert!(!rules.is_empty());
    assert_eq!(rules, told);
}

/// A machine without systemd's tools cannot say anything; CI's setup installs them.
fn systemd_analyze() -> Option<Command> {
    let there =
        Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "systemd-analyze is missing; scripts/setup installs it"
    );
    if !there {
        eprintln!("SKIPPED systemd-analyze is not installed");
    }
    there.then(|| Command::new("systemd-analyze"))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(mut analyze) = systemd_analyze() else { return };
    let root = tempfile::tempdir().unwrap();
    let place = crate::support::Place::with_oracle(PathBuf::new());
    let (profile, genesis) = crate::scripts::generated(&place);
    installed(root.path(), profile.to_str().unwrap(), &genesis);
    // What units of the system itself would be, and the programs that are only looked for.
    for target in ["multi-user", "network-online", "local-fs", "sysinit", "basic", "shutdown"] {
        let file = root.path().join(format!("usr/lib/systemd/system/{target}.target"));
        fs::write(file, "[Unit]\nDescription=of the system\nDefaultDependencies=no\n").unwrap();
    }
    fs::copy("/bin/true", root.path().join("usr/bin/redis-server")).unwrap();
    fs::create_dir_all(root.path().join("bin")).unwrap();
    fs::copy("/bin/true", root.path().join("bin/kill")).unwrap();
    let root = format!("--root={}", root.path().display());
    analyze.args(["verify", "--man=no", &root]).args(UNITS.map(|name| format!("{name}.service")));
    let output = analyze.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_sandbox_leaves_little_open() {
    for name in UNITS {
        let Some(mut analyze) = systemd_analyze() else { return };
        let file = workspace().join(format!("packaging/systemd/{name}.service"));
        // Of 100; a unit without any of it has 96. PostgreSQL compiles queries, so it has one point more.
        analyze.args(["security", "--offline=true", "--threshold=30", "--no-pager"]).arg(&file);
        let output = analyze.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
