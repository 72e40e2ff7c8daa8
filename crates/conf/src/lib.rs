//! A server's settings as a list: each with its value, its reason, and what it means when a live server differs. Written out
//! the list is the server's file, compared with a server it is a check.
//!
//! Which settings there are, and how a server is asked, is the business of whoever knows the server: `forebay_fast::conf` for
//! Redis, `forebay_slow::conf` for PostgreSQL.

use std::fmt::Write as _;

/// Columns of a comment.
const WIDTH: usize = 118;

/// How bad a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// It costs time, memory, or somebody's patience; the node says so.
    Warn,
    /// It breaks a promise: what was accepted or durable can be lost, or the node cannot work.
    Stop,
}

/// How a live server's value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Not at all: the place, and what a server cannot be asked.
    Nothing,
    /// It must be this.
    Same(Grade),
    /// It must not be this.
    Not(&'static str, Grade),
    /// A number, at least so large.
    AtLeast(u64, Grade),
    /// The same, or 0 for "no limit".
    NoneOrAtLeast(u64, Grade),
}

impl Expect {
    /// How bad a difference is; `None`: it does not matter.
    #[must_use]
    pub fn grade(self) -> Option<Grade> {
        match self {
            Self::Nothing => None,
            Self::Same(grade)
            | Self::Not(_, grade)
            | Self::AtLeast(_, grade)
            | Self::NoneOrAtLeast(_, grade) => Some(grade),
        }
    }

    /// How bad it is that a server has `found`; `None`: it is as expected, or cannot be compared. `is_same`: whether it is the
    /// wanted value, as the server writes it. `number`: what is found as a number.
    #[must_use]
    pub fn differs(self, found: &str, is_same: bool, number: impl FnOnce() -> Option<u64>) -> Option<Grade> {
        match self {
            Self::Nothing => None,
            Self::Same(grade) => (!is_same).then_some(grade),
            Self::Not(wrong, grade) => (found == wrong).then_some(grade),
            Self::AtLeast(least, grade) => (number()? < least).then_some(grade),
            Self::NoneOrAtLeast(least, grade) => (1..least).contains(&number()?).then_some(grade),
        }
    }
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// Why it is so.
    pub reason: &'static str,
    /// How a live server is compared.
    pub expect: Expect,
    /// What happens when a server differs.
    pub risk: &'static str,
}

impl Setting {
    /// One that is compared.
    pub fn new(
        name: &'static str,
        value: impl Into<String>,
        reason: &'static str,
        expect: Expect,
        risk: &'static str,
    ) -> Self {
        Self { name, value: value.into(), reason, expect, risk }
    }
}

/// Settings that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// In the order of the file.
    pub settings: Vec<Setting>,
}

/// A difference of a live server. In a sentence: `subject` is `found`, not `expected`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// The setting, or what else it is about.
    pub subject: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
    /// What may happen.
    pub risk: String,
    /// What to do.
    pub remedy: String,
}

/// Writes sections, a reason above every setting. `line`: a setting as the server reads it.
pub fn write_sections(text: &mut String, sections: &[Section], line: impl Fn(&Setting) -> String) {
    for section in sections {
        let _ = writeln!(text, "\n# == {} ==", section.title);
        for setting in &section.settings {
            let _ = writeln!(text);
            write_comment(text, setting.reason);
            let _ = writeln!(text, "{}", line(setting));
        }
    }
}

/// Writes a comment, in as many lines as it takes.
pub fn write_comment(text: &mut String, sentence: &str) {
    let mut line = String::from("#");
    for word in sentence.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_the_grade_of_what_was_expected() {
        let stop = Some(Grade::Stop);
        for (expect, found, number, grade) in [
            (Expect::Nothing, "other", None, None),
            (Expect::Same(Grade::Stop), "wanted", None, None),
            (Expect::Same(Grade::Stop), "other", None, stop),
            (Expect::Not("off", Grade::Stop), "other", None, None),
            (Expect::Not("off", Grade::Stop), "off", None, stop),
            (Expect::AtLeast(5, Grade::Stop), "4", Some(4), stop),
            (Expect::AtLeast(5, Grade::Stop), "5", Some(5), None),
            (Expect::AtLeast(5, Grade::Stop), "none", None, None),
            (Expect::NoneOrAtLeast(5, Grade::Stop), "0", Some(0), None),
            (Expect::NoneOrAtLeast(5, Grade::Stop), "4", Some(4), stop),
            (Expect::NoneOrAtLeast(5, Grade::Stop), "5", Some(5), None),
        ] {
            assert_eq!(expect.differs(found, found == "wanted", || number), grade, "{expect:?} {found}");
        }
    }

    #[test]
    fn a_reason_stands_above_its_setting_in_lines_that_fit() {
        let long = "word ".repeat(40);
        let reason: &'static str = long.leak();
        let settings = vec![Setting::new("name", "value", reason, Expect::Nothing, "")];
        let mut text = String::new();
        write_sections(&mut text, &[Section { title: "Title", settings }], |setting| {
            format!("{} = {}", setting.name, setting.value)
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.get(1), Some(&"# == Title =="));
        assert_eq!(lines.last(), Some(&"name = value"));
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 40);
    }
}
