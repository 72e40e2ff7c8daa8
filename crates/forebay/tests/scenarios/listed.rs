//! The documents name tests that are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every test function below `crates`, as `file::function`; a `main.rs` or `mod.rs` has its folder's name.
fn tests() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut found, mut folders) = (BTreeSet::new(), vec![crates]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.file_stem().unwrap().to_str().unwrap();
                let text = fs::read_to_string(&path).unwrap();
                for line in text.lines().map(str::trim_start) {
                    let line = line.strip_prefix("async ").unwrap_or(line);
                    if let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) {
                        found.insert(format!("{file}::{name}"));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn tests_that_the_documents_name_exist() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
    let text = fs::read_to_string(page).unwrap();
    let is_test = |word: &&str| {
        word.contains("::") && !word.contains(['<', ' ', '{']) && word.starts_with(char::is_lowercase)
    };
    let named: BTreeSet<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
    let tests = tests();
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(
        named.len() > 50 && missing.is_empty(),
        "of {} tests these are not there: {missing:#?}",
        named.len()
    );
}
