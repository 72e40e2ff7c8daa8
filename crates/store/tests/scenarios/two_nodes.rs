//! Row 8: a node falls silent in the middle of something, another takes the chain over, and the first wakes up. What it
//! had sent arrives late: its connections are held up, not cut.

use std::sync::Arc;
use std::time::Duration;

use forebay_servers::testing::TestOptions;
use forebay_store::{Phase, StoreError};
use forebay_testkit::node::TestNode;
use forebay_testkit::proxy::{Direction, Flow};

use crate::support::{PATIENCE, Proxies, Stage, start, start_in_background, until_true};

/// From now on nothing that it says arrives, until it wakes up.
fn pause(proxies: &Proxies) {
    proxies.redis.set_flow(Direction::ToServer, Flow::Stall);
    proxies.postgres.set_flow(Direction::ToServer, Flow::Stall);
}

fn wake_up(proxies: &Proxies) {
    proxies.redis.heal();
    proxies.postgres.heal();
}

/// The other one starts, although nobody gave the chain up.
async fn successor(stage: &Stage) -> TestNode {
    let starting = start(&stage.bench.options);
    tokio::time::timeout(PATIENCE / 2, starting).await.expect("the successor is held up").unwrap()
}

/// It has to say who has the chain, or that it lost it.
#[track_caller]
fn assert_lost(error: &StoreError) {
    let text = error.to_string();
    let told = ["took the chain", "does not hold the chain", "is held by", "takes no more commands"];
    assert!(told.iter().any(|part| text.contains(part)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_arrives_after_a_takeover_changes_nothing() {
    let mut stage = Stage::new().await;
    let (proxies, options) = stage.proxied("paused").await;
    let mut paused = start(&options).await.unwrap();
    stage.forward(&paused, 10).await;
    paused.settle().await;
    pause(&proxies);
    let late = stage.chain.clone().next_block().unwrap();
    let stepping = {
        let (node, block) = (paused.node.clone(), paused.node.check(late).unwrap());
        tokio::spawn(async move { node.apply(block, forebay_testkit::chain::NOW).await })
    };
    let next = successor(&stage).await;
    // Another branch at the same height: the late step would fit neither.
    stage.branch_off(11, "the successor's");
    stage.forward(&next, 6).await;
    wake_up(&proxies);
    assert_lost(&stepping.await.unwrap().unwrap_err());
    assert_lost(&paused.running.ended().await.unwrap_err());
    stage.forward(&next, 6).await;
    stage.assert_complete(&next).await;
    next.stop().await.unwrap();
}

/// A node that pauses as soon as its start is so far, a successor that works meanwhile, and its awakening.
async fn paused_while_starting(phase: Phase, redis_holds_a_chain: bool) {
    let mut stage = Stage::new().await;
    let first = stage.bench.start().await.unwrap();
    stage.forward(&first, 30).await;
    first.settle().await;
    if redis_holds_a_chain {
        stage.bench.servers.kill_postgres().await;
        stage.forward(&first, 5).await;
        first.stop_now().await.unwrap();
        stage.bench.servers.restart_postgres().await.unwrap();
    } else {
        first.stop().await.unwrap();
        stage.redis::<()>(&["FLUSHALL"]).await;
    }
    let (proxies, options) = stage.proxied("paused").await;
    let proxies = Arc::new(proxies);
    let reached = Arc::new(tokio::sync::Notify::new());
    let observe = {
        let (proxies, reached) = (Arc::clone(&proxies), Arc::clone(&reached));
        move |progress: forebay_store::PhaseProgress| {
            if progress.phase == phase {
                pause(&proxies);
                reached.notify_one();
            }
        }
    };
    let starting = start_in_background(options, Arc::new(observe));
    tokio::time::timeout(PATIENCE, reached.notified()).await.expect("it does not get there");
    let next = successor(&stage).await;
    stage.forward(&next, 10).await;
    wake_up(&proxies);
    match starting.await.unwrap() {
        Err(error) => assert_lost(&error),
        Ok(_) => panic!("{phase:?}: it started beside the successor"),
    }
    stage.forward(&next, 5).await;
    stage.assert_complete(&next).await;
    next.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_wakes_up_in_the_middle_of_a_drain() {
    paused_while_starting(Phase::Drain, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_wakes_up_in_the_middle_of_a_clean() {
    paused_while_starting(Phase::Clean, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_wakes_up_in_the_middle_of_a_restore() {
    paused_while_starting(Phase::Restore, true).await;
    paused_while_starting(Phase::Restore, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_wakes_up_at_the_end_of_a_restore() {
    paused_while_starting(Phase::Check, true).await;
}

/// Where a transaction stands still.
#[derive(Clone, Copy, PartialEq)]
enum Transaction {
    WithRows,
    AtCommit,
}

async fn paused_in_a_transaction(place: Transaction) {
    let mut stage = Stage::with(TestOptions::default()).await;
    let (proxies, options) = stage.proxied("paused").await;
    let mut paused = start(&options).await.unwrap();
    stage.forward(&paused, 10).await;
    paused.settle().await;
    let admin = stage.bench.admin().await;
    // The node's transaction waits for us, so that it can be paused there.
    let hold = match place {
        Transaction::WithRows => "begin; lock table forebay.transactions in share row exclusive mode",
        Transaction::AtCommit => {
            "create function public.wait_at_commit() returns trigger language plpgsql security definer as $$ \
             begin perform pg_advisory_xact_lock(4711); return null; end $$; \
             create constraint trigger zz_wait after update on forebay.position deferrable initially deferred \
             for each row when (new.seq > old.seq) execute function public.wait_at_commit(); \
             select pg_advisory_lock(4711)"
        }
    };
    admin.batch_execute(hold).await.unwrap();
    stage.forward(&paused, 3).await;
    until_true("its transaction is open", async || {
        let waiting = "select from pg_stat_activity where application_name = 'forebay writer' and wait_event_type = 'Lock'";
        !admin.query(waiting, &[]).await.unwrap().is_empty()
    })
    .await;
    pause(&proxies);
    proxies.postgres.set_flow(Direction::ToClient, Flow::Stall);
    if place == Transaction::WithRows {
        // Nobody but the paused node holds locks from here on: on the position, and on rows.
        admin.batch_execute("rollback").await.unwrap();
    }
    let starting = start_in_background(stage.bench.options.clone(), Arc::new(|_| ()));
    if place == Transaction::AtCommit {
        // The successor ended that session; only then may a COMMIT go through.
        until_true("the paused node's session is ended", async || {
            let waiting = "select from pg_locks where locktype = 'advisory' and not granted";
            admin.query(waiting, &[]).await.unwrap().is_empty()
        })
        .await;
        admin.batch_execute("drop trigger zz_wait on forebay.position").await.unwrap();
        admin.batch_execute("select pg_advisory_unlock(4711)").await.unwrap();
    }
    // Less than `idle_in_transaction_session_timeout`: it is the successor that gets the locks out of its way.
    let started = tokio::time::timeout(Duration::from_secs(30), starting).await;
    let next = started.expect("the successor is held up by the locks").unwrap().unwrap();
    // What the paused node had accepted was drained.
    assert_eq!(next.node.progress().durable.height, 14);
    stage.forward(&next, 6).await;
    wake_up(&proxies);
    assert_lost(&paused.running.ended().await.unwrap_err());
    stage.forward(&next, 6).await;
    stage.assert_complete(&next).await;
    next.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_of_a_paused_node_does_not_hold_the_successor_up() {
    paused_in_a_transaction(Transaction::WithRows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_a_paused_node_does_not_hold_the_successor_up() {
    paused_in_a_transaction(Transaction::AtCommit).await;
}
