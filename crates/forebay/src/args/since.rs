//! What `--since` takes: how long ago, or when.

use std::time::SystemTime;

/// `15min`, `2h`, `1day 6h` before `now`; `2026-01-31`, `2026-01-31 23:59:59`, `2026-01-31T23:59:59Z` in UTC.
///
/// # Errors
/// The text is neither, and what to give instead.
pub fn since(text: &str) -> Result<SystemTime, String> {
    instant_of(text, SystemTime::now())
}

fn instant_of(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        // Before any clock began means all.
        return Ok(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH));
    }
    let midnight = format!("{text} 00:00:00");
    humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339_weak(&midnight)).map_err(|_| {
        "neither how long ago nor a time; give for example 90s, 15min, 2h, 7days, or 2026-01-31, or 2026-01-31T23:59:59Z (UTC)"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn how_long_ago_and_times_in_utc_are_understood() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let now = at(1_000_000_000);
        let since = |text| instant_of(text, now).ok();
        assert_eq!(since("90s"), Some(at(999_999_910)));
        assert_eq!(since("1day 2h"), Some(at(1_000_000_000 - 93_600)));
        assert_eq!(since("99999999999999d"), Some(at(0)), "what no server's calendar knows means all");
        assert_eq!(since("1970-01-02"), Some(at(86_400)));
        assert_eq!(since("1970-01-02 00:00:01"), Some(at(86_401)));
        assert_eq!(since("1970-01-02T00:00:01Z"), Some(at(86_401)));
        for text in ["", "yesterday", "15", "2026-13-01", "2026-01-31T25:00:00Z"] {
            assert_eq!(since(text), None, "{text}");
        }
    }
}
