//! Where settings come from: file < environment < flags. Each layer is checked by itself, so that a problem names its
//! place; no message shows a value that may be a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use figment::error::Kind;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;

use super::schema::{Key, keys};
use super::secret::is_secret;
use super::suggest::suggestion;
use super::{CONFIG_VARIABLE, Settings};
use crate::exit::Told;

/// What the names of our variables start with.
const ENVIRONMENT_PREFIX: &str = "FOREBAY_";
/// What a key has after it when its value stands in a file.
const IN_A_FILE: &str = "_file";

/// Something wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, with the setting and where it was given.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// A place that settings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Environment,
    Flags,
}

impl Origin {
    /// Where a setting comes from, for who sees the setting beside it.
    fn shown(&self, path: &str) -> String {
        match self {
            Self::File(file) => file.display().to_string(),
            Self::Environment => self.of_key(path),
            Self::Flags => "flag".to_owned(),
        }
    }

    /// The same with the setting.
    fn of_key(&self, path: &str) -> String {
        match self {
            Self::File(file) => format!("{}, {path}", file.display()),
            Self::Environment => format!("environment variable {}", variable(path)),
            Self::Flags => format!("flag of {path}"),
        }
    }
}

struct Layer {
    origin: Origin,
    values: Dict,
}

/// All layers, the strongest last.
pub struct Layers(Vec<Layer>);

impl Layers {
    /// Reads the file, if there is one, and takes the others as they are.
    ///
    /// # Errors
    /// Configuration: the file cannot be read, or is no TOML.
    pub fn read(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &impl Serialize,
    ) -> anyhow::Result<Self> {
        let mut layers = Vec::new();
        if let Some(file) = file {
            layers.push(Layer { origin: Origin::File(file.to_owned()), values: read_file(file)? });
        }
        layers.push(Layer { origin: Origin::Environment, values: of_environment(environment) });
        let flags = Value::serialize(flags)?.into_dict().context("flags are names and values")?;
        layers.push(Layer { origin: Origin::Flags, values: flags });
        let mut layers = Self(layers);
        layers.let_the_later_form_win();
        Ok(layers)
    }

    /// The settings.
    ///
    /// # Errors
    /// Configuration: every problem there is.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        self.extract().map_err(|problems| as_error(&problems))
    }

    /// The settings, or all that is wrong with them.
    ///
    /// # Errors
    /// What is wrong; never empty.
    pub fn extract(&self) -> Result<Settings, Vec<Problem>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let figment = self.0.iter().fold(Figment::new(), |figment, layer| figment.merge(layer));
        figment.extract().map_err(|errors| errors.into_iter().map(|error| self.told(&error)).collect())
    }

    /// The value of a key that somebody gave, and where it was given.
    pub fn find(&self, path: &str) -> Option<(&Value, String)> {
        let layer = self.0.iter().rev().find(|layer| find(&layer.values, path).is_some())?;
        Some((find(&layer.values, path)?, layer.origin.shown(path)))
    }

    fn problems(&self) -> Vec<Problem> {
        let known = keys();
        let mut problems = Vec::new();
        for Layer { origin, values } in &self.0 {
            let given = paths(values);
            for path in given.keys() {
                if is_unknown(path, &known) {
                    problems.push(Problem {
                        message: format!("unknown setting \"{path}\" in {}", origin.of_key(path)),
                        remedy: suggestion(path, &known),
                    });
                } else if given.contains_key(&format!("{path}{IN_A_FILE}")) {
                    problems.push(Problem {
                        message: format!(
                            "both {path} and {path}{IN_A_FILE} are given in {}",
                            origin.of_key(path)
                        ),
                        remedy: "Give one of them.".to_owned(),
                    });
                }
            }
        }
        problems
    }

    /// A password of the environment wins over a password file of the configuration file, and the other way round.
    fn let_the_later_form_win(&mut self) {
        let mut pairs = Vec::new();
        for key in keys() {
            pairs.push((key.path.clone(), format!("{}{IN_A_FILE}", key.path)));
        }
        for (text, file) in pairs {
            let last = |layers: &[Layer], path: &str| {
                layers.iter().rposition(|layer| find(&layer.values, path).is_some())
            };
            match (last(&self.0, &text), last(&self.0, &file)) {
                (Some(of_text), Some(of_file)) if of_text > of_file => self.forget(&file),
                (Some(of_text), Some(of_file)) if of_file > of_text => self.forget(&text),
                _ => {}
            }
        }
    }

    fn forget(&mut self, path: &str) {
        for layer in &mut self.0 {
            match path.split_once('.') {
                None => drop(layer.values.remove(path)),
                Some((section, key)) => {
                    if let Some(Value::Dict(_, section)) = layer.values.get_mut(section) {
                        section.remove(key);
                    }
                }
            }
        }
    }

    fn told(&self, error: &figment::Error) -> Problem {
        let path = error.path.join(".");
        let given = self.0.iter().rev().find(|layer| find(&layer.values, &path).is_some());
        let place = given.map_or_else(|| path.clone(), |layer| layer.origin.of_key(&path));
        let wrong = match &error.kind {
            // The error would show what was given.
            _ if is_secret(&path) => "a text is expected (in quotes)".to_owned(),
            Kind::UnknownVariant(given, known) => format!("\"{given}\" is not one of {}", known.join(", ")),
            kind => kind.to_string(),
        };
        Problem {
            message: format!("{place}: {wrong}"),
            remedy: "Correct the setting; forebay.example.toml explains all of them.".to_owned(),
        }
    }
}

/// One failure for all of them.
pub fn as_error(problems: &[Problem]) -> anyhow::Error {
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let mut remedies: Vec<&str> = problems.iter().map(|problem| problem.remedy.as_str()).collect();
    remedies.dedup();
    Told::configuration(messages.join("\n"), remedies.join("\n")).into()
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::default()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

fn read_file(file: &Path) -> anyhow::Result<Dict> {
    let shown = file.display();
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading the configuration file {shown}"))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        // Its own text would show the line, which may hold a password.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Told::configuration(
            format!("the configuration file {shown}, line {line}, column {column}: {}", error.message()),
            "Correct the line: texts stand in quotes, key = \"value\"; numbers are whole, up to 9223372036854775807, without a unit.",
        )
    })?;
    Value::serialize(&table)?.into_dict().context("a configuration file is names and values")
}

/// Our variables as settings: `FOREBAY_LIMITS__UNDO_KEPT` is `limits.undo_kept`. All values are texts: a password of
/// digits stays what it is.
fn of_environment(variables: impl Iterator<Item = (String, String)>) -> Dict {
    let mut settings = Dict::new();
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX).filter(|_| name != CONFIG_VARIABLE) else {
            continue;
        };
        let key = key.to_ascii_lowercase();
        match key.split_once("__") {
            None => {
                settings.insert(key, Value::from(value));
            }
            Some((section, key)) => {
                let entry = settings.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
                if let Value::Dict(_, section) = entry {
                    section.insert(key.to_owned(), Value::from(value));
                }
            }
        }
    }
    settings
}

/// The variable of a setting.
pub fn variable(path: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

fn find<'a>(values: &'a Dict, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => values.get(path).filter(|value| value.as_dict().is_none()),
        Some((section, key)) => values.get(section)?.as_dict()?.get(key),
    }
}

/// Everything that is given, by its path.
fn paths(values: &Dict) -> BTreeMap<String, &Value> {
    let mut paths = BTreeMap::new();
    for (name, value) in values {
        match value.as_dict() {
            Some(section) => {
                paths.extend(section.iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            None => drop(paths.insert(name.clone(), value)),
        }
    }
    paths
}

/// A section with a value, or a value that is a section, is left to the types.
fn is_unknown(path: &str, known: &[Key]) -> bool {
    let is_key = |key: &Key| key.path == path || key.path.starts_with(&format!("{path}."));
    !known.iter().any(is_key)
}
