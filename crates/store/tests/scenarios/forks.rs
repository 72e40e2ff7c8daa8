//! Row 6: forks, by where they begin: the state is that of the new branch alone, derived from scratch.

use forebay_ledger::ids::Height;
use forebay_testkit::node::TestNode;
use forebay_testkit::proxy::{Direction, Flow};

use crate::support::{ROUND, Stage, start};

/// Back to a height, and forward on a branch of its own to two rounds above it.
async fn follow_branch(stage: &mut Stage, node: &mut TestNode, base: Height) {
    stage.branch_off(base, &format!("from {base}"));
    let back = node.take_back_to(base).await;
    assert_eq!((back.height, back.is_new), (base, true));
    stage.forward(node, 2 * ROUND as usize + 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_begins_and_ends_in_the_outbox() {
    let mut stage = Stage::new().await;
    let (proxies, options) = stage.proxied("silent").await;
    let mut node = start(&options).await.unwrap();
    stage.forward(&node, 10).await;
    node.settle().await;
    // PostgreSQL hears nothing until the fork is over.
    proxies.postgres.set_flow(Direction::ToServer, Flow::Stall);
    stage.forward(&node, 20).await;
    for base in [25, 16, 12] {
        follow_branch(&mut stage, &mut node, base).await;
    }
    assert_eq!(node.node.progress().durable.height, 11);
    proxies.postgres.heal();
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_across_the_durable_border() {
    let mut stage = Stage::new().await;
    let (proxies, options) = stage.proxied("silent").await;
    let mut node = start(&options).await.unwrap();
    stage.forward(&node, 19).await;
    node.settle().await;
    proxies.postgres.set_flow(Direction::ToServer, Flow::Stall);
    stage.forward(&node, 6).await;
    // Six that PostgreSQL never had, and four that it has.
    follow_branch(&mut stage, &mut node, 16).await;
    assert_eq!(node.node.progress().durable.height, 20);
    proxies.postgres.heal();
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_across_one_and_two_round_ends_and_at_their_very_edges() {
    let mut stage = Stage::new().await;
    let mut node = stage.bench.start().await.unwrap();
    stage.forward(&node, 6 * ROUND as usize).await;
    // The base and what is crossed: within a round, one end, two ends, exactly at an end, just before and after one.
    for depth in [3, ROUND, ROUND + 3, 2 * ROUND + 2] {
        let base = stage.chain.height() - depth;
        follow_branch(&mut stage, &mut node, base).await;
        stage.assert_complete(&node).await;
    }
    for offset in 0..3 {
        let end = stage.chain.height() / ROUND * ROUND;
        follow_branch(&mut stage, &mut node, end - ROUND - 1 + offset).await;
    }
    stage.assert_complete(&node).await;
    assert_eq!(node.node.progress().position.epoch, 1);
    node.stop().await.unwrap();
}

/// Deeper than Redis' undo records reach: one operation instead of one a block.
async fn rewind(stage: &mut Stage, node: &mut TestNode, base: Height) {
    let seq = node.node.progress().position.seq;
    stage.branch_off(base, &format!("deep from {base}"));
    let back = node.take_back_to(base).await;
    assert_eq!((back.height, back.position.seq), (base, seq + 1), "it was no rewind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_deeper_than_the_undo_kept_with_and_without_a_tail() {
    let mut stage = Stage::new().await;
    // Small windows, so that what is no longer kept is really gone.
    let limits = &mut stage.bench.options.limits;
    (limits.undo_kept, limits.outbox_kept, limits.blocks_kept) = (4, 4, 8);
    let (proxies, options) = stage.proxied("silent").await;
    let mut node = start(&options).await.unwrap();
    stage.forward(&node, 90).await;
    node.settle().await;
    stage.forward(&node, 10).await;
    rewind(&mut stage, &mut node, 40).await;
    stage.forward(&node, 2 * ROUND as usize).await;
    stage.assert_complete(&node).await;
    // With operations that are not durable yet: they become so first.
    proxies.postgres.set_flow(Direction::ToServer, Flow::Stall);
    stage.forward(&node, 5).await;
    let ((), ()) = tokio::join!(rewind(&mut stage, &mut node, 9), async {
        tokio::task::yield_now().await;
        proxies.postgres.heal();
    });
    stage.forward(&node, 20).await;
    stage.assert_complete(&node).await;
    // And again at once: a rewind leaves no undo records.
    rewind(&mut stage, &mut node, 2).await;
    stage.forward(&node, 3).await;
    stage.assert_complete(&node).await;
    node.stop().await.unwrap();
}
