//! Lists of transactions walk indexes: on a large table none of the usual ones reads all of it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use forebay_ledger::ids::{Address, BlockId};
use forebay_ledger::keys::PublicKey;
use forebay_slow::lists::{Condition, PoolOptions, ReadPool, TransactionFilter, TransactionOrder};
use support::Database;
use support::chain::{Chain, apply};

/// Enough that reading everything costs more than any index.
const TRANSACTIONS: i32 = 300_000;

/// Rows that look like a chain's, put in beside the triggers: plans depend on how many there are, not on what they mean.
const FILL: &str = "
    set session_replication_role = replica;
    insert into forebay.blocks select
        h, h - 1, 0, 0, 0, h % 101, (h - 1)::bigint * 25, h, 0, h * 30, 25, 0, sha256('p'), sha256('g'),
        sha256('a') || sha256('b'), null, null
    from generate_series(4, 12003) h;
    insert into forebay.transactions select
        i, i % 5000, case when i % 20 = 0 then null else i % 4999 end, i, 10000000, 4 + i / 25, i % 25, i,
        case when i % 20 = 0 then 1 else 0 end, sha256('k'), sha256('a') || sha256('b'), null, null, null,
        case when i % 20 = 0 then sha256('k') end
    from generate_series(0, 299999) i;
    set session_replication_role = origin;
    analyze forebay.blocks, forebay.transactions;";

#[tokio::test]
async fn the_usual_lists_read_no_whole_table() {
    let chain = Chain::first_up_to(3);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=3), 10).await;
    let admin = database.client(&database.admin()).await;
    admin.batch_execute(FILL).await.unwrap();

    let pool = ReadPool::new(&database.reader(), PoolOptions::default()).unwrap();
    let mut session = pool.session().await.unwrap();
    let lists = session.lists().await.unwrap();
    let by_height = |descending| TransactionOrder::Height { descending };
    let of = |any: Vec<Condition>, all: Vec<Condition>, order| TransactionFilter {
        any,
        all,
        order,
        limit: 100,
        offset: 0,
    };
    let account = || vec![Address(77)];
    let sent_or_received = || vec![Condition::Senders(account()), Condition::Recipients(account())];
    let filters = [
        ("all", of(vec![], vec![], by_height(false))),
        ("the newest", of(vec![], vec![], by_height(true))),
        ("the latest", of(vec![], vec![], TransactionOrder::Timestamp { descending: true })),
        ("a block's", of(vec![Condition::Block(BlockId(100))], vec![], by_height(false))),
        ("an account's", of(sent_or_received(), vec![], by_height(true))),
        (
            "an account's by time",
            of(sent_or_received(), vec![], TransactionOrder::Timestamp { descending: true }),
        ),
        (
            "an account's since",
            of(sent_or_received(), vec![Condition::Heights(Some(9000), None)], by_height(true)),
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
        ("of a time", of(vec![Condition::Timestamps(Some(1000), Some(2000))], vec![], by_height(false))),
    ];
    for (name, filter) in filters {
        let plan = lists.explain_transactions(&filter).await.unwrap();
        assert!(!plan.contains("Seq Scan on transactions"), "{name}:\n{plan}");
        assert!(plan.contains("Index"), "{name}:\n{plan}");
    }
    let all = of(vec![], vec![], by_height(false));
    assert_eq!(lists.count_transactions(&all).await.unwrap(), 300_075, "as the tip says");
    let rare = of(vec![Condition::Type(1)], vec![], by_height(false));
    let usual = of(vec![Condition::Type(0)], vec![], by_height(false));
    let (rare, usual) =
        (lists.count_transactions(&rare).await.unwrap(), lists.count_transactions(&usual).await.unwrap());
    assert!(rare > u64::from(TRANSACTIONS.unsigned_abs()) / 21 && usual > 18 * rare, "{rare}, {usual}");
}
