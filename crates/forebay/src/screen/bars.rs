//! How bars look. A line must fit into 80 columns, or it wraps and each redraw leaves a line behind: what is wide gives way.

use std::fmt::Write;

use indicatif::{HumanCount, ProgressState, ProgressStyle};

/// What is worked on, without a count: `… starting Redis  5s`.
pub(super) const UNCOUNTED: &str = "{spinner} {msg}  {elapsed}";
/// A phase that nobody counts.
pub(super) const PHASE: &str = "{prefix} {spinner}";
/// A replay of files whose size is known, with figures of its own, which are cut off where there is no room.
pub const REPLAY: &str = "replay {bar:10} {wide_msg} {eta} left";
/// The same of a stream.
pub const REPLAY_OF_A_STREAM: &str = "replay {spinner} {wide_msg}";
/// Bytes of a file.
pub const BYTES: &str =
    "{prefix} {wide_bar} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
/// Steps: `restore ━━━━╸  3,000 of 9,000  1,000/s  6s left`.
pub const COUNTED: &str = "{prefix} {wide_bar} {human_pos} of {human_len}  {rate}  {eta} left";
/// The same of blocks.
pub const BLOCKS: &str = "{prefix} {wide_bar} {human_pos} of {human_len} blocks  {rate}  {eta} left";
/// The same of rows.
pub const ROWS: &str = "{prefix} {wide_bar} {human_pos} of {human_len} rows  {rate}  {eta} left";

/// A template as a style.
pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
        .with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
            // A text in memory takes everything.
            let _ = text.write_str(&rate(state.per_sec()));
        })
}

/// Rates above it are no measurement: nothing has taken any time yet.
const RATE_MAX: f64 = 999_999_999.0;

/// `1,235/s`; below ten with one decimal: `0.4/s`. Fourteen characters at most.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates for people")]
pub fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 9.95 {
        format!("{per_second:.1}/s")
    } else if per_second > RATE_MAX {
        format!(">{}/s", HumanCount(RATE_MAX as u64))
    } else {
        format!("{}/s", HumanCount(per_second.round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use indicatif::{ProgressBar, ProgressDrawTarget, TermLike};

    use super::*;

    #[test]
    fn rates_are_whole_unless_they_are_small() {
        for (per_second, shown) in [
            (0.0, "0/s"),
            (0.04, "0.0/s"),
            (0.44, "0.4/s"),
            (9.94, "9.9/s"),
            (9.96, "10/s"),
            (1_234.567_8, "1,235/s"),
            (f64::INFINITY, ">999,999,999/s"),
            (f64::NAN, "0/s"),
        ] {
            assert_eq!(rate(per_second), shown);
        }
    }

    const COLUMNS: u16 = 80;

    /// A terminal that keeps what is written on it.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<Vec<String>>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            COLUMNS
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.trim_end().to_owned());
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_bar_fits_into_80_columns_with_whatever_it_shows() {
        let figures = "height 12,345,678  12,345 blocks/s  1,234,567 tx/s  lag 1,000,000";
        for (template, message) in [
            (UNCOUNTED, "counting accounts and transactions in PostgreSQL"),
            (PHASE, ""),
            (REPLAY, figures),
            (REPLAY_OF_A_STREAM, figures),
            (BYTES, ""),
            (COUNTED, ""),
            (BLOCKS, ""),
            (ROWS, ""),
        ] {
            for (done, total) in [(0, 9), (3_000, 9_000), (1_234_567_890, 2_147_483_647)] {
                let paper = Paper::default();
                let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
                let bar = ProgressBar::with_draw_target(Some(total), target)
                    .with_style(style(template))
                    .with_prefix(if [BLOCKS, ROWS].contains(&template) {
                        "comparing"
                    } else {
                        "draining to PostgreSQL"
                    })
                    .with_message(message)
                    .with_elapsed(Duration::from_secs(40 * 3600));
                bar.set_position(done);
                bar.force_draw();
                let lines = paper.0.lock().unwrap().clone();
                assert!(lines.iter().any(|line| !line.is_empty()), "{template}");
                for line in lines {
                    assert!(
                        line.chars().count() <= COLUMNS.into(),
                        "{} columns: {line}",
                        line.chars().count()
                    );
                    let has_decimals = line
                        .split_whitespace()
                        .any(|word| word.ends_with("/s") && word.contains('.') && word.len() > "9.9/s".len());
                    assert!(template == BYTES || !has_decimals, "{line}");
                }
            }
        }
    }
}
