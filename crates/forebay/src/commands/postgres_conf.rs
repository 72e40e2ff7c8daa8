//! `forebay postgres-conf`: settings of PostgreSQL with their reasons, or what a live server does differently.

use forebay_slow::conf::{Finding, Grade, check};
use serde_json::json;

use super::Context;
use crate::args::PostgresConfArgs;
use crate::exit::Exit;
use crate::home::Brought;
use crate::output::print;
use crate::reads::Reads;
use crate::server_conf::postgres_conf;

/// Runs the command.
pub async fn run(context: &Context, args: PostgresConfArgs) -> anyhow::Result<i32> {
    let private = matches!(context.home.brought, Brought::Private);
    if args.check {
        return compare(context, private).await;
    }
    let text = if private {
        context.home.private_servers().await?.postgres_conf()
    } else {
        postgres_conf(false).text()
    };
    if context.output.json {
        print(&json!({ "file": text }).to_string())?;
    } else {
        print(text.trim_end())?;
    }
    Ok(Exit::Success as i32)
}

async fn compare(context: &Context, private: bool) -> anyhow::Result<i32> {
    let (findings, version) = match &context.home.brought {
        // Its settings can be asked before it has a chain.
        Brought::Yours(connections) => {
            let setup = connections.setup.as_ref();
            check(setup.map_or(&connections.postgres, |setup| &setup.admin), &postgres_conf(private)).await?
        }
        Brought::Private => {
            let reads = Reads::open_slow(&context.home, &context.screen).await?;
            let outcome = async { Ok(check(&reads.postgres().await?, &postgres_conf(private)).await?) }.await;
            reads.close().await?;
            outcome.map_err(|error: anyhow::Error| error)?
        }
    };
    let stops = findings.iter().any(|finding| finding.grade == Grade::Stop);
    tell(context, &version, &findings, stops)?;
    Ok(if stops { Exit::Configuration } else { Exit::Success } as i32)
}

fn tell(context: &Context, version: &str, findings: &[Finding], stops: bool) -> anyhow::Result<()> {
    let value = json!({
        "ok": !stops,
        "version": version,
        "findings": findings.iter().map(|finding| json!({
            "stops": finding.grade == Grade::Stop, "subject": finding.subject, "expected": finding.expected,
            "found": finding.found, "risk": finding.risk, "remedy": finding.remedy,
        })).collect::<Vec<_>>(),
    });
    context.output.result(&value, || {
        let mut lines: Vec<String> = findings
            .iter()
            .map(|finding| {
                line(
                    finding.grade == Grade::Stop,
                    [&finding.subject, &finding.found, &finding.expected, &finding.risk, &finding.remedy],
                )
            })
            .collect();
        lines.push(format!(
            "PostgreSQL {version}: {}",
            match (stops, findings.len()) {
                (true, _) => "do not keep a chain on it".to_owned(),
                (false, 0) => "as `forebay postgres-conf` has it".to_owned(),
                (false, more) => format!("fit, with {more} differences"),
            }
        ));
        lines.join("\n")
    })
}

/// A finding for people: subject, found, expected, risk, remedy.
pub fn line(stops: bool, [subject, found, expected, risk, remedy]: [&str; 5]) -> String {
    let grade = if stops { "STOP" } else { "warn" };
    format!("{grade}  {subject} is {found}, not {expected}\n      risk: {risk}\n      what to do: {remedy}")
}
