//! Facts for `--version`: which commit, which compiler, for what, how. A fact that cannot be had is "unknown", never a
//! reason to fail: the sources may come without git, as in a package or an image.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=FOREBAY_BUILD_COMMIT");
    tell("BUILT_FROM_COMMIT", commit());
    tell(
        "BUILT_BY_RUSTC",
        env::var_os("RUSTC").and_then(|rustc| words(Command::new(rustc).arg("--version"))),
    );
    tell("BUILT_FOR_TARGET", env::var("TARGET").ok());
    tell("BUILT_WITH_PROFILE", profile());
}

/// Not under `FOREBAY_`: cargo shows these names to tests as variables, and there they would be settings.
fn tell(name: &str, fact: Option<String>) {
    println!("cargo:rustc-env={name}={}", fact.unwrap_or_else(|| "unknown".to_owned()));
}

/// Whoever packages says it (`FOREBAY_BUILD_COMMIT`); else git does.
fn commit() -> Option<String> {
    if let Some(given) = env::var("FOREBAY_BUILD_COMMIT").ok().filter(|given| !given.is_empty()) {
        return Some(given);
    }
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let workspace = here.parent()?.parent()?;
    // Sources that were unpacked inside of another repository have no commit there.
    let top = git(workspace, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != workspace.canonicalize().ok()? {
        return None;
    }
    // The log of HEAD grows with every commit and checkout; a file that is not there would run this each time.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(workspace, &["rev-parse", "--git-path", name]).map(|path| workspace.join(path));
        if let Some(path) = path.filter(|path| path.exists()) {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(workspace, &["rev-parse", "--short=12", "HEAD"])
}

/// `target/[<triple>/]<profile>/build/forebay-<hash>/out`: cargo tells a profile of one's own only so.
fn profile() -> Option<String> {
    let out = PathBuf::from(env::var_os("OUT_DIR")?);
    let name = out.ancestors().nth(3)?.file_name()?.to_str()?.to_owned();
    Some(name)
}

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    words(Command::new("git").arg("-C").arg(directory).args(arguments))
}

fn words(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty() && !text.contains('\n')).then_some(text)
}
