//! What must not be shown, and where it is read from. A setting is a secret by its name: one that is forgotten here would
//! have to be called otherwise on purpose.

use std::path::Path;

use anyhow::Context as _;

use crate::exit::Told;

/// Stands where a secret is.
pub const HIDDEN: &str = "(hidden)";

/// Whether a setting is a secret itself.
pub fn is_secret(path: &str) -> bool {
    ["password", "token", "secret"].iter().any(|kind| path.ends_with(kind))
}

/// A text of a setting as it may be shown.
pub fn shown(path: &str, text: &str) -> String {
    if is_secret(path) {
        HIDDEN.to_owned()
    } else if path.ends_with("_url") {
        without_password(text)
    } else {
        text.to_owned()
    }
}

/// An address without what may be a password in it; rather too little than too much.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // PostgreSQL's other form, name=value …
        return if url.contains("pass") { HIDDEN.to_owned() } else { url.to_owned() };
    };
    // A password with an @ that nobody encoded ends at the last one.
    let rest = match rest.rsplit_once('@') {
        None => rest.to_owned(),
        Some((user, place)) => match user.split_once(':') {
            None => rest.to_owned(),
            Some((user, _)) => format!("{user}:{HIDDEN}@{place}"),
        },
    };
    match rest.split_once('?') {
        Some((place, query)) if query.contains("pass") => format!("{scheme}://{place}?{HIDDEN}"),
        _ => format!("{scheme}://{rest}"),
    }
}

/// A secret that is given as a text or as a file.
///
/// # Errors
/// The file cannot be read, or is empty.
pub fn password(given: Option<&String>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(file) = file.filter(|_| given.is_none()) else { return Ok(given.cloned()) };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading the password file {}", file.display()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        let message = format!("the password file {} is empty", file.display());
        return Err(
            Told::configuration(message, "Write the password into it, or leave the setting out.").into()
        );
    }
    Ok(Some(text.to_owned()))
}

/// Redis' address with a password.
///
/// # Errors
/// Configuration: there is one already.
pub fn with_password(url: &str, password: &str) -> anyhow::Result<String> {
    let twice = || {
        let remedy = "Take it out of redis_url, or leave redis_password and redis_password_file out.";
        Told::configuration("redis_url holds a password already", remedy)
    };
    let password = percent_encoded(password);
    let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
    if scheme.ends_with("unix") {
        if rest.contains("pass=") {
            return Err(twice().into());
        }
        let joint = if rest.contains('?') { '&' } else { '?' };
        return Ok(format!("{scheme}://{rest}{joint}pass={password}"));
    }
    let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    if user.contains(':') {
        return Err(twice().into());
    }
    Ok(format!("{scheme}://{user}:{password}@{place}"))
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_shows_its_password() {
        for url in [
            "redis://:PASSWORD@host:6379/0",
            "rediss://user:PASS@WORD/PASSWORD@host",
            "redis+unix:///run/redis.sock?user=node&pass=PASSWORD",
            "postgresql://user:PASSWORD@host/db",
            "postgresql://host/db?user=u&password=PASSWORD",
            "host=localhost password='PASS WORD' user=u",
        ] {
            let text = shown("redis_url", url);
            assert!(!text.contains("PASS") && !text.contains("WORD"), "{text}");
        }
        assert_eq!(shown("redis_url", "redis://user:x@host:1/0"), "redis://user:(hidden)@host:1/0");
        assert_eq!(shown("postgres_url", "postgresql://u@host/db"), "postgresql://u@host/db");
        assert_eq!(shown("api.write_token", "x"), HIDDEN);
        assert_eq!(shown("postgres_writer_password_file", "/x"), "/x");
    }

    #[test]
    fn a_password_goes_into_each_form_of_redis_address_as_the_client_reads_it() {
        use redis::IntoConnectionInfo as _;
        for (url, user) in [
            ("redis://host:1/0", None),
            ("redis://node@host:1/0", Some("node")),
            ("redis+unix:///run/r.sock?user=node", Some("node")),
            ("unix:///run/r.sock", None),
        ] {
            let info = with_password(url, "a b@c/ä?&").unwrap().into_connection_info().unwrap();
            assert_eq!(info.redis_settings().password(), Some("a b@c/ä?&"), "{url}");
            assert_eq!(info.redis_settings().username(), user, "{url}");
        }
        for url in ["redis://:x@host", "unix:///r.sock?pass=x"] {
            assert!(with_password(url, "y").is_err());
        }
    }
}
