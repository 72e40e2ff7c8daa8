//! Where the oracle's data are: what the reference node really did. They are not part of the project.

use std::path::{Path, PathBuf};

/// The oracle's directory, `../shared/oracle` beside the workspace. Without it `None`: the test that asks has said on
/// standard error that it is skipped, and returns.
///
/// ```
/// let Some(oracle) = forebay_testkit::oracle::oracle_dir() else { return };
/// assert!(oracle.join("chain/blocks.jsonl").exists());
/// ```
///
/// # Panics
/// When the data are missing and the environment says `CI=true`: there a skipped proof must not look like a pass.
pub fn oracle_dir() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    present_or_skipped(&workspace.join("../shared/oracle"), in_ci)
}

fn present_or_skipped(oracle: &Path, in_ci: bool) -> Option<PathBuf> {
    if let Ok(found) = oracle.canonicalize()
        && found.is_dir()
    {
        return Some(found);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let missing = format!("{test}: the oracle's data are not at {}", oracle.display());
    assert!(!in_ci, "{missing}; with CI=true that is a failure");
    eprintln!("SKIPPED {missing}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_are_there_are_found_and_missing_ones_skip_a_test() {
        assert!(present_or_skipped(Path::new(env!("CARGO_MANIFEST_DIR")), true).is_some());
        assert_eq!(present_or_skipped(Path::new("/nowhere/oracle"), false), None);
    }

    #[test]
    #[should_panic(expected = "with CI=true that is a failure")]
    fn missing_data_fail_a_test_in_ci() {
        present_or_skipped(Path::new("/nowhere/oracle"), true);
    }
}
