//! What a call is to write: a flat list that the functions check whole before they write any of it. What it is to read
//! has the same form.

use std::collections::HashMap;

use redis::{Cmd, Pipeline, ToRedisArgs};

use crate::keys::Keys;

/// Fields or members as Redis takes them.
pub(crate) type Fields = Vec<Vec<u8>>;
/// Fields with their values.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The keys that every call names first.
pub(crate) fn fixed_keys(keys: &Keys) -> Vec<String> {
    vec![keys.owner(), keys.meta(), keys.outbox()]
}

/// Writes in order. Each key is named once, however often it is written.
pub(crate) struct Plan {
    keys: Vec<String>,
    index: HashMap<String, usize>,
    args: Vec<Vec<u8>>,
}

impl Plan {
    pub(crate) fn new(keys: &Keys) -> Self {
        let keys = fixed_keys(keys);
        let index = keys.iter().enumerate().map(|(at, key)| (key.clone(), at + 1)).collect();
        Self { keys, index, args: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// The call's own arguments, then the plan.
    pub(crate) fn into_parts(self, mut head: Vec<Vec<u8>>) -> (Vec<String>, Vec<Vec<u8>>) {
        head.extend(self.args);
        (self.keys, head)
    }

    /// The plan as commands of a pipeline.
    pub(crate) fn append_to(&self, pipeline: &mut Pipeline) {
        self.each_command(|name, key, args| {
            let size = name.len() + key.len() + args.iter().map(Vec::len).sum::<usize>();
            let mut command = Cmd::with_capacity(2 + args.len(), size);
            command.arg(name).arg(key);
            args.iter().for_each(|arg| {
                command.arg(arg.as_slice());
            });
            pipeline.add_command(command);
        });
    }

    /// How many commands there are, at most.
    pub(crate) fn commands(&self) -> usize {
        self.args.len() / 3
    }

    /// The keys that `wanted` names and that must be of a certain type for the plan, each with that type; and by how much
    /// the plan changes a counter.
    pub(crate) fn checked_keys(&self, wanted: impl Fn(&str) -> bool) -> (Vec<(&str, &'static str)>, String) {
        let mut found: Vec<(&str, &'static str)> = Vec::new();
        let mut counted = "0".to_owned();
        self.each_command(|name, key, args| {
            let kind = match name {
                "HSET" | "HDEL" | "HINCRBY" => "hash",
                "RPUSH" | "RPOP" => "list",
                "ZADD" | "ZREM" => "zset",
                _ => return,
            };
            if let ("HINCRBY", [_, delta]) = (name, args) {
                counted = String::from_utf8_lossy(delta).into_owned();
            }
            if wanted(key) && !found.iter().any(|(known, _)| *known == key) {
                found.push((key, kind));
            }
        });
        (found, counted)
    }

    /// Calls with each command: its name, its key, its arguments.
    pub(crate) fn each_command<'a>(&'a self, mut with: impl FnMut(&'a str, &'a str, &'a [Vec<u8>])) {
        let mut rest = self.args.as_slice();
        while let [name, index, count, after @ ..] = rest {
            let number =
                |word: &[u8]| std::str::from_utf8(word).ok().and_then(|text| text.parse::<usize>().ok());
            let key = number(index).and_then(|index| self.keys.get(index.wrapping_sub(1)));
            let (args, next) =
                after.split_at_checked(number(count).unwrap_or_default()).unwrap_or((&[], &[]));
            if let (Some(key), Ok(name)) = (key, std::str::from_utf8(name)) {
                with(name, key, args);
            }
            rest = next;
        }
    }

    /// The plan as commands, each as its words.
    pub(crate) fn into_commands(self) -> Vec<Vec<Vec<u8>>> {
        let mut commands = Vec::new();
        self.each_command(|name, key, args| {
            let words = [name.as_bytes().to_vec(), key.as_bytes().to_vec()];
            commands.push(words.into_iter().chain(args.iter().cloned()).collect());
        });
        commands
    }

    fn push(&mut self, command: &str, key: String, args: impl IntoIterator<Item = Vec<u8>>) {
        let next = self.keys.len() + 1;
        let at = *self.index.entry(key.clone()).or_insert(next);
        if at == next {
            self.keys.push(key);
        }
        let start = self.args.len();
        self.args.extend([command.into(), at.to_string().into_bytes(), Vec::new()]);
        self.args.extend(args);
        let count = self.args.len() - start - 3;
        if let Some(slot) = self.args.get_mut(start + 2) {
            *slot = count.to_string().into_bytes();
        }
    }

    /// A read of a whole key. Answers come in the order of the reads.
    pub(crate) fn read_key(&mut self, command: &str, key: String) {
        self.push(command, key, []);
    }

    /// A read of a part of a key.
    pub(crate) fn read(&mut self, command: &str, key: String, args: impl ToRedisArgs) {
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
            self.push("HINCRBY", key, [field.into(), delta.to_string().into_bytes()]);
        }
    }

    pub(crate) fn set(&mut self, key: String, value: Vec<u8>) {
        self.push("SET", key, [value]);
    }

    pub(crate) fn delete(&mut self, key: String) {
        self.push("DEL", key, []);
    }

    pub(crate) fn append(&mut self, key: String, values: impl IntoIterator<Item = Vec<u8>>) {
        let args: Vec<Vec<u8>> = values.into_iter().collect();
        if !args.is_empty() {
            self.push("RPUSH", key, args);
        }
    }

    pub(crate) fn remove_last(&mut self, key: String) {
        self.push("RPOP", key, []);
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
        self.push("XTRIM", key, [id.into_bytes()]);
    }
}
