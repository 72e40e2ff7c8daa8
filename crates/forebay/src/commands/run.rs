//! `forebay run`: the data layer is up until somebody asks it to end.

use std::path::Path;
use std::time::Instant;

use forebay_store::Phase;
use serde_json::json;

use super::Context;
use super::feed::{self, Feed};
use crate::args::RunArgs;
use crate::exit::Exit;
use crate::home::command_words;
use crate::http::Listeners;
use crate::notify::service_manager;
use crate::observe::{Listener, Observed};
use crate::output::print;
use crate::session::{Patience, Session, of_end};

/// Runs the command.
pub async fn run(context: &Context, args: RunArgs) -> anyhow::Result<i32> {
    // A socket that cannot be made is known before anything is started.
    if let Some(path) = args.feed.as_deref().filter(|feed| *feed != "-") {
        feed::check_socket(Path::new(path))?;
    }
    let listeners = Listeners::open(&args.listen, &context.home).await?;
    let places = listeners.places();
    let words = args.feed.as_ref().map_or_else(|| "run".to_owned(), |feed| format!("run --feed {feed}"));
    let screen = &context.screen;
    let observed = Observed::default();
    // Monitors see the start, too; and an address that cannot be listened on is known before it.
    let listener = match args.metrics_listen.or(context.home.settings.metrics_listen) {
        Some(address) => Some(Listener::start(address, observed.clone()).await?),
        None => None,
    };
    if let Some(listener) = &listener {
        screen.say(format!("metrics at http://{}/metrics, with /livez and /readyz", listener.address));
    }
    let mut session = Session::start_observed(
        &context.home,
        &command_words(&words),
        Patience::Endless,
        screen,
        &context.signals,
        &observed,
    )
    .await?;
    let feed = match args.feed.as_deref() {
        None => Ok(Feed::nothing()),
        Some("-") => Ok(Feed::stdin(&session)),
        Some(path) => Feed::socket(&session, Path::new(path)),
    };
    let mut feed = match feed {
        Ok(feed) => feed,
        Err(error) => return Err(session.stop_after(error).await),
    };
    let http = match listeners.serve(&context.home, &session.chain, Some(session.node.clone())).await {
        Ok(http) => http,
        Err(error) => return Err(session.stop_after(error).await),
    };
    if let Some((api, _)) = &http {
        observed.api(api);
    }
    tell_ready(context, &session, args.feed.as_deref(), &places)?;
    service_manager().ready("ready");
    let told = service_manager().follow(session.node.watch());
    let ended = tokio::select! {
        biased;
        ended = session.ended() => Some(ended),
        () = context.signals.asked() => None,
        () = feed.ended() => None,
    };
    if let Some(told) = told {
        told.abort();
    }
    let (asked, drain_max) = (Instant::now(), context.home.settings.drain_max());
    let answered = async {
        if let Some((_, server)) = http {
            server.stop().await;
        }
        // Lines under way are answered; whoever does not take the answers, or awaits what will not come, has its limit.
        if tokio::time::timeout(drain_max, feed.close()).await.is_err() {
            tracing::warn!("some lines of the feed were not answered in time");
        }
    };
    // A node that restores Redis answers nobody. It has to know of the stop at once: what only its memory has is recorded
    // then, before anybody kills the process.
    let mut progress = session.node.watch();
    tokio::select! {
        () = screen.while_long("answering the lines and requests under way", answered) => {}
        Ok(_) = progress.wait_for(|progress| progress.phase == Phase::Restore) => {
            tracing::warn!("Redis is being restored: lines and requests under way are told that the node stops");
        }
    }
    if let Some(ended) = ended {
        // Nobody asked it to: servers stay for the next start.
        of_end(ended, "the node stopped by itself")?;
        return Ok(Exit::Stopped as i32);
    }
    screen.say("draining what is accepted to PostgreSQL, then stopping");
    // What the answers took is part of the time.
    let stopped = session.stop_within(drain_max.saturating_sub(asked.elapsed())).await?;
    let height = stopped.durable.height;
    screen.say(match stopped.left_in_outbox {
        0 => format!("stopped at height {height}, all of it durable"),
        _ => format!("stopped; PostgreSQL is at height {height}"),
    });
    Ok(Exit::Success as i32)
}

fn tell_ready(
    context: &Context,
    session: &Session,
    feed: Option<&str>,
    places: &[String],
) -> anyhow::Result<()> {
    let progress = session.node.progress();
    let (height, id) = progress.tip.map_or((0, String::new()), |tip| (tip.height, tip.id.to_string()));
    let network = &session.chain.profile.name;
    let fed = feed.map_or_else(String::new, |feed| format!(", feed at {feed}"));
    let heard = if places.is_empty() { String::new() } else { format!(", API at {}", places.join(", ")) };
    context.screen.say(format!(
        "ready: {network} at height {height}, epoch {}{fed}{heard}. Ctrl-C stops",
        progress.position.epoch
    ));
    // Stdout is the feed's own when it is fed from stdin.
    if context.output.json && feed != Some("-") {
        let ready = json!({
            "ready": true, "network": network, "height": height, "blockId": id, "epoch": progress.position.epoch,
            "redis": session.connections.redis_url_without_password(), "feed": feed, "listen": places,
            "durability": progress.profile.name(),
        });
        print(&ready.to_string())?;
    }
    Ok(())
}
