//! The memory plan is within a tenth of what Redis uses after the load, for chains of very different size.

use std::sync::Arc;
use std::time::Instant;

use forebay_fast::{Calibration, Holder};
use forebay_generator::{Network, NetworkOptions};
use forebay_servers::testing::TestOptions;
use forebay_store::memory::{Chain, Machine, MemoryPlan, PlanInputs, RedisMemory, measure, take_census};
use forebay_testkit::node::Bench;
use tokio_postgres::Client;

/// Accounts and transactions come by SQL: the plan counts rows, and a restore reads them, wherever they come from.
/// Seven in ten have a key, one in three a vote, one in fifty a second key (and so a record too long for its bucket).
const SWELL: &str = "
set session_replication_role = replica;
create temporary table news as
    select i, ('x' || substr(md5('account ' || i), 1, 16))::bit(64)::bigint as address,
           (hashint8(i)::bigint & 1048575) * 123457 as balance
    from generate_series(1, $accounts) i;
insert into forebay.accounts (address, balance, created_height, public_key, second_public_key)
    select address, balance, 1, case when i % 10 < 7 then sha256(i::text::bytea) end,
           case when i % 50 = 0 then sha256(i::text::bytea) end
    from news;
create temporary table chosen as
    select address, row_number() over (order by address) - 1 as n from forebay.delegates;
create temporary table cast_votes as
    select news.address as voter, news.balance, chosen.address as delegate
    from news join chosen on chosen.n = news.i % (select count(*) from chosen)
    where news.i % 3 = 0;
insert into forebay.votes select voter, delegate from cast_votes;
update forebay.delegates d
    set voters_balance = d.voters_balance + s.balance, voters_share = d.voters_share + s.balance
    from (select delegate, sum(balance)::bigint as balance from cast_votes group by delegate) s
    where s.delegate = d.address;
insert into forebay.transactions
    (id, sender, recipient, amount, fee, height, index, timestamp, type, sender_public_key, signature)
    select ('x' || substr(md5('transaction ' || i), 1, 16))::bit(64)::bigint, i, i, 1, 1, 0, i, 1, 0,
           decode(repeat('00', 32), 'hex'), decode(repeat('00', 64), 'hex')
    from generate_series(1, $transactions) i;
update forebay.blocks set transactions_before = transactions_before + $transactions
    where height = (select max(height) from forebay.blocks);
set session_replication_role = origin;
";

async fn swell(admin: &Client, accounts: u64, transactions: u64) {
    let sql =
        SWELL.replace("$accounts", &accounts.to_string()).replace("$transactions", &transactions.to_string());
    admin.batch_execute(&sql).await.unwrap();
    admin.batch_execute("vacuum analyze").await.unwrap();
}

fn network() -> Network {
    let options = NetworkOptions { accounts: 50, ..NetworkOptions::default() };
    Network::from_seed("memory plan", &options).unwrap()
}

/// Loads a chain with so many accounts and transactions; the plan that was made before, and what Redis used then.
async fn planned_and_used(accounts: u64, transactions: u64, calibrated: bool) -> (MemoryPlan, u64) {
    let network = network();
    let (profile, genesis) = (Arc::new(network.profile), Arc::new(network.genesis));
    let mut bench = Bench::with(TestOptions::default(), Arc::clone(&profile), Arc::clone(&genesis)).await;
    let node = bench.start().await.unwrap();
    node.settle().await;
    node.stop().await.unwrap();
    swell(&bench.admin().await, accounts, transactions).await;
    // A Redis that has just started, as after an upgrade.
    bench.servers.servers().stop_redis().await.unwrap();
    bench.servers.restart_redis().await.unwrap();

    let calibration = if calibrated {
        let holder = Holder { host: "test".to_owned(), pid: 1, since_ms: 0 };
        let measured =
            measure(&bench.options.redis_url, Some(&bench.options.postgres), &profile.name, &holder).await;
        eprintln!("measured: {measured:?}");
        measured.unwrap()
    } else {
        Calibration::default()
    };
    let chain = Chain { profile: &profile, genesis: &genesis };
    let counting = Instant::now();
    let census = take_census(&bench.options.postgres, chain, &bench.options.limits, None).await.unwrap();
    eprintln!("counted in {:?}", counting.elapsed());
    let plan = MemoryPlan::new(&PlanInputs {
        census,
        chain_name_bytes: profile.name.len() as u64,
        delegates_per_round: profile.delegates,
        transactions_per_block_max: profile.limits.transactions_per_block,
        limits: &bench.options.limits,
        calibration,
        is_durable: false,
        horizon_days: 30,
        redis: RedisMemory::default(),
        machine: Some(Machine::of_process(None)),
        postgres_bytes: 0,
        api_bytes: 0,
    });
    let node = bench.start().await.unwrap();
    let used = node.node.fast().server_facts().await.unwrap().memory_bytes_used;
    let weights = node.node.fast().weigh_keys().await.unwrap();
    node.stop().await.unwrap();
    eprintln!(
        "{accounts} accounts, {transactions} transactions: planned {}, used {used}: {:.3}; weighed {weights:?}",
        plan.needed_bytes,
        plan.needed_bytes as f64 / used as f64,
    );
    for part in &plan.parts {
        eprintln!(
            "  {:>18} {:>12} {:>12} {:>12}",
            part.name, part.now_bytes, part.at_horizon_bytes, part.at_limit_bytes
        );
    }
    (plan, used)
}

#[track_caller]
fn assert_within_a_tenth(plan: &MemoryPlan, used: u64) {
    let planned = plan.needed_bytes;
    assert!(planned.abs_diff(used) * 10 <= used, "planned {planned}, used {used}: {:?}", plan.parts);
}

#[tokio::test]
async fn ten_thousand_accounts_take_what_was_planned() {
    let (plan, used) = planned_and_used(10_000, 50_000, false).await;
    assert_within_a_tenth(&plan, used);
}

#[tokio::test]
async fn two_hundred_thousand_accounts_take_what_was_planned() {
    let (plan, used) = planned_and_used(200_000, 1_000_000, false).await;
    assert_within_a_tenth(&plan, used);
}

#[tokio::test]
async fn a_plan_that_was_calibrated_on_the_server_in_use_is_as_close() {
    let (plan, used) = planned_and_used(30_000, 100_000, true).await;
    assert_within_a_tenth(&plan, used);
}

/// `cargo test -p forebay-store --release --test all -- --ignored --nocapture two_million`: some minutes, 5 GB of disk.
#[tokio::test]
#[ignore = "takes minutes"]
async fn two_million_accounts_take_what_was_planned() {
    let (plan, used) = planned_and_used(2_000_000, 4_000_000, false).await;
    assert_within_a_tenth(&plan, used);
}
