//! `forebay postgres-conf`: settings of PostgreSQL with their reasons, or what a live server does differently.

use forebay_slow::conf::{Grade, check};
use serde_json::json;

use super::{Context, findings};
use crate::args::PostgresConfArgs;
use crate::exit::Exit;
use crate::home::Brought;
use crate::output::print;
use crate::reads::{Look, Reads};
use crate::server_conf::postgres_conf;

/// Runs the command.
pub async fn run(context: &Context, args: PostgresConfArgs) -> anyhow::Result<i32> {
    let private = matches!(context.home.brought, Brought::Private);
    if args.check {
        return compare(context, private).await;
    }
    let text = if private {
        context.home.private_servers().await?.postgres_conf().await
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
    let (differences, version) = match &context.home.brought {
        // Its settings can be asked before it has a chain.
        Brought::Yours(connections) => {
            let setup = connections.setup.as_ref();
            check(setup.map_or(&connections.postgres, |setup| &setup.admin), &postgres_conf(private)).await?
        }
        Brought::Private => {
            let check =
                async |reads: &Reads| Ok(check(&reads.postgres().await?, &postgres_conf(private)).await?);
            context.read(Look::Slow, check).await?
        }
    };
    let stops = differences.iter().any(|finding| finding.grade == Grade::Stop);
    context.output.result(&findings::value_of(&version, &differences, stops), || {
        let mut lines = findings::lines(&differences);
        lines.push(findings::verdict(
            &format!("PostgreSQL {version}"),
            stops,
            differences.len(),
            ["do not keep a chain on it", "as `forebay postgres-conf` has it"],
        ));
        lines.join("\n")
    })?;
    Ok(if stops { Exit::Configuration } else { Exit::Success } as i32)
}
