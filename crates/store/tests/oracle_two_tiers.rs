//! The reference node's chain through both tiers: at every height that it dumped, Redis and PostgreSQL hold its state.

use forebay_ledger::block::Block;
use forebay_store::StoreError;
use forebay_testkit::chain::OracleChain;
use forebay_testkit::dump::{Leftovers, differences, everything};
use forebay_testkit::node::{Bench, TestNode};
use forebay_testkit::rows::{rows_of_accounts, rows_of_dump};
use tokio_postgres::Client;

struct Replay {
    chain: OracleChain,
    bench: Bench,
    node: TestNode,
    admin: Client,
}

impl Replay {
    async fn of(chain: OracleChain) -> Self {
        let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
        let node = bench.start().await.unwrap();
        let admin = bench.admin().await;
        Self { chain, bench, node, admin }
    }

    fn height(&self) -> u32 {
        self.node.node.progress().tip.unwrap().height
    }

    /// Compares both tiers with the dump of the tip's height, if there is one.
    async fn compare(&self, kind: &str, leftovers: Leftovers) -> bool {
        let Some(dump) = self.chain.dump(self.height(), kind) else { return false };
        self.node.settle().await;
        let slow = differences(&self.admin, &dump, &leftovers).await;
        assert!(slow.is_empty(), "PostgreSQL at {}{kind}: {slow:#?}", self.height());
        let fast = rows_of_accounts(&self.node.fast_accounts().await, 'R');
        assert_eq!(self.bench.verify(false).await.findings, [], "tiers at {}", self.height());
        if kind.is_empty() {
            let expected = rows_of_dump(&dump);
            assert_eq!(fast.len(), expected.len(), "accounts in Redis at {}", self.height());
            for (address, row) in &expected {
                assert_eq!(fast.get(address), Some(row), "Redis, {address} at {}", self.height());
            }
        }
        true
    }

    async fn forward(&self, blocks: &[Block]) -> usize {
        let mut compared = 0;
        for block in blocks {
            let accepted = self.node.apply(block).await.unwrap();
            assert_eq!((accepted.height, accepted.id, accepted.is_new), (block.height, block.id, true));
            compared += usize::from(self.compare("", Leftovers::default()).await);
        }
        compared
    }

    async fn back_to(&self, height: u32) {
        let accepted = self.node.node.take_back_to(height).await.unwrap();
        assert_eq!(accepted.height, height);
        self.compare("", Leftovers::default()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tiers_equal_the_reference_node_at_every_dump_of_the_first_generation() {
    let Some(chain) = OracleChain::first() else { return };
    let replay = Replay::of(chain).await;
    let blocks = replay.chain.blocks.clone();
    assert!(replay.compare("", Leftovers::default()).await);
    let compared = replay.forward(&blocks).await;
    assert!(compared > 20, "{compared}");
    let verified = replay.bench.verify(true).await;
    assert_eq!((verified.findings_total, verified.height), (0, 420), "{:#?}", verified.findings);

    // Within Redis' undo records, over one round end; then beyond them, by a rewind, over three.
    replay.back_to(390).await;
    let leftovers = || Leftovers { of_the_branch_taken_back: true, columns: &[] };
    for block in &replay.chain.fork {
        replay.node.apply(block).await.unwrap();
        replay.compare("-fork", leftovers()).await;
    }
    assert_eq!(replay.bench.verify(true).await.findings, []);
    replay.back_to(390).await;
    replay.back_to(350).await;
    replay.back_to(295).await;
    replay.back_to(150).await;
    replay.back_to(1).await;
    replay.forward(&blocks[..110]).await;
    assert_eq!(replay.bench.verify(true).await.findings, []);
    replay.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tiers_equal_the_reference_node_at_every_dump_of_the_second_generation() {
    let Some(chain) = OracleChain::second() else { return };
    let replay = Replay::of(chain).await;
    let blocks = replay.chain.blocks.clone();
    let compared = replay.forward(&blocks).await;
    assert!(compared > 20, "{compared}");
    replay.back_to(504).await;
    replay.back_to(395).await;
    for block in &replay.chain.fork {
        replay.node.apply(block).await.unwrap();
        // RULES 12: the dumps have the reference node's two undo defects until the next round end.
        let columns: &[&str] = match block.height {
            403 => &["vote", "votesWeight", "cmb"],
            _ => &["cmb"],
        };
        replay.compare("-fork", Leftovers { of_the_branch_taken_back: true, columns }).await;
    }
    assert_eq!(replay.bench.verify(true).await.findings, []);
    replay.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rejected_block_has_its_verdict_and_leaves_no_trace_in_either_tier() {
    let Some(chain) = OracleChain::first() else { return };
    let replay = Replay::of(chain).await;
    replay.forward(&replay.chain.blocks[..149]).await;
    assert_eq!(replay.height(), 150);
    let mut tried = 0;
    replay.node.settle().await;
    let canonical = (replay.node.fast_accounts().await, everything(&replay.admin).await);
    for (name, accepted, block) in replay.chain.rejected_cases() {
        let before = replay.node.node.progress().position;
        let outcome = match &block {
            Some(block) => replay.node.apply(block).await,
            None => Err(StoreError::Request("it cannot be read".to_owned())),
        };
        match (accepted, outcome) {
            (true, Ok(_)) => replay.back_to(150).await,
            (
                false,
                Err(StoreError::Refused(_) | StoreError::OtherBranch { .. } | StoreError::Request(_)),
            ) => {
                assert_eq!(replay.node.node.progress().position, before, "{name}");
            }
            (_, outcome) => panic!("{name}: accepted should be {accepted}, got {outcome:?}"),
        }
        tried += 1;
        if accepted || tried % 15 == 0 {
            replay.node.settle().await;
            let now = (replay.node.fast_accounts().await, everything(&replay.admin).await);
            assert!(now == canonical, "{name} left a trace");
        }
    }
    assert_eq!(tried, 90);
    let now = (replay.node.fast_accounts().await, everything(&replay.admin).await);
    assert!(now == canonical);
    replay.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_block_is_accepted_again_and_another_at_its_height_is_refused() {
    let Some(chain) = OracleChain::first() else { return };
    let replay = Replay::of(chain).await;
    replay.forward(&replay.chain.blocks[..399]).await;
    let before = replay.node.node.progress().position;
    for block in [&*replay.chain.genesis, &replay.chain.blocks[0], &replay.chain.blocks[398]] {
        let again = replay.node.apply(block).await;
        // A genesis block cannot be checked without knowing that it is one: its bytes give another id.
        if block.previous_block.is_some() {
            let again = again.unwrap();
            assert_eq!((again.id, again.height, again.is_new), (block.id, block.height, false));
        }
    }
    let other = replay.node.apply(&replay.chain.fork[0]).await.unwrap_err();
    assert_eq!(other.kind(), "other-branch", "{other}");
    let far = replay.node.apply(&replay.chain.blocks[410]).await.unwrap_err();
    assert_eq!(far.kind(), "previous-block", "{far}");
    assert_eq!(replay.node.node.progress().position, before);
    replay.node.stop().await.unwrap();
}
