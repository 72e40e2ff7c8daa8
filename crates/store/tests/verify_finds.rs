//! `verify` finds what was tampered with in either tier, and names it.

use forebay_store::verify::{Finding, Tier, Verification};
use forebay_testkit::chain::OracleChain;
use forebay_testkit::node::{Bench, TestNode};

async fn ready() -> Option<(OracleChain, Bench, TestNode)> {
    let chain = OracleChain::first()?;
    let bench = Bench::new(chain.profile.clone(), chain.genesis.clone()).await;
    let node = bench.start().await.unwrap();
    node.apply_all(&chain.blocks[..149]).await;
    node.settle().await;
    assert_eq!(bench.verify(true).await.findings, []);
    Some((chain, bench, node))
}

fn finding<'a>(found: &'a Verification, subject: &str) -> &'a Finding {
    let named = found.findings.iter().find(|finding| finding.subject.contains(subject));
    named.unwrap_or_else(|| panic!("no finding about {subject} in {:#?}", found.findings))
}

/// As somebody with all rights would: the triggers are off.
async fn tamper_slow(bench: &Bench, sql: &str) {
    let sql = format!("set session_replication_role = replica; {sql}");
    bench.admin().await.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_and_a_vote_changed_in_postgres() {
    let Some((_, bench, node)) = ready().await else { return };
    tamper_slow(&bench, "update forebay.accounts set balance = balance + 1 where address = 42").await;
    let voter: i64 = bench
        .admin()
        .await
        .query_one("delete from forebay.votes where voter = (select min(voter) from forebay.votes where voter > 0) returning voter", &[])
        .await
        .unwrap()
        .get(0);
    let found = bench.verify(true).await;
    assert_eq!(finding(&found, "account 42R balance").tier, Tier::Either);
    finding(&found, &format!("account {voter}R votes"));
    // The deep check knows which tier is wrong.
    let blamed: Vec<_> = found.findings.iter().filter(|f| f.tier == Tier::Slow).collect();
    assert!(blamed.iter().any(|f| f.subject == "account 42R balance"), "{blamed:#?}");
    assert!(found.findings.iter().all(|f| f.tier != Tier::Fast), "{:#?}", found.findings);
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_and_a_block_missing_in_postgres() {
    let Some((chain, bench, node)) = ready().await else { return };
    let block = &chain.blocks[1];
    let transaction = &block.transactions[3];
    tamper_slow(
        &bench,
        &format!("delete from forebay.transactions where id = {}", transaction.id.to_bigint()),
    )
    .await;
    tamper_slow(&bench, "delete from forebay.blocks where height = 77").await;
    let found = bench.verify(false).await;
    assert_eq!(finding(&found, &format!("transaction {}", transaction.id)).tier, Tier::Slow);
    finding(&found, &format!("block {}", block.id));
    assert_eq!(finding(&found, &format!("block {} (height 77)", chain.blocks[75].id)).tier, Tier::Slow);
    assert!(found.findings_total < 10, "{:#?}", found.findings);
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_a_transaction_and_a_block_tampered_with_in_redis() {
    let Some((chain, bench, node)) = ready().await else { return };
    let redis = redis::Client::open(bench.options.redis_url.as_str()).unwrap();
    let mut connection = redis.get_multiplexed_async_connection().await.unwrap();
    let prefix = node.node.fast().keys().prefix().to_owned();
    let mut run = async |command: &mut redis::Cmd| {
        let value: redis::Value = command.query_async(&mut connection).await.unwrap();
        value
    };
    let buckets = node.node.fast().head().await.unwrap().buckets;
    let keys = node.node.fast().keys().clone();

    // Account 42 is plain: its record stands in its bucket. Another plain account's record is put in its place.
    let address = forebay_ledger::ids::Address(42);
    let other = forebay_ledger::ids::Address(9_999_999_999);
    let (bucket, from) =
        (keys.account_bucket(buckets.of_account(address)), keys.account_bucket(buckets.of_account(other)));
    let record = run(redis::cmd("HGET").arg(&from).arg(&other.0.to_be_bytes())).await;
    let redis::Value::BulkString(record) = record else { panic!("no record in {from} of {prefix}") };
    run(redis::cmd("HSET").arg(&bucket).arg(&address.0.to_be_bytes()).arg(record)).await;

    let transaction = chain.blocks[1].transactions[3].id;
    let bucket = keys.transaction_bucket(buckets.of_transaction(transaction));
    run(redis::cmd("HDEL").arg(bucket).arg(&transaction.0.to_be_bytes())).await;
    let block = chain.blocks[75].id;
    run(redis::cmd("DEL").arg(keys.block(block))).await;

    let found = bench.verify(true).await;
    assert!(found.findings.iter().any(|f| f.tier == Tier::Fast && f.subject == "account 42R balance"));
    assert_eq!(finding(&found, &format!("transaction {transaction}")).tier, Tier::Fast);
    assert_eq!(finding(&found, &format!("block {block}")).tier, Tier::Fast);
    assert!(found.findings.iter().all(|f| f.tier != Tier::Slow), "{:#?}", found.findings);
    drop(node);
}
