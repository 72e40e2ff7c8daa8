//! `--version`, completions, manual pages, and the versions that the project says it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::Place;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn run(arguments: &[&str]) -> String {
    Place::with_oracle(PathBuf::new()).run(arguments).with_code(0).stdout
}

#[test]
fn the_version_has_the_facts_of_the_build() {
    let text = run(&["--version"]);
    let fact = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        line.trim().to_owned()
    };
    assert!(text.starts_with(concat!("forebay ", env!("CARGO_PKG_VERSION"), "\n")), "{text}");
    assert!(fact("compiler:").starts_with("rustc "), "{text}");
    assert!(fact("target:").contains(std::env::consts::ARCH), "{text}");
    assert!(["debug", "release"].contains(&fact("profile:").as_str()), "{text}");
    let short = run(&["-V"]);
    assert_eq!(short.trim(), format!("forebay {} ({})", env!("CARGO_PKG_VERSION"), fact("commit:")));
}

/// A copy of the build script, run where the sources are not in git, and then inside of a repository of others.
#[test]
fn a_build_outside_of_git_does_not_fail_and_says_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let package = directory.path().join("unpacked/crates/forebay");
    fs::create_dir_all(&package).unwrap();
    let script = directory.path().join("build-script");
    let compiled = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "-o"])
        .arg(&script)
        .arg(workspace().join("crates/forebay/build.rs"))
        .status()
        .unwrap();
    assert!(compiled.success());
    let told = || {
        let output = Command::new(&script)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("CARGO_MANIFEST_DIR", &package)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let unknown = "cargo:rustc-env=BUILT_FROM_COMMIT=unknown";
    assert!(told().contains(unknown), "{}", told());
    let git = |arguments: &[&str]| {
        Command::new("git")
            .arg("-C")
            .arg(directory.path())
            .args(arguments)
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if git(&["init", "--quiet"]) {
        let made = git(&[
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@x",
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            "x",
        ]);
        assert!(made);
        assert!(told().contains(unknown), "another repository's commit is not ours: {}", told());
    }
}

#[test]
fn completions_know_the_commands_and_the_shell_takes_them() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert!(script.contains("restore-backup") && script.contains("data-dir"), "{shell}");
        if shell == "bash" {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &script).unwrap();
            let status = Command::new("bash").arg("-n").arg(file.path()).status().unwrap();
            assert!(status.success());
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    assert!(run(&["man"]).contains(".TH forebay 1"));
    let directory = tempfile::tempdir().unwrap();
    run(&["man", "--out", directory.path().to_str().unwrap()]);
    let help = run(&["--help"]);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()))
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands.iter().filter(|command| **command != "help") {
        let page = fs::read_to_string(directory.path().join(format!("forebay-{command}.1"))).unwrap();
        assert!(
            page.contains(".TH") && page.contains(&format!("forebay\\-{}", command.replace('-', "\\-"))),
            "{page}"
        );
    }
}

/// Cargo's resolver prefers versions that fit, and takes others without a word where there are none.
#[test]
fn no_dependency_needs_a_newer_compiler_than_the_project_says() {
    // What is built here: packages for other platforms are not even fetched.
    let compiler = Command::new("rustc").arg("-vV").output().unwrap();
    let compiler = String::from_utf8(compiler.stdout).unwrap();
    let host = compiler.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc tells its host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let version = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap());
        (parts.next().unwrap(), parts.next().unwrap_or(0))
    };
    let ours = packages.iter().find(|package| package["name"] == "forebay").unwrap();
    let stated = ours["rust_version"].as_str().expect("the project states its oldest compiler");
    for package in packages {
        if let Some(needed) = package["rust_version"].as_str() {
            assert!(
                version(needed) <= version(stated),
                "{} needs Rust {needed}, not {stated}",
                package["id"]
            );
        }
    }
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    assert!(readme.contains(&format!("Rust ({stated} or newer)")), "README.md names another oldest compiler");
}
