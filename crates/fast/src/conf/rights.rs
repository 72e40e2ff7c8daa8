//! What the node's user may do, found out without doing any of it: between `MULTI` and `DISCARD` Redis looks at the rights to
//! each command and runs none. So nobody has to be allowed to read the list of users.

use forebay_conf::Grade;
use forebay_ledger::ids::{Address, BlockId};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};

use crate::connection::FastTier;
use crate::error::FastError;
use crate::keys::Keys;

/// Rights that are missing, and what they are needed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRights {
    /// Whether a node can do without.
    pub grade: Grade,
    /// As `ACL SETUSER` takes them: `+multi`, `+client|kill`, `~{chain}:*`.
    pub rights: Vec<String>,
    /// What they are needed for.
    pub reason: &'static str,
}

/// Stands for a key of the chain.
const KEY: &str = "KEY";

/// Commands that are needed for the same thing.
struct Need {
    grade: Grade,
    reason: &'static str,
    commands: &'static [&'static str],
}

const IN_TRANSACTIONS: &str = "a block is one transaction";

const NEEDS: [Need; 8] = [
    Need {
        grade: Grade::Stop,
        reason: "functions decide whether a change may be made",
        commands: &["FCALL forebay_v1_heartbeat 1 KEY", "FCALL_RO forebay_v1_read 1 KEY"],
    },
    Need {
        grade: Grade::Stop,
        reason: "the chain is written",
        commands: &[
            "HSET KEY a b",
            "HDEL KEY a",
            "HINCRBY KEY a 1",
            "SET KEY a",
            "DEL KEY",
            "UNLINK KEY",
            "RPUSH KEY a",
            "RPOP KEY",
            "ZADD KEY 0 a",
            "ZREM KEY a",
            "XADD KEY 1-1 a b",
            "XTRIM KEY MINID 1-1",
        ],
    },
    Need {
        grade: Grade::Stop,
        reason: "the chain is read",
        commands: &[
            "GET KEY",
            "MGET KEY",
            "GETRANGE KEY 0 1",
            "HGET KEY a",
            "HMGET KEY a",
            "HGETALL KEY",
            "HLEN KEY",
            "HEXISTS KEY a",
            "LRANGE KEY 0 1",
            "XRANGE KEY - +",
            "XREVRANGE KEY + -",
            "XLEN KEY",
            "XINFO STREAM KEY",
            "ZRANGE KEY 0 1",
            "ZRANK KEY a",
            "TYPE KEY",
        ],
    },
    Need {
        grade: Grade::Stop,
        reason: "a clean finds the chain's keys, and a start looks whether some expire",
        commands: &["SCAN 0", "PTTL KEY"],
    },
    Need {
        grade: Grade::Stop,
        reason: "the server is known by its run id",
        commands: &["INFO server", "CLIENT ID"],
    },
    Need {
        grade: Grade::Stop,
        reason: "a connection that broke is ended on the server before another one is used, so that nothing comes late",
        commands: &["CLIENT KILL ID 0"],
    },
    Need {
        grade: Grade::Warn,
        reason: "what the server is and has could not be compared",
        commands: &["COMMAND INFO get", "MODULE LIST", "ACL WHOAMI", "ACL GETUSER default"],
    },
    Need {
        grade: Grade::Warn,
        reason: "keys are weighed, for the memory plan",
        commands: &["MEMORY USAGE KEY"],
    },
];

/// Commands whose second word is a part of their name.
const WITH_SUBCOMMANDS: [&str; 8] =
    ["ACL", "CLIENT", "COMMAND", "CONFIG", "FUNCTION", "MEMORY", "MODULE", "XINFO"];

/// What is asked, and the right that its refusal means.
struct Question {
    command: Cmd,
    right: String,
}

impl Question {
    /// `words`: a command, with [`KEY`] for a key.
    fn of(words: &str, key: &str) -> Self {
        let words: Vec<&str> = words.split(' ').collect();
        let mut command = Cmd::new();
        for word in &words {
            command.arg(if *word == KEY { key } else { *word });
        }
        let name = words.first().copied().unwrap_or_default();
        let subcommand = words.get(1).filter(|_| WITH_SUBCOMMANDS.contains(&name));
        let right = subcommand.map_or_else(|| format!("+{name}"), |second| format!("+{name}|{second}"));
        Self { command, right: right.to_ascii_lowercase() }
    }

    /// Whether all of these keys may be written, or read.
    fn of_keys(command: &str, keys: &[String], pattern: String) -> Self {
        let mut packed = redis::cmd(command);
        packed.arg(keys);
        Self { command: packed, right: format!("~{pattern}") }
    }
}

/// Questions with the need that each belongs to: grade and reason.
type Asked = Vec<(Grade, &'static str, Question)>;

impl FastTier {
    /// Rights that the user of this address lacks, the worst first, over a connection of its own.
    ///
    /// # Errors
    /// Unavailable.
    pub(super) async fn missing_rights(&self) -> Result<Vec<MissingRights>, FastError> {
        let doing = "ask Redis what the node's user may do";
        let mut connection = self.open_beside(doing).await?;
        let asking = async {
            let mut missing = Missing::default();
            let key = self.keys().meta();
            if !missing.opening(&mut connection, &key).await? {
                return Ok(missing);
            }
            // The next start of an empty server needs it.
            let load = if has_library(&mut connection, &key).await? { Grade::Warn } else { Grade::Stop };
            missing.asked(&mut connection, questions(self.keys(), load)).await?;
            Ok::<_, RedisError>(missing)
        };
        let missing = asking.await.map_err(|error| FastError::of_connecting(doing, error))?;
        Ok(missing.worst_first())
    }
}

/// Whether functions of ours are there. Who may not call them cannot know, and may not load them either.
async fn has_library(connection: &mut MultiplexedConnection, key: &str) -> Result<bool, RedisError> {
    let mut pipeline = Pipeline::with_capacity(1);
    pipeline.add_command(Question::of("FCALL_RO forebay_v1_read 4 KEY KEY KEY KEY", key).command);
    let answers = answers(connection, &pipeline).await?;
    Ok(!answers.iter().any(|answer| matches!(answer, Value::ServerError(error) if is_no_function(error))))
}

fn is_no_function(error: &redis::ServerError) -> bool {
    error.details().is_some_and(|text| text.contains("Function not found"))
}

fn questions(keys: &Keys, load: Grade) -> Asked {
    let key = keys.meta();
    let mut asked: Asked = Vec::new();
    for need in &NEEDS {
        asked.extend(need.commands.iter().map(|words| (need.grade, need.reason, Question::of(words, &key))));
    }
    let library = "the functions are brought to a server that does not have them";
    asked.push((load, library, Question::of("FUNCTION LIST", &key)));
    asked.push((load, library, Question::of("FUNCTION LOAD code", &key)));
    // Every kind of key that there is.
    let all = [
        keys.owner(),
        keys.fence(),
        keys.meta(),
        keys.outbox(),
        keys.account_bucket(0),
        keys.transaction_bucket(0),
        keys.long_account(Address(0)),
        keys.delegates(),
        keys.rank_vote(),
        keys.rank_weight(),
        keys.names(),
        keys.block(BlockId(0)),
        keys.heights(),
        keys.undo(1),
        keys.forgers(1),
        keys.round_blocks(),
        keys.closers(),
    ];
    for command in ["MGET", "UNLINK"] {
        let question = Question::of_keys(command, &all, keys.pattern());
        asked.push((Grade::Stop, "the chain's keys are read and written", question));
    }
    let measuring = keys.of_measurement();
    for command in ["MGET", "UNLINK"] {
        let question = Question::of_keys(command, &[measuring.meta()], measuring.pattern());
        asked.push((Grade::Warn, "`forebay memory --measure` works under a name of its own", question));
    }
    asked
}

#[derive(Default)]
struct Missing(Vec<MissingRights>);

impl Missing {
    fn add(&mut self, grade: Grade, reason: &'static str, right: String) {
        match self.0.iter_mut().find(|missing| missing.reason == reason) {
            Some(missing) if missing.rights.contains(&right) => {}
            Some(missing) => missing.rights.push(right),
            None => self.0.push(MissingRights { grade, rights: vec![right], reason }),
        }
    }

    fn worst_first(mut self) -> Vec<MissingRights> {
        self.0.sort_by_key(|missing| std::cmp::Reverse(missing.grade));
        self.0
    }

    /// The commands around a transaction; whether one can be opened and given up, so that the rest can be asked inside of one.
    async fn opening(
        &mut self,
        connection: &mut MultiplexedConnection,
        key: &str,
    ) -> Result<bool, RedisError> {
        let mut may = |words: &str, answer: Option<&Value>| {
            let question = Question::of(words, key);
            let refused = answer.and_then(|answer| lacking(answer, &question));
            let is_given = refused.is_none();
            if let Some(right) = refused {
                self.add(Grade::Stop, IN_TRANSACTIONS, right);
            }
            is_given && answer.is_some_and(|answer| !matches!(answer, Value::ServerError(_)))
        };
        // Empty transactions: whatever is refused, nothing is written.
        let mut is_open = false;
        for [first, second] in [["WATCH KEY", "UNWATCH"], ["MULTI", "DISCARD"], ["MULTI", "EXEC"]] {
            let mut pipeline = Pipeline::with_capacity(2);
            for words in [first, second] {
                pipeline.add_command(Question::of(words, key).command);
            }
            let answers = answers(connection, &pipeline).await?;
            let given = [may(first, answers.first()), may(second, answers.get(1))] == [true, true];
            if second == "DISCARD" {
                is_open = given;
            }
        }
        Ok(is_open)
    }

    /// Asks inside of a transaction that can never be done: its first command is a faulty one.
    async fn asked(
        &mut self,
        connection: &mut MultiplexedConnection,
        asked: Asked,
    ) -> Result<(), RedisError> {
        let mut opening = Pipeline::with_capacity(3);
        // One that could not be done is still open.
        opening.cmd("DISCARD").cmd("MULTI").cmd("GET");
        let opened = answers(connection, &opening).await?;
        if !matches!(opened.as_slice(), [_, Value::Okay, Value::ServerError(_)]) {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(asked.len() + 1);
        for (_, _, question) in &asked {
            pipeline.add_command(question.command.clone());
        }
        pipeline.cmd("DISCARD");
        let answers = answers(connection, &pipeline).await?;
        for ((grade, reason, question), answer) in asked.into_iter().zip(&answers) {
            if let Some(right) = lacking(answer, &question) {
                self.add(grade, reason, right);
            }
        }
        Ok(())
    }
}

/// The right that a refusal asks for. Any other refusal (full memory, a replica) is none of rights.
fn lacking(answer: &Value, question: &Question) -> Option<String> {
    let Value::ServerError(error) = answer else { return None };
    // To EXEC Redis says it behind another word.
    let is_of_rights = match error.code() {
        "NOPERM" => true,
        "EXECABORT" => error.details().is_some_and(|text| text.contains("NOPERM")),
        _ => false,
    };
    if !is_of_rights {
        return None;
    }
    // Of command and keys each is asked for by itself.
    let is_of_command = error.details().is_some_and(|text| text.contains("run the"));
    (question.right.starts_with('~') != is_of_command).then(|| question.right.clone())
}

async fn answers(
    connection: &mut MultiplexedConnection,
    pipeline: &Pipeline,
) -> Result<Vec<Value>, RedisError> {
    connection.send_packed_commands(pipeline, 0, pipeline.len()).await
}
