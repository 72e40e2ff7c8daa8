//! Servers that others work with are not stopped under them, and not left behind.

use crate::fixture::{Place, superuser};

#[tokio::test]
async fn servers_in_use_outlive_their_node_and_end_with_the_last_who_works_with_them() {
    let place = Place::new().await;
    let (node, reader, other) = (place.open("a").await, place.open("a").await, place.open("a").await);
    let (redis, postgres) = node.start().await.unwrap();
    let (first, second) = (reader.in_use().await.unwrap(), other.in_use().await.unwrap());
    let session = superuser(&postgres).await;

    assert!(!node.stop_unless_in_use().await.unwrap());
    first.leave().await.unwrap();
    assert!(redis.is_running() && postgres.is_running());
    session.batch_execute("select 1").await.unwrap();

    second.leave().await.unwrap();
    assert!(!redis.is_running() && !postgres.is_running());
}

#[tokio::test]
async fn without_anybody_else_servers_stop_at_once_and_nothing_is_left_to_a_later_reader() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let (redis, postgres) = servers.start().await.unwrap();
    servers.in_use().await.unwrap().leave().await.unwrap();
    assert!(redis.is_running() && postgres.is_running(), "a reader leaves the servers of a node alone");
    assert!(servers.stop_unless_in_use().await.unwrap());
    assert!(!redis.is_running() && !postgres.is_running());

    let (redis, postgres) = servers.start().await.unwrap();
    servers.in_use().await.unwrap().leave().await.unwrap();
    assert!(redis.is_running() && postgres.is_running());
}

#[tokio::test]
async fn a_postgres_started_for_reads_ends_with_the_last_reader() {
    let place = Place::new().await;
    let (first, second) = (place.open("a").await, place.open("a").await);
    let (postgres, first) = first.start_postgres_in_use().await.unwrap();
    let (adopted, second) = second.start_postgres_in_use().await.unwrap();
    assert!(adopted.is_adopted());
    first.leave().await.unwrap();
    assert!(postgres.is_running());
    second.leave().await.unwrap();
    assert!(!postgres.is_running());
}

#[tokio::test]
async fn a_node_that_comes_meanwhile_keeps_the_postgres_that_readers_started_and_leaves_it_to_them_at_its_end()
 {
    let place = Place::new().await;
    let (node, reader) = (place.open("a").await, place.open("a").await);
    let (postgres, first) = reader.start_postgres_in_use().await.unwrap();
    assert!(node.start_postgres().await.unwrap().is_adopted());
    first.leave().await.unwrap();
    assert!(postgres.is_running(), "it is the node's now");

    let (_, second) = reader.start_postgres_in_use().await.unwrap();
    assert!(!node.stop_unless_in_use().await.unwrap());
    assert!(postgres.is_running());
    second.leave().await.unwrap();
    assert!(!postgres.is_running());
}

#[tokio::test]
async fn what_a_killed_reader_started_ends_with_the_next_one() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let (postgres, killed) = servers.start_postgres_in_use().await.unwrap();
    // As the end of a process does: the lock is gone, and nothing was stopped.
    drop(killed);
    assert!(postgres.is_running());
    let (_, next) = servers.start_postgres_in_use().await.unwrap();
    next.leave().await.unwrap();
    assert!(!postgres.is_running());
}

#[tokio::test]
async fn a_lock_file_that_is_a_symbolic_link_is_not_followed() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let victim = place.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, servers.data_dir().join("in-use.lock")).unwrap();
    servers.in_use().await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}
