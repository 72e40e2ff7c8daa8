//! A live server against the list.

use std::collections::HashMap;

use forebay_conf::{Expect, Finding, Grade, Setting};
use redis::Value;

use super::{MissingRights, RedisConf};
use crate::connection::FastTier;
use crate::error::FastError;
use crate::facts::ServerFacts;

/// Commands that the node is made of: a server is accepted if it has them, whatever it is called.
const COMMANDS: [(&str, &str); 11] = [
    ("FUNCTION", "functions decide whether a change may be made"),
    ("FCALL", "functions decide whether a change may be made"),
    ("WATCH", "a block is one transaction"),
    ("MULTI", "a block is one transaction"),
    ("FCALL_RO", "reads at one point of the chain's history"),
    ("XADD", "the outbox is a stream"),
    ("XTRIM", "the outbox is trimmed"),
    ("UNLINK", "keys are freed in the background"),
    ("SCAN", "a clean finds the chain's keys"),
    ("MEMORY", "keys are weighed"),
    ("INFO", "the server is known by its run id"),
];

/// Modules that run code of their own over keys of others, or make them expire.
const MODULES_THAT_EXPIRE: [&str; 3] = ["gears", "expire", "ttl"];

/// Everything that is asked of a live server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveServer {
    /// From `INFO`.
    pub facts: ServerFacts,
    /// From `CONFIG GET *`; `None`: it does not say, as hosted servers.
    pub settings: Option<HashMap<String, String>>,
    /// Names of modules that are loaded.
    pub modules: Vec<String>,
    /// Commands of ours that it does not have.
    pub missing_commands: Vec<&'static str>,
    /// Whom the address logs in as.
    pub user: String,
    /// What that user may not do.
    pub missing_rights: Vec<MissingRights>,
    /// Whether it is a member of a cluster.
    pub is_cluster: bool,
    /// Whether everybody who reaches it may do everything.
    pub is_open: bool,
    /// Whether the user `default` has all rights, on or off; `None`: it does not say.
    pub default_has_all_rights: Option<bool>,
}

impl FastTier {
    /// Asks a server everything that a check compares. What it may not or cannot say stays unknown.
    ///
    /// # Errors
    /// Unavailable.
    pub async fn live_server(&self) -> Result<LiveServer, FastError> {
        let doing = "ask Redis how it is set up";
        let facts = self.server_facts().await?;
        let mut names = redis::cmd("COMMAND");
        names.arg("INFO");
        COMMANDS.iter().for_each(|(name, _)| {
            names.arg(*name);
        });
        let mut config = redis::cmd("CONFIG");
        config.arg("GET").arg("*");
        let settings = self.ask::<HashMap<String, String>>(doing, &config).await.ok();
        let mut modules = redis::cmd("MODULE");
        modules.arg("LIST");
        let modules =
            self.ask::<Value>(doing, &modules).await.map(|list| module_names(&list)).unwrap_or_default();
        let missing_commands = match self.ask::<Vec<Value>>(doing, &names).await {
            Ok(infos) => COMMANDS
                .iter()
                .zip(infos)
                .filter(|(_, info)| matches!(info, Value::Nil))
                .map(|((name, _), _)| *name)
                .collect(),
            Err(_) => Vec::new(),
        };
        let mut whoami = redis::cmd("ACL");
        whoami.arg("WHOAMI");
        let user: Option<String> = self.ask(doing, &whoami).await.ok();
        let mut default = redis::cmd("ACL");
        default.arg("GETUSER").arg("default");
        let default = self.ask::<HashMap<String, Value>>(doing, &default).await.ok();
        let settings_say = |name: &str| settings.as_ref().and_then(|settings| settings.get(name)).cloned();
        let has_port = settings_say("port").is_some_and(|port| port != "0");
        let no_password = settings_say("requirepass").is_some_and(|password| password.is_empty());
        Ok(LiveServer {
            is_cluster: settings_say("cluster-enabled").as_deref() == Some("yes"),
            default_has_all_rights: default.as_ref().map(has_all_rights),
            is_open: has_port && no_password && user.as_deref() == Some("default"),
            facts,
            settings,
            modules,
            missing_commands,
            user: self.user().to_owned(),
            missing_rights: self.missing_rights().await?,
        })
    }
}

/// `commands` says `+@all`, `keys` says `~*`, as text.
fn has_all_rights(user: &HashMap<String, Value>) -> bool {
    let says = |field: &str, right: &str| match user.get(field) {
        Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).split(' ').any(|word| word == right),
        Some(Value::SimpleString(text)) => text.split(' ').any(|word| word == right),
        _ => false,
    };
    says("commands", "+@all") && says("keys", "~*")
}

fn module_names(list: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    };
    let Value::Array(modules) = list else { return Vec::new() };
    let name = |module: &Value| match module {
        Value::Array(parts) => {
            let at = parts.iter().position(|part| text(part) == "name")?;
            parts.get(at + 1).map(text)
        }
        Value::Map(pairs) => pairs.iter().find(|(key, _)| text(key) == "name").map(|(_, value)| text(value)),
        _ => None,
    };
    modules.iter().filter_map(name).collect()
}

impl RedisConf {
    /// What the server does differently, the worst first.
    #[must_use]
    pub fn check(&self, live: &LiveServer) -> Vec<Finding> {
        let mut findings = of_kind(live);
        for section in self.settings() {
            findings.extend(section.settings.iter().filter_map(|setting| compare(setting, live)));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
        findings
    }
}

/// What is no setting: the kind of server, its commands, its modules.
fn of_kind(live: &LiveServer) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut stop = |subject: &str, expected: &str, found: String, risk: &str, remedy: &str| {
        findings.push(finding(Grade::Stop, subject, expected, found, risk, remedy));
    };
    for name in &live.missing_commands {
        let reason = COMMANDS.iter().find(|(command, _)| command == name).map_or("", |(_, reason)| *reason);
        stop(
            &format!("command {name}"),
            "there",
            format!("missing or renamed (version {})", live.facts.version),
            reason,
            "Use Redis 7.0 or later, or Valkey, without renamed commands.",
        );
    }
    if !live.facts.is_primary {
        let remedy = "Give the address of the primary.";
        stop("role", "a primary", "a replica".to_owned(), "it refuses writes, and may be behind", remedy);
    }
    if live.facts.aof_enabled && live.default_has_all_rights == Some(false) {
        stop(
            "user default",
            "off with all of them (off ~* &* +@all)",
            "without some rights".to_owned(),
            "Redis loads the append-only file as this user and drops every transaction that it may not do: after a restart \
             what was acknowledged is gone",
            "ACL SETUSER default off ~* &* +@all, and the same in its configuration.",
        );
    }
    for missing in &live.missing_rights {
        findings.push(of_rights(&live.user, missing));
    }
    for module in &live.modules {
        let name = module.to_ascii_lowercase();
        let grade = if MODULES_THAT_EXPIRE.iter().any(|part| name.contains(part)) {
            Grade::Stop
        } else {
            Grade::Warn
        };
        findings.push(finding(
            grade,
            "module",
            "none",
            module.clone(),
            "a module can expire or change keys of the chain behind the node's back",
            "Take its loadmodule line out, and start the server again; or use a server of the chain's own.",
        ));
    }
    if live.is_cluster {
        findings.push(finding(
            Grade::Warn,
            "cluster-enabled",
            "no",
            "yes".to_owned(),
            "the chain is on one slot: its node must be given, and a move of the slot stops Forebay",
            "Give the address of the node that has the chain's slot, or a server of its own.",
        ));
    }
    if live.settings.is_none() {
        findings.push(finding(
            Grade::Warn,
            "CONFIG GET",
            "allowed",
            "refused".to_owned(),
            "what this server does could not be compared",
            "Allow +config|get for the node's user, or ask whoever hosts the server.",
        ));
    }
    if live.is_open {
        findings.push(finding(
            Grade::Warn,
            "user default",
            "off",
            "on, over TCP, without a password".to_owned(),
            "whoever reaches the port can empty the server",
            "Take the users of `forebay redis-conf --node-password-file … --reader-password-file …`.",
        ));
    }
    findings
}

fn of_rights(user: &str, missing: &MissingRights) -> Finding {
    let rights = missing.rights.join(" ");
    finding(
        missing.grade,
        &format!("user {user}"),
        "with all rights of a node",
        format!("without {rights}"),
        missing.reason,
        &format!(
            "ACL SETUSER {user} {rights}, and the same in the server's configuration. `forebay redis-conf \
             --node-password-file … --reader-password-file …` writes a whole user."
        ),
    )
}

fn compare(setting: &Setting, live: &LiveServer) -> Option<Finding> {
    let found = match (setting.name, live.settings.as_ref()) {
        // INFO says it too, where CONFIG is forbidden.
        ("maxmemory-policy", _) => live.facts.eviction_policy.clone(),
        ("maxmemory", _) => live.facts.memory_bytes_max.to_string(),
        (name, Some(settings)) => settings.get(name)?.clone(),
        (_, None) => return None,
    };
    let wanted = setting.value.trim_matches('"');
    let is_same = found == wanted || bytes_of(wanted).is_some_and(|wanted| bytes_of(&found) == Some(wanted));
    let grade = setting.expect.differs(&found, is_same, || number_of(setting.name, &found))?;
    let expected = match setting.expect {
        Expect::AtLeast(least, _) => format!("at least {least}"),
        Expect::NoneOrAtLeast(least, _) => format!("at least {least}, or 0 for no limit"),
        _ => setting.value.clone(),
    };
    let remedy = format!("Set `{} {}`.", setting.name, setting.value);
    let found = if found.is_empty() { "\"\"".to_owned() } else { found };
    Some(finding(grade, setting.name, &expected, found, setting.risk, &remedy))
}

/// `client-output-buffer-limit` is a list of classes; the node is a normal client, and its hard limit counts.
fn number_of(name: &str, value: &str) -> Option<u64> {
    if name != "client-output-buffer-limit" {
        return bytes_of(value);
    }
    let mut words = value.split_whitespace();
    words.find(|word| *word == "normal")?;
    bytes_of(words.next()?)
}

/// A number, or one with Redis' unit.
fn bytes_of(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()?.saturating_mul(factor))
}

fn finding(grade: Grade, subject: &str, expected: &str, found: String, risk: &str, remedy: &str) -> Finding {
    Finding {
        grade,
        subject: subject.to_owned(),
        expected: expected.to_owned(),
        found,
        risk: risk.to_owned(),
        remedy: remedy.to_owned(),
    }
}
