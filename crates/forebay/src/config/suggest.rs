//! What somebody may have meant by a key that there is not.

use super::schema::Key;

/// Two names as near as that are one slip of the hand apart.
const SIMILARITY_MIN: f64 = 0.82;

/// A sentence for whoever gave the key.
pub fn suggestion(path: &str, known: &[Key]) -> String {
    let name = last(path);
    if let Some(key) = known.iter().find(|key| last(&key.path) == name) {
        return match key.path.split_once('.') {
            Some((section, _)) => format!("\"{name}\" belongs below [{section}]: {}.", key.path),
            None => format!("\"{name}\" belongs above the first [section] of the file."),
        };
    }
    let nearest = known
        .iter()
        .map(|key| (strsim::jaro_winkler(name, last(&key.path)), key))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((_, key)) => format!("Did you mean \"{}\"?", key.path),
        None => "`forebay config show` lists every setting, forebay.example.toml explains them.".to_owned(),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
