//! What a call is to write: a flat list that the functions check whole before they write any of it. What it is to read
//! has the same form.
//!
//! A block of 2,500 transfers writes some 7,000 keys: all words lie one after the other in one buffer.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use redis::{Cmd, ToRedisArgs};

use crate::keys::Keys;

/// Fields or members as Redis takes them.
pub(crate) type Fields = Vec<Vec<u8>>;
/// Fields with their values.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The keys that every call names first.
pub(crate) fn fixed_keys(keys: &Keys) -> Vec<String> {
    vec![keys.owner(), keys.meta(), keys.outbox(), keys.fence()]
}

/// Writes in order.
pub(crate) struct Plan {
    fixed: Vec<String>,
    /// Where keys are that may be written more than once, by name.
    index: HashMap<String, usize>,
    /// Keys after the fixed ones: words.
    keys: Vec<usize>,
    commands: Vec<Command>,
    words: Words,
}

/// A command: its words are those from `first_word` on, up to the next command's key.
struct Command {
    name: &'static str,
    key: usize,
    first_word: usize,
    words: usize,
}

/// Words one after the other.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    fn get(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        let to = self.ends.get(at).copied().unwrap_or(from);
        self.bytes.get(from..to).unwrap_or_default()
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }
}

/// A key's text, written into bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.as_bytes());
        Ok(())
    }
}

impl Plan {
    pub(crate) fn new(keys: &Keys) -> Self {
        let fixed = fixed_keys(keys);
        let index = fixed.iter().enumerate().map(|(at, key)| (key.clone(), at)).collect();
        Self { fixed, index, keys: Vec::new(), commands: Vec::new(), words: Words::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    fn key(&self, at: usize) -> &[u8] {
        match self.fixed.get(at) {
            Some(key) => key.as_bytes(),
            None => {
                self.keys.get(at - self.fixed.len()).map(|word| self.words.get(*word)).unwrap_or_default()
            }
        }
    }

    fn words_of<'a>(&'a self, command: &'a Command) -> impl Iterator<Item = &'a [u8]> + Clone {
        (command.first_word..command.first_word + command.words).map(|at| self.words.get(at))
    }

    /// A function's call: the plan's keys, the call's own arguments, then the plan.
    pub(crate) fn call(&self, call: &str, function: &str, own: &[Vec<u8>]) -> Cmd {
        let keys = self.fixed.len() + self.keys.len();
        // A number or a name before each word's length: more than that costs one allocation more.
        let bytes =
            self.words.bytes.len() + own.iter().map(Vec::len).sum::<usize>() + 8 * self.commands.len();
        let words = 3 + keys + own.len() + 3 * self.commands.len() + self.words.ends.len();
        let mut packed = Cmd::with_capacity(words, bytes);
        packed.arg(call).arg(function).arg(keys);
        (0..keys).for_each(|at| {
            packed.arg(self.key(at));
        });
        packed.arg(own);
        for command in &self.commands {
            packed.arg(command.name).arg(command.key + 1).arg(command.words);
            self.words_of(command).for_each(|word| {
                packed.arg(word);
            });
        }
        packed
    }

    /// About how many bytes its commands take on the wire.
    pub(crate) fn bytes(&self) -> usize {
        // Each word has its length before it, and each command its name and its number of words.
        self.words.bytes.len() + 8 * self.words.ends.len() + 32 * self.commands.len()
    }

    pub(crate) fn commands(&self) -> usize {
        self.commands.len()
    }

    /// The plan as plain commands, for a transaction.
    pub(crate) fn append_to(&self, writes: &mut Vec<Cmd>) {
        for command in &self.commands {
            let key = self.key(command.key);
            let bytes =
                command.name.len() + key.len() + self.words_of(command).map(<[u8]>::len).sum::<usize>();
            let mut packed = Cmd::with_capacity(3 + command.words, bytes);
            packed.arg(command.name).arg(key);
            if command.name == "XTRIM" {
                packed.arg("MINID");
            }
            self.words_of(command).for_each(|word| {
                packed.arg(word);
            });
            writes.push(packed);
        }
    }

    /// The plan as commands, each as its words.
    pub(crate) fn into_commands(self) -> Vec<Vec<Vec<u8>>> {
        let words_of = |command: &Command| {
            let first = [command.name.as_bytes(), self.key(command.key)];
            first.into_iter().chain(self.words_of(command)).map(<[u8]>::to_vec).collect()
        };
        self.commands.iter().map(words_of).collect()
    }

    fn push<W: AsRef<[u8]>>(&mut self, name: &'static str, key: String, args: impl IntoIterator<Item = W>) {
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None => {
                let at = self.new_key(format_args!("{key}"));
                self.index.insert(key, at);
                at
            }
        };
        let first_word = self.words.ends.len();
        for arg in args {
            self.words.push(|bytes| bytes.extend(arg.as_ref()));
        }
        let words = self.words.ends.len() - first_word;
        self.commands.push(Command { name, key: at, first_word, words });
    }

    fn new_key(&mut self, key: fmt::Arguments<'_>) -> usize {
        self.words.push(|bytes| {
            // Writing into memory does not fail.
            let _ = Text(bytes).write_fmt(key);
        });
        self.keys.push(self.words.ends.len() - 1);
        self.fixed.len() + self.keys.len() - 1
    }

    /// A command on a key that this plan names nowhere else. Its words are written by `with`; one without words is left
    /// out.
    pub(crate) fn once(
        &mut self,
        name: &'static str,
        key: fmt::Arguments<'_>,
        with: impl FnOnce(&mut Writer<'_>),
    ) {
        let at = self.new_key(key);
        let first_word = self.words.ends.len();
        with(&mut Writer { words: &mut self.words });
        let words = self.words.ends.len() - first_word;
        if words == 0 {
            self.keys.pop();
            self.words.ends.pop();
            self.words.bytes.truncate(self.words.ends.last().copied().unwrap_or_default());
        } else {
            self.commands.push(Command { name, key: at, first_word, words });
        }
    }

    /// A read of a whole key. Answers come in the order of the reads.
    pub(crate) fn read_key(&mut self, command: &'static str, key: String) {
        self.push::<Vec<u8>>(command, key, []);
    }

    /// A read of a part of a key.
    pub(crate) fn read(&mut self, command: &'static str, key: String, args: impl ToRedisArgs) {
        self.push(command, key, args.to_redis_args());
    }

    pub(crate) fn set_fields<F, V>(&mut self, key: String, pairs: impl IntoIterator<Item = (F, V)>)
    where
        F: Into<Vec<u8>>,
        V: Into<Vec<u8>>,
    {
        let args: Vec<Vec<u8>> =
            pairs.into_iter().flat_map(|(field, value)| [field.into(), value.into()]).collect();
        if !args.is_empty() {
            self.push("HSET", key, args);
        }
    }

    pub(crate) fn delete_fields<F: Into<Vec<u8>>>(
        &mut self,
        key: String,
        fields: impl IntoIterator<Item = F>,
    ) {
        let args: Vec<Vec<u8>> = fields.into_iter().map(Into::into).collect();
        if !args.is_empty() {
            self.push("HDEL", key, args);
        }
    }

    pub(crate) fn add_to_field(&mut self, key: String, field: &str, delta: i64) {
        if delta != 0 {
            self.push("HINCRBY", key, [field.to_owned(), delta.to_string()]);
        }
    }

    pub(crate) fn set(&mut self, key: String, value: Vec<u8>) {
        self.push("SET", key, [value]);
    }

    pub(crate) fn delete(&mut self, key: String) {
        self.push::<Vec<u8>>("DEL", key, []);
    }

    pub(crate) fn append(&mut self, key: String, values: impl IntoIterator<Item = Vec<u8>>) {
        let args: Vec<Vec<u8>> = values.into_iter().collect();
        if !args.is_empty() {
            self.push("RPUSH", key, args);
        }
    }

    pub(crate) fn remove_last(&mut self, key: String) {
        self.push::<Vec<u8>>("RPOP", key, []);
    }

    /// All members have the same score, so their bytes alone order them.
    pub(crate) fn add_members(&mut self, key: String, members: Vec<Vec<u8>>) {
        if !members.is_empty() {
            self.push("ZADD", key, members.into_iter().flat_map(|member| [b"0".to_vec(), member]));
        }
    }

    pub(crate) fn remove_members(&mut self, key: String, members: Vec<Vec<u8>>) {
        if !members.is_empty() {
            self.push("ZREM", key, members);
        }
    }

    /// Drops a stream's entries before an id.
    pub(crate) fn drop_entries_before(&mut self, key: String, id: String) {
        self.push("XTRIM", key, [id]);
    }
}

/// Writes the words of one command.
pub(crate) struct Writer<'a> {
    words: &'a mut Words,
}

impl Writer<'_> {
    pub(crate) fn word(&mut self, word: &[u8]) {
        self.words.push(|bytes| bytes.extend(word));
    }

    pub(crate) fn word_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.words.push(write);
    }
}
