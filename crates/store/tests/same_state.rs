//! The state depends on the chain and on nothing else: not on batch sizes, restarts, or who computed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_store::Limits;
use forebay_testkit::chain::OracleChain;
use forebay_testkit::dump::{Leftovers, differences};
use forebay_testkit::node::{Bench, TestNode};

async fn assert_both_tiers_equal(bench: &Bench, node: &TestNode, chain: &OracleChain, height: u32) {
    node.settle().await;
    assert_eq!(node.node.progress().tip.unwrap().height, height);
    let dump = chain.dump(height, "").unwrap();
    assert_eq!(differences(&bench.admin().await, &dump, &Leftovers::default()).await, Vec::<String>::new());
    assert_eq!(bench.verify(false).await.findings, []);
}

async fn replay_with_batches(operations_max: usize) {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    bench.options.limits = Limits { batch_operations_max: operations_max, ..Limits::default() };
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks).await;
    assert_both_tiers_equal(&bench, &node, &chain, 420).await;
    // Take-backs and the other branch in the same batches.
    node.node.take_back_to(395).await.unwrap();
    node.node.take_back_to(390).await.unwrap();
    node.apply_all(&chain.fork).await;
    node.node.take_back_to(390).await.unwrap();
    node.apply_all(&chain.blocks[389..]).await;
    assert_both_tiers_equal(&bench, &node, &chain, 420).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_1_give_the_same_state() {
    replay_with_batches(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_7_give_the_same_state() {
    replay_with_batches(7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_100_give_the_same_state() {
    replay_with_batches(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_of_everything_gives_the_same_state() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    bench.options.limits = Limits { batch_operations_max: usize::MAX, ..Limits::default() };
    // PostgreSQL is away while the whole chain is accepted: one batch brings it all.
    let node = bench.start().await.unwrap();
    node.settle().await;
    bench.servers.kill_postgres().await;
    node.apply_all(&chain.blocks).await;
    assert_eq!(node.node.progress().durable.height, 1);
    bench.servers.restart_postgres().await.unwrap();
    assert_both_tiers_equal(&bench, &node, &chain, 420).await;
    assert!(node.node.progress().retries > 0);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_in_the_middle_give_the_same_state() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let mut done = 0;
    for (index, end) in [40, 99, 100, 101, 150, 202, 300, 303, 304, 350, 404, 420].into_iter().enumerate() {
        let node = bench.start().await.unwrap();
        assert_eq!(node.node.progress().tip.unwrap().height, if done == 0 { 1 } else { done });
        let from = usize::try_from(done.max(1)).unwrap() - 1;
        node.apply_all(&chain.blocks[from..usize::try_from(end).unwrap() - 1]).await;
        done = end;
        // Every other time what is not durable stays in the outbox, and the next start drains it.
        let stopped = if index % 2 == 0 { node.stop_now().await } else { node.stop().await }.unwrap();
        assert!(index % 2 == 0 || stopped.left_in_outbox == 0);
    }
    let node = bench.start().await.unwrap();
    assert_both_tiers_equal(&bench, &node, &chain, 420).await;
    // After a restart Redis has no undo records: this goes through PostgreSQL.
    node.node.take_back_to(403).await.unwrap();
    assert_both_tiers_equal(&bench, &node, &chain, 403).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restarted_during_the_replay_gives_the_same_state() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    for (index, chunk) in chain.blocks.chunks(70).enumerate() {
        node.apply_all(chunk).await;
        if index % 2 == 0 {
            bench.servers.kill_postgres().await;
        }
        bench.servers.restart_postgres().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_both_tiers_equal(&bench, &node, &chain, 420).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_waits_at_the_lag_limit_and_goes_on_when_postgres_is_back() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    bench.options.limits = Limits { lag_blocks_max: 10, ..Limits::default() };
    let node = bench.start().await.unwrap();
    node.settle().await;
    bench.servers.kill_postgres().await;
    node.apply_all(&chain.blocks[..10]).await;
    let mut eleventh = Box::pin(node.apply(&chain.blocks[10]));
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut eleventh).await;
    assert!(waited.is_err(), "it was accepted beyond the limit");
    assert_eq!(node.node.progress().lag_operations, 10);
    bench.servers.restart_postgres().await.unwrap();
    assert_eq!((&mut eleventh).await.unwrap().height, 12);
    drop(eleventh);
    node.settle().await;
    node.stop().await.unwrap();
}

/// A step that is acknowledged while a read's answer is on its way does not make that answer stale.
#[tokio::test(flavor = "multi_thread")]
async fn readers_beside_a_writer_get_every_answer() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (tier, ended) = (node.node.fast().clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut answers = 0;
                while !ended.load(Ordering::SeqCst) {
                    tier.counts().await.unwrap();
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    node.apply_all(&chain.blocks[..300]).await;
    ended.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_is_told_who_holds_the_chain_and_the_first_cannot_write_after_a_takeover() {
    let Some(chain) = OracleChain::first() else { return };
    let mut bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    bench.options.limits.takeover_after = Duration::from_millis(1500);
    let first = bench.start().await.unwrap();
    first.apply_all(&chain.blocks[..20]).await;
    bench.options.holder_is_gone = false;
    let held = bench.start().await.err().expect("the chain is held");
    assert_eq!(held.kind(), "held", "{held}");
    assert!(held.to_string().contains(&format!("process {}", std::process::id())), "{held}");
    // By force: the first one is fenced off.
    bench.options.holder_is_gone = true;
    let second = bench.start().await.unwrap();
    assert_eq!(second.node.progress().tip.unwrap().height, 21);
    first.apply(&chain.blocks[20]).await.unwrap_err();
    let mut first = first;
    let ended = first.running.ended().await.unwrap_err().to_string();
    assert!(ended.contains("epoch 2 does") || ended.contains("took the chain over"), "{ended}");
    second.apply_all(&chain.blocks[20..]).await;
    assert_both_tiers_equal(&bench, &second, &chain, 420).await;
    second.stop().await.unwrap();
}
