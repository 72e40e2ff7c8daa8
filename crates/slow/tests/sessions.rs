//! Setting up, taking over, and answers that get lost.

use std::time::Duration;

use forebay_slow::setup::{ChainParameters, Names, migrate, prepare};
use forebay_slow::{ErrorKind, SlowWriter, WriterOptions};

use crate::support::Database;
use crate::support::chain::{Chain, apply, load_json};
use crate::support::dump::{Leftovers, differences, everything};

#[tokio::test]
async fn setting_up_twice_changes_nothing_and_another_chain_is_refused() {
    let chain = Chain::first_up_to(5);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=5), 10).await;
    let admin = database.client(&database.admin()).await;
    let before = everything(&admin).await;
    migrate(&database.admin(), &database.names, &chain.parameters()).await.unwrap();
    assert!(before == everything(&admin).await);

    let mut profile = chain.profile.clone();
    profile.name = "another".into();
    let other = ChainParameters::new(&profile, &chain.main[0].block);
    let refused = migrate(&database.admin(), &database.names, &other).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WrongDatabase);
    assert!(refused.to_string().contains("another"), "{refused}");
}

#[tokio::test]
async fn two_setups_at_once_both_succeed() {
    let chain = Chain::first_up_to(1);
    let database = Database::unprepared().await;
    let (admin, parameters) = (database.admin(), chain.parameters());
    let (one, other) = tokio::join!(
        migrate(&admin, &database.names, &parameters),
        migrate(&admin, &database.names, &parameters)
    );
    one.unwrap();
    other.unwrap();
}

#[tokio::test]
async fn the_code_schema_is_made_anew_over_existing_data() {
    let chain = Chain::first_up_to(150);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=60), 100).await;
    let admin = database.client(&database.admin()).await;
    admin.batch_execute("drop schema rise cascade; drop schema forebay_code cascade").await.unwrap();
    migrate(&database.admin(), &database.names, &chain.parameters()).await.unwrap();
    let mut writer = SlowWriter::connect(&database.writer()).await.unwrap();
    apply(&mut writer, &chain.appends(61..=150), 100).await;
    let found = differences(&admin, &load_json("chain/accounts-150.json"), &Leftovers::default()).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn a_database_that_was_not_set_up_is_named_as_such() {
    let database = Database::unprepared().await;
    let refused = SlowWriter::connect(&database.writer()).await.unwrap_err();
    // The role cannot see a schema that is not there.
    assert_eq!(refused.kind(), ErrorKind::WrongDatabase, "{refused}");
}

#[tokio::test]
async fn a_successor_fences_the_writer_before_and_ends_its_session() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    let mut first = database.writing().await;
    apply(&mut first, &chain.appends(1..=5), 10).await;

    let mut second = SlowWriter::connect(&database.writer()).await.unwrap();
    let position = second.take_over(1, 2).await.unwrap();
    assert_eq!((position.epoch, position.seq, position.height), (2, 5, 5));
    let ended = first.apply(1, 5, 6, &chain.appends(6..=6), 1).await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Unavailable, "{ended}");
    let mut first = SlowWriter::connect(&database.writer()).await.unwrap();
    let fenced = first.apply(1, 5, 6, &chain.appends(6..=6), 1).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
    // Too late: it saw epoch 1, or knows of no higher one. The owner's session goes on.
    for (seen, epoch) in [(1, 3), (2, 2), (1, 2)] {
        let refused = first.take_over(seen, epoch).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Fenced, "{refused}");
    }
    second.apply(2, 5, 6, &chain.appends(6..=6), 1).await.unwrap();
}

#[tokio::test]
async fn the_same_batch_again_is_fenced_and_changes_nothing() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    let operations = chain.appends(1..=10);
    let committed = writer.apply(1, 0, 10, &operations, 1).await.unwrap();
    assert_eq!(committed.position, writer.position().await.unwrap());
    assert_eq!(committed.position.block_id, Some(chain.main[9].block.id));
    assert_eq!(committed.blocks_inserted, 10);
    let admin = database.client(&database.admin()).await;
    let before = everything(&admin).await;
    let fenced = writer.apply(1, 0, 10, &operations, 1).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced);
    assert!(fenced.to_string().contains("seq 10"), "{fenced}");
    assert!(before == everything(&admin).await);
}

/// Makes COMMIT wait for a lock that the test holds, so that the session can be ended in the middle of it.
const SLOW_COMMIT: &str = "create function public.wait_at_commit() returns trigger language plpgsql security definer as $$ \
     begin perform pg_advisory_xact_lock(4711); return null; end $$; \
     create constraint trigger zz_wait after update on forebay.position deferrable initially deferred \
     for each row execute function public.wait_at_commit()";

#[tokio::test]
async fn a_session_that_breaks_at_commit_leaves_the_outcome_unknown_and_the_position_tells() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=5), 10).await;
    let admin = database.client(&database.admin()).await;
    admin.batch_execute(SLOW_COMMIT).await.unwrap();
    admin.batch_execute("select pg_advisory_lock(4711)").await.unwrap();

    let operations = chain.appends(6..=6);
    let applying = tokio::spawn(async move { writer.apply(1, 5, 6, &operations, 1).await });
    let waiting = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted \
         and database = (select oid from pg_database where datname = current_database())";
    while admin.query(waiting, &[]).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let unknown = applying.await.unwrap().unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::OutcomeUnknown, "{unknown}");

    admin.batch_execute("select pg_advisory_unlock(4711)").await.unwrap();
    let mut writer = SlowWriter::connect(&database.writer()).await.unwrap();
    assert_eq!(writer.position().await.unwrap().seq, 5);
    writer.apply(1, 5, 6, &chain.appends(6..=6), 1).await.unwrap();
}

#[tokio::test]
async fn a_lock_of_an_administrator_is_a_conflict_and_the_same_works_once_it_is_gone() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=5), 10).await;
    let admin = database.client(&database.admin()).await;
    let options = WriterOptions { lock_timeout: Duration::from_millis(200), ..WriterOptions::default() };
    for lock in ["lock table forebay.accounts in share mode", "select from forebay.position for update"] {
        admin.batch_execute(&format!("begin; {lock}")).await.unwrap();
        let mut writer = SlowWriter::connect_with(&database.writer(), options).await.unwrap();
        let position = writer.position().await.unwrap();
        let next = chain.appends(position.height + 1..=position.height + 1);
        let conflict = writer.apply(1, position.seq, position.seq + 1, &next, 1).await.unwrap_err();
        assert_eq!(
            (conflict.kind(), conflict.sqlstate()),
            (ErrorKind::Conflict, Some("55P03")),
            "{conflict}"
        );
        assert_eq!(writer.position().await.unwrap(), position);
        admin.batch_execute("rollback").await.unwrap();
        writer.apply(1, position.seq, position.seq + 1, &next, 2).await.unwrap();
    }
}

#[tokio::test]
async fn two_sessions_that_lock_rows_in_opposite_order_end_as_a_conflict() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    let mut writer = database.writing().await;
    apply(&mut writer, &chain.appends(1..=5), 10).await;
    let admin = database.client(&database.admin()).await;
    // The rival's own check comes late, so that the writer is the one that finds the deadlock.
    admin
        .batch_execute("set deadlock_timeout = '1min'; begin; select from forebay.accounts for update")
        .await
        .unwrap();
    let applying = {
        let operations = chain.appends(6..=6);
        tokio::spawn(async move { writer.apply(1, 5, 6, &operations, 1).await })
    };
    let waiting =
        "select from pg_stat_activity where application_name = 'forebay writer' and wait_event_type = 'Lock'";
    while admin.query(waiting, &[]).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
        admin.batch_execute("select pg_stat_clear_snapshot()").await.unwrap();
    }
    admin.batch_execute("select from forebay.position for update").await.unwrap();
    let conflict = applying.await.unwrap().unwrap_err();
    assert_eq!((conflict.kind(), conflict.sqlstate()), (ErrorKind::Conflict, Some("40P01")), "{conflict}");
    admin.batch_execute("rollback").await.unwrap();
    let mut writer = SlowWriter::connect(&database.writer()).await.unwrap();
    writer.apply(1, 5, 6, &chain.appends(6..=6), 2).await.unwrap();
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_a_conflict() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=5), 10).await;
    let admin = database.client(&database.admin()).await;
    admin.batch_execute("begin; lock table forebay.accounts in share mode").await.unwrap();
    let options = WriterOptions {
        lock_timeout: Duration::ZERO,
        statement_timeout: Duration::from_millis(200),
        ..WriterOptions::default()
    };
    let mut writer = SlowWriter::connect_with(&database.writer(), options).await.unwrap();
    let conflict = writer.apply(1, 5, 6, &chain.appends(6..=6), 1).await.unwrap_err();
    assert_eq!((conflict.kind(), conflict.sqlstate()), (ErrorKind::Conflict, Some("57014")), "{conflict}");
    assert_eq!(writer.position().await.unwrap().seq, 5);
}

#[tokio::test]
async fn a_server_that_falls_silent_at_commit_leaves_the_outcome_unknown() {
    let chain = Chain::first_up_to(10);
    let database = Database::new(&chain.parameters()).await;
    apply(&mut database.writing().await, &chain.appends(1..=5), 10).await;
    let admin = database.client(&database.admin()).await;
    admin.batch_execute(SLOW_COMMIT).await.unwrap();
    admin.batch_execute("select pg_advisory_lock(4711)").await.unwrap();
    let options = WriterOptions {
        lock_timeout: Duration::ZERO,
        statement_timeout: Duration::ZERO,
        answer_timeout: Duration::from_secs(1),
        ..WriterOptions::default()
    };
    let mut writer = SlowWriter::connect_with(&database.writer(), options).await.unwrap();
    let unknown = writer.apply(1, 5, 6, &chain.appends(6..=6), 1).await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.sqlstate()), (ErrorKind::OutcomeUnknown, None), "{unknown}");

    // The server was only slow: what was called unknown is committed, and the position tells.
    drop(writer);
    admin.batch_execute("select pg_advisory_unlock(4711)").await.unwrap();
    let other = SlowWriter::connect(&database.writer()).await.unwrap();
    while other.position().await.unwrap().seq < 6 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_never_answers_a_login_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(listener.local_addr().unwrap().port());
    config.user("nobody").dbname("nothing").connect_timeout(Duration::from_millis(300));
    let error = SlowWriter::connect(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("silent"), "{error}");
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable() {
    let mut config = tokio_postgres::Config::new();
    config.host_path("/nonexistent").user("nobody").dbname("nothing");
    let error = SlowWriter::connect(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn an_administrator_that_is_no_superuser_can_set_up() {
    let chain = Chain::first_up_to(3);
    let servers = forebay_servers::testing::TestServers::start_postgres().await.unwrap();
    let names = Names::with_prefix("by-\"someone\"");
    let database = Database { names, servers };
    let superuser = database.client(&database.superuser()).await;
    superuser.batch_execute("create role someone login createrole createdb password 'known'").await.unwrap();
    let mut someone = database.superuser();
    someone.user("someone").password("known").dbname("postgres");
    for _ in 0..2 {
        prepare(&someone, &database.names, &crate::support::passwords()).await.unwrap();
        migrate(&someone, &database.names, &chain.parameters()).await.unwrap();
    }
    apply(&mut database.writing().await, &chain.appends(1..=3), 2).await;
    let owner: String = database
        .client(&database.admin())
        .await
        .query_one("select tableowner::text from pg_tables where tablename = 'accounts'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(owner, database.names.owner);
}
