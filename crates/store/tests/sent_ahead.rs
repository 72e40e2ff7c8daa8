//! Many blocks handed over at once: their steps overlap, and nothing else may show it.

use forebay_ledger::block::Block;
use forebay_servers::RedisProfile;
use forebay_servers::testing::TestOptions;
use forebay_store::{Accepted, StoreError};
use forebay_testkit::chain::{NOW, OracleChain};
use forebay_testkit::dump::{Leftovers, differences};
use forebay_testkit::node::{Bench, TestNode};
use futures_util::future::join_all;

/// Hands all blocks over before the first is answered; the answers in their order.
async fn hand_over(node: &TestNode, blocks: &[Block]) -> Vec<Result<Accepted, StoreError>> {
    let checked = blocks.iter().map(|block| node.node.check(block.clone()).unwrap());
    join_all(checked.map(|block| node.node.apply(block, NOW))).await
}

async fn assert_whole(bench: &Bench, node: &TestNode, chain: &OracleChain, height: u32) {
    node.settle().await;
    assert_eq!(node.node.progress().tip.unwrap().height, height);
    // The reference node was asked at some heights only.
    if let Some(dump) = chain.dump(height, "") {
        assert_eq!(
            differences(&bench.admin().await, &dump, &Leftovers::default()).await,
            Vec::<String>::new()
        );
    }
    assert_eq!(bench.verify(true).await.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_handed_over_together_give_the_same_state_through_round_ends() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    for (before, accepted) in (1u64..).zip(hand_over(&node, &chain.blocks).await) {
        let accepted = accepted.unwrap();
        assert!(accepted.is_new);
        assert_eq!(accepted.position.seq, before + 1, "one operation a block, in order");
    }
    assert_whole(&bench, &node, &chain, 420).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_block_among_many_keeps_those_before_it_and_refuses_those_after() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    let mut blocks = chain.blocks[..150].to_vec();
    let missing = blocks.remove(99);
    let answers = hand_over(&node, &blocks).await;
    assert!(answers[..99].iter().all(Result::is_ok));
    for answer in &answers[99..] {
        let error = answer.as_ref().unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    }
    assert_whole(&bench, &node, &chain, 100).await;
    node.apply(&missing).await.unwrap();
    assert!(hand_over(&node, &chain.blocks[100..]).await.iter().all(Result::is_ok));
    assert_whole(&bench, &node, &chain, 420).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_back_asked_for_behind_many_blocks_comes_after_all_of_them() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    let mut from = 0;
    while from < 110 {
        let height = u32::try_from(from + 11).unwrap();
        // join! polls in this order, so all blocks stand in the queue before the take-back.
        let (answers, back) =
            tokio::join!(hand_over(&node, &chain.blocks[from..from + 30]), node.node.take_back_to(height));
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(back.unwrap().height, height);
        from += 10;
    }
    assert_whole(&bench, &node, &chain, 111).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_killed_under_many_steps_loses_none_and_does_none_twice() {
    let Some(chain) = OracleChain::first() else { return };
    let test = TestOptions { redis_profile: RedisProfile::Durable, ..TestOptions::default() };
    let mut bench = Bench::with(test, chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    let mut from = 0;
    for to in [60, 140, 250] {
        let mut progress = node.node.watch();
        let halfway = u32::try_from((from + to) / 2).unwrap();
        let (answers, ()) = tokio::join!(hand_over(&node, &chain.blocks[from..to]), async {
            progress.wait_for(|seen| seen.tip.is_some_and(|tip| tip.height > halfway)).await.unwrap();
            bench.servers.kill_redis().await;
            bench.servers.restart_redis().await.unwrap();
        });
        for answer in answers {
            answer.unwrap();
        }
        from = to;
        assert_whole(&bench, &node, &chain, u32::try_from(to + 1).unwrap()).await;
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_flushed_under_many_steps_is_healed_and_gets_them_all() {
    let Some(chain) = OracleChain::first() else { return };
    let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    let mut raw = redis::Client::open(bench.options.redis_url.as_str())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    let mut progress = node.node.watch();
    let (answers, ()) = tokio::join!(hand_over(&node, &chain.blocks[..200]), async {
        progress.wait_for(|seen| seen.tip.is_some_and(|tip| tip.height > 70)).await.unwrap();
        redis::cmd("FLUSHALL").query_async::<()>(&mut raw).await.unwrap();
    });
    for answer in answers {
        answer.unwrap();
    }
    assert!(node.node.progress().position.epoch > 1, "it was healed under a new epoch");
    assert_whole(&bench, &node, &chain, 201).await;
    node.stop().await.unwrap();
}
