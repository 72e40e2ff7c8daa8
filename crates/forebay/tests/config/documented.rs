//! Schema, example and program say the same.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Place;

fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

fn anywhere() -> Place {
    Place::with_oracle(PathBuf::new())
}

/// Every setting: section (or nothing), name, what the schema says of it.
fn settings(schema: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        match property["properties"].as_object() {
            None => all.push((String::new(), name.clone(), property.clone())),
            Some(inner) => {
                all.extend(inner.iter().map(|(key, value)| (name.clone(), key.clone(), value.clone())));
            }
        }
    }
    assert!(all.len() > 30, "{}", all.len());
    all
}

#[test]
fn the_committed_schema_is_the_programs() {
    let printed = anywhere().run(&["config", "schema"]).with_code(0).stdout;
    let committed = fs::read_to_string(project("docs/config.schema.json")).unwrap();
    assert!(
        printed == committed,
        "docs/config.schema.json is not what the program says. Write it again:\n  \
         cargo run -p forebay -- config schema > docs/config.schema.json\n{printed}"
    );
}

#[test]
fn the_schema_describes_every_setting() {
    let schema = anywhere().run(&["config", "schema"]).with_code(0).stdout;
    for (section, name, property) in settings(&serde_json::from_str(&schema).unwrap()) {
        let description = property["description"].as_str().unwrap_or_default();
        assert!(description.len() > 15, "[{section}] {name}: \"{description}\"");
    }
}

#[test]
fn the_example_explains_every_setting_with_its_default() {
    let schema = anywhere().run(&["config", "schema"]).with_code(0).stdout;
    let text = fs::read_to_string(project("forebay.example.toml")).unwrap();
    // Lines of comment since the last empty line, then `#key = value`.
    let (mut section, mut comment, mut found) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        if line.is_empty() {
            comment.clear();
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, value)) = line
            .strip_prefix('#')
            .filter(|rest| !rest.starts_with(' '))
            .and_then(|rest| rest.split_once(" = "))
        {
            found.push((section.clone(), key.to_owned(), value.to_owned(), comment.clone()));
        } else {
            comment.push_str(line.trim_start_matches('#'));
        }
    }
    for (section, name, property) in settings(&serde_json::from_str(&schema).unwrap()) {
        let (_, _, value, comment) = found
            .iter()
            .find(|(of, key, _, _)| *of == section && *key == name)
            .unwrap_or_else(|| panic!("forebay.example.toml lacks [{section}] {name}"));
        assert!(
            comment.to_lowercase().contains("default"),
            "[{section}] {name}: \"{comment}\" names no default"
        );
        if let Some(default) = property.get("default") {
            assert_eq!(value, &default.to_string(), "[{section}] {name}");
        }
        found.retain(|(of, key, _, _)| *of != section || *key != name);
    }
    assert!(found.is_empty(), "forebay.example.toml has settings that there are not: {found:?}");
}

#[test]
fn the_example_is_a_file_that_is_taken() {
    let example = project("forebay.example.toml");
    anywhere().run(&["config", "show", "--config", example.to_str().unwrap()]).with_code(0);
}
