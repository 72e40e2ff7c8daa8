//! The documents name tests that are there, and every file of tests is part of a program.

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

#[test]
fn every_file_of_tests_is_a_module_of_its_program() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut programs = 0;
    for entry in fs::read_dir(crates).unwrap() {
        let folder = entry.unwrap().path().join("tests");
        let Ok(program) = fs::read_to_string(folder.join("main.rs")) else { continue };
        programs += 1;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let is_file = path.extension().is_some_and(|extension| extension == "rs") && name != "main";
            // A file that nobody names would not be compiled, and nobody would notice.
            assert!(
                !is_file || program.lines().any(|line| line == format!("mod {name};")),
                "{} is not in {}",
                path.display(),
                folder.join("main.rs").display()
            );
        }
    }
    assert!(programs >= 5, "{programs}");
}
