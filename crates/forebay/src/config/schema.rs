//! The settings as a JSON schema, made from the code; and the list of keys that follows from it, so that names stand in
//! one place only.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Settings;

/// A setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its name, with its section: `limits.undo_kept`.
    pub path: String,
    /// What holds without it; `None`: nothing does.
    pub default: Option<Value>,
    /// Whether it is a whole number, which the environment gives as a text.
    pub is_number: bool,
}

/// The schema of the configuration file.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Settings>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), json!("forebay.toml"));
        without_null(root);
    }
    schema
}

/// Every setting, in the order of the file: sections last.
pub fn keys() -> Vec<Key> {
    let schema = schema();
    let mut keys = Vec::new();
    let mut sections = Vec::new();
    for (name, property) in properties(&schema) {
        if property.get("properties").is_some() {
            let inner =
                properties(property).map(|(inner, property)| key(format!("{name}.{inner}"), property));
            sections.extend(inner);
        } else {
            keys.push(key(name.clone(), property));
        }
    }
    keys.extend(sections);
    keys
}

fn key(path: String, property: &Value) -> Key {
    Key {
        path,
        default: property.get("default").cloned(),
        is_number: property.get("type").is_some_and(|kind| kind == "integer"),
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// TOML has no null: a key that may be left out is left out.
fn without_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if object.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
        object.remove("default");
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            without_null(property);
        }
    }
}
