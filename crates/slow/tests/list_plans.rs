//! Lists walk indexes: on large tables none of the usual ones reads all of them.

use std::time::Duration;

use forebay_ledger::ids::{Address, BlockId};
use forebay_ledger::keys::PublicKey;
use forebay_slow::lists::{
    BlockFilter, Condition, Lists, PoolOptions, ReadPool, TransactionFilter, TransactionOrder,
};
use tokio_postgres::Client;

use crate::support::Database;
use crate::support::chain::{Chain, apply};

/// Transactions of the oracle's first three blocks, below the filler.
const OF_THE_ORACLE: u32 = 75;
/// Heights of the filler begin here.
const FIRST_HEIGHT: u32 = 4;

/// Rows that look like a chain's, put in beside the triggers: plans depend on how many there are, not on what they mean.
fn filler(transactions: u32) -> String {
    let (last_block, last) = (FIRST_HEIGHT + transactions / 25 - 1, transactions - 1);
    let accounts = transactions / 60;
    format!(
        "set session_replication_role = replica;
        set synchronous_commit = off;
        insert into forebay.blocks select
            h, h - 1, 0, 0, 0, h % 101, (h - 1)::bigint * 25, h, 0, h * 30, 25, 0, sha256('p'), sha256('g'),
            sha256('a') || sha256('b'), null, null
        from generate_series({FIRST_HEIGHT}, {last_block}) h;
        insert into forebay.transactions select
            i, i % {accounts}, case when i % 20 = 0 then null else i % ({accounts} - 1) end, i, 10000000,
            {FIRST_HEIGHT} + i / 25, i % 25, i, case when i % 20 = 0 then 1 else 0 end, sha256('k'),
            sha256('a') || sha256('b'), null, null, null, case when i % 20 = 0 then sha256('k') end
        from generate_series(0, {last}) i;
        set session_replication_role = origin;"
    )
}

fn of(any: Vec<Condition>, all: Vec<Condition>, order: TransactionOrder) -> TransactionFilter {
    TransactionFilter { any, all, order, limit: 100, offset: 0 }
}

fn by_height(descending: bool) -> TransactionOrder {
    TransactionOrder::Height { descending }
}

fn by_time() -> TransactionOrder {
    TransactionOrder::Timestamp { descending: true }
}

/// Lists of transactions as the API asks for them. The chain's length decides what is a part of it.
fn transaction_filters(transactions: u32) -> Vec<(&'static str, TransactionFilter)> {
    let tip = i64::from(FIRST_HEIGHT + transactions / 25 - 1);
    let account = || vec![Address(77)];
    let sent_or_received = || vec![Condition::Senders(account()), Condition::Recipients(account())];
    let deep = TransactionFilter { offset: 10_000, ..of(vec![], vec![], by_height(true)) };
    vec![
        ("all", of(vec![], vec![], by_height(false))),
        ("the newest", of(vec![], vec![], by_height(true))),
        ("the newest but many", deep),
        ("the latest", of(vec![], vec![], by_time())),
        ("a block's", of(vec![Condition::Block(BlockId(100))], vec![], by_height(false))),
        ("an account's", of(sent_or_received(), vec![], by_height(true))),
        ("an account's by time", of(sent_or_received(), vec![], by_time())),
        (
            "an account's since",
            of(sent_or_received(), vec![Condition::Heights(Some(tip * 3 / 4), None)], by_height(true)),
        ),
        (
            "from one to another",
            of(vec![Condition::Senders(account())], vec![Condition::Recipients(account())], by_height(false)),
        ),
        (
            "of several senders",
            of(vec![Condition::Senders(vec![Address(1), Address(2)])], vec![], by_height(false)),
        ),
        ("of a key", of(vec![Condition::SenderKey(PublicKey([7; 32]))], vec![], by_height(false))),
        ("of a rare type", of(vec![Condition::Type(1)], vec![], by_height(true))),
        ("of the usual type", of(vec![Condition::Type(0)], vec![], by_height(true))),
        ("of heights", of(vec![Condition::Heights(Some(100), Some(105))], vec![], by_height(false))),
        ("with confirmations", of(vec![Condition::Heights(None, Some(tip - 1))], vec![], by_height(true))),
        ("of a time", of(vec![Condition::Timestamps(Some(1000), Some(2000))], vec![], by_height(false))),
    ]
}

/// Those that no index serves: amounts are in none, since each index costs every transaction that is written. The
/// reader's statement timeout bounds them.
fn filters_that_read_all() -> Vec<(&'static str, TransactionFilter)> {
    let amounts = vec![Condition::Amounts(Some(1000), Some(2000))];
    vec![
        ("by amount", of(vec![], vec![], TransactionOrder::Amount { descending: true })),
        ("of an amount", of(amounts, vec![], by_height(true))),
    ]
}

fn block_filters() -> Vec<(&'static str, BlockFilter)> {
    let some = || BlockFilter { limit: 100, ..BlockFilter::default() };
    vec![
        ("the newest blocks", some()),
        ("the first blocks", BlockFilter { ascending: true, ..some() }),
        ("blocks but many", BlockFilter { offset: 5000, ..some() }),
        ("a height's block", BlockFilter { height: Some(100), ..some() }),
        ("the block that follows", BlockFilter { previous_block: Some(BlockId(100)), ..some() }),
        ("a forger's blocks", BlockFilter { generator: Some(PublicKey([7; 32])), ..some() }),
    ]
}

/// As with amounts of transactions.
fn block_filters_that_read_all() -> Vec<(&'static str, BlockFilter)> {
    let some = || BlockFilter { limit: 100, ..BlockFilter::default() };
    vec![
        ("blocks of a reward", BlockFilter { reward: Some(5), ..some() }),
        ("blocks of an amount", BlockFilter { total_amount: Some(5), ..some() }),
        ("blocks of a fee", BlockFilter { total_fee: Some(5), ..some() }),
    ]
}

/// A filled database, and who looks at what the server counted.
struct Filled {
    database: Database,
    admin: Client,
}

impl Filled {
    async fn with(transactions: u32) -> Self {
        let chain = Chain::first_up_to(3);
        let database = Database::new(&chain.parameters()).await;
        apply(&mut database.writing().await, &chain.appends(1..=3), 10).await;
        let admin = database.client(&database.admin()).await;
        admin.batch_execute(&filler(transactions)).await.unwrap();
        // As autovacuum leaves them.
        for table in ["blocks", "transactions"] {
            admin.batch_execute(&format!("vacuum analyze forebay.{table}")).await.unwrap();
        }
        Self { database, admin }
    }

    /// How often a table was read whole. A session's counts are added when it ends.
    async fn scans(&self) -> i64 {
        let open = "select count(*) from pg_stat_activity where application_name = 'forebay api'";
        while self.admin.query_one(open, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let sql = "select sum(seq_scan)::bigint from pg_stat_user_tables \
             where schemaname = 'forebay' and relname in ('blocks', 'transactions')";
        self.admin.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Runs reads in a session of their own: how many whole tables they read.
    async fn scans_of(&self, reads: impl AsyncFnOnce(&Lists<'_>)) -> i64 {
        let before = self.scans().await;
        {
            let options =
                PoolOptions { statement_timeout: Duration::from_secs(60), ..PoolOptions::default() };
            let pool = ReadPool::new(&self.database.reader(), options).unwrap();
            let mut session = pool.session().await.unwrap();
            let lists = session.lists().await.unwrap();
            reads(&lists).await;
        }
        self.scans().await - before
    }

    async fn scans_of_transactions(&self, filter: &TransactionFilter) -> i64 {
        self.scans_of(async |lists| {
            lists.count_transactions(filter).await.unwrap();
            lists.transactions(filter).await.unwrap();
        })
        .await
    }

    async fn scans_of_blocks(&self, filter: &BlockFilter) -> i64 {
        self.scans_of(async |lists| {
            lists.blocks(filter).await.unwrap();
        })
        .await
    }
}

/// Every list of the API, as the server counts what was really read, and the plans of pages of transactions.
async fn no_usual_list_reads_a_whole_table(transactions: u32) {
    let filled = Filled::with(transactions).await;
    for (name, filter) in transaction_filters(transactions) {
        filled
            .scans_of(async |lists| {
                let plan = lists.explain_transactions(&filter).await.unwrap();
                assert!(!plan.contains("Seq Scan on transactions"), "{name}:\n{plan}");
                assert!(plan.contains("Index"), "{name}:\n{plan}");
            })
            .await;
        assert_eq!(filled.scans_of_transactions(&filter).await, 0, "{name}");
    }
    for (name, filter) in block_filters() {
        assert_eq!(filled.scans_of_blocks(&filter).await, 0, "{name}");
    }
    let others = filled
        .scans_of(async |lists| {
            let (account, key) = (Address(77), PublicKey([7; 32]));
            lists.richest(100, 0).await.unwrap();
            lists.groups_of(&key).await.unwrap();
            lists.forged_between(account, 1000, 100_000).await.unwrap();
            lists.voters(account).await.unwrap();
            lists.delegates_named_like("e").await.unwrap();
            lists.count_votes().await.unwrap();
            lists.operations_from(1, 100).await.unwrap();
            lists.newest_blocks(1000).await.unwrap();
            assert!(lists.block_by_id(BlockId(100)).await.unwrap().is_some());
            assert!(lists.block_at(100).await.unwrap().is_some());
        })
        .await;
    assert_eq!(others, 0, "the lists that are not of transactions and blocks");
    // Named, so that whoever gives one an index moves it up.
    for (name, filter) in filters_that_read_all() {
        assert!(filled.scans_of_transactions(&filter).await > 0, "{name}");
    }
    for (name, filter) in block_filters_that_read_all() {
        assert!(filled.scans_of_blocks(&filter).await > 0, "{name}");
    }
    counts_are_right(&filled, transactions).await;
}

async fn counts_are_right(filled: &Filled, transactions: u32) {
    filled
        .scans_of(async |lists| {
            let count =
                async |any| lists.count_transactions(&of(any, vec![], by_height(false))).await.unwrap();
            assert_eq!(count(vec![]).await, u64::from(transactions + OF_THE_ORACLE), "as the tip says");
            let (rare, usual) =
                (count(vec![Condition::Type(1)]).await, count(vec![Condition::Type(0)]).await);
            assert!(rare > u64::from(transactions) / 21 && usual > 18 * rare, "{rare}, {usual}");
            let last = i64::from(FIRST_HEIGHT + transactions / 25 - 1);
            let heights = [
                (Some(100), Some(105), 150),
                (Some(100), None, u64::try_from(last - 99).unwrap() * 25),
                (None, Some(last - 1), u64::from(transactions + OF_THE_ORACLE) - 25),
                (Some(105), Some(100), 0),
                (Some(last + 1), None, 0),
                (None, Some(0), 0),
            ];
            for (from, to, expected) in heights {
                assert_eq!(count(vec![Condition::Heights(from, to)]).await, expected, "{from:?} to {to:?}");
            }
        })
        .await;
}

#[tokio::test]
async fn the_usual_lists_read_no_whole_table() {
    // Enough that reading everything costs more than any index.
    no_usual_list_reads_a_whole_table(300_000).await;
}

#[tokio::test]
#[ignore = "minutes and gigabytes: run it by hand, see docs/performance.md"]
async fn the_usual_lists_read_no_whole_table_of_five_million_transactions() {
    no_usual_list_reads_a_whole_table(5_000_000).await;
}
