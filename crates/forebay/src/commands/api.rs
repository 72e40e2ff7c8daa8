//! `forebay api`: the HTTP API alone. It reads both tiers and writes nothing; any number may run beside a node.

use serde_json::json;

use super::Context;
use crate::args::ApiArgs;
use crate::chain::Chain;
use crate::exit::Exit;
use crate::http::Listeners;
use crate::output::print;

/// Runs the command.
pub async fn run(context: &Context, args: ApiArgs) -> anyhow::Result<i32> {
    let home = &context.home;
    let chain = Chain::load(&home.settings)?;
    let listeners = Listeners::open(&args.listen, home).await?;
    let places = listeners.places();
    let server = listeners.serve(home, &chain, None).await?;
    context.screen.say(format!("ready: {} at {}. Ctrl-C stops", chain.profile.name, places.join(", ")));
    if context.output.json {
        print(&json!({ "ready": true, "network": chain.profile.name, "listen": places }).to_string())?;
    }
    context.signals.asked().await;
    if let Some((_, server)) = server {
        server.stop().await;
    }
    Ok(Exit::Success as i32)
}
