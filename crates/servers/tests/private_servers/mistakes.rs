//! What a mistake is answered with: the cause, and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use forebay_servers::{ErrorKind, PrivateServers, ServersError};

use crate::fixture::{Place, is_root};

#[tokio::test]
async fn a_missing_redis_is_named_with_its_package() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.binaries.redis_server = Some(PathBuf::from("/nowhere/redis-server"));
    let servers = PrivateServers::open(options).await.unwrap();
    let error = servers.start_redis().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Installation);
    let text = error.to_string();
    assert!(
        text.contains("/nowhere/redis-server") && text.contains("apt-get install redis-server"),
        "{text}"
    );
    assert!(text.contains("scripts/setup"), "{text}");
}

#[tokio::test]
async fn a_program_that_is_no_redis_is_refused_by_its_version() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.binaries.redis_server = Some(PathBuf::from("/bin/true"));
    let servers = PrivateServers::open(options).await.unwrap();
    let error = servers.start_redis().await.unwrap_err();
    assert!(matches!(error, ServersError::WrongVersion { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_postgres_is_named_with_its_package() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.binaries.postgres_bin_dir = Some(PathBuf::from("/nowhere"));
    let servers = PrivateServers::open(options).await.unwrap();
    let error = servers.start_postgres().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Installation);
    let text = error.to_string();
    assert!(text.contains("/nowhere") && text.contains("apt-get install postgresql"), "{text}");
}

#[tokio::test]
async fn data_of_another_major_version_are_left_alone() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let data = servers.data_dir().join("postgres/data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "12\n").unwrap();
    let text = servers.start_postgres().await.unwrap_err().to_string();
    assert!(text.contains("the existing data need version 12"), "{text}");
    assert!(text.contains("apt-get install postgresql-12"), "{text}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
}

#[tokio::test]
async fn a_redis_that_refuses_its_settings_says_so_itself() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.redis.extra.push(("no-such-directive".to_owned(), "1".to_owned()));
    let servers = PrivateServers::open(options).await.unwrap();
    let text = servers.start_redis().await.unwrap_err().to_string();
    assert!(text.contains("no-such-directive"), "{text}");
}

#[tokio::test]
async fn a_corrupt_append_only_file_stops_the_start_with_the_log_s_last_lines() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let redis = servers.start_redis().await.unwrap();
    crate::fixture::set(&redis, "k", "v").await;
    servers.stop_redis().await.unwrap();
    let files = fs::read_dir(servers.data_dir().join("redis/appendonlydir")).unwrap().flatten();
    let increment =
        files.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(".incr.aof"));
    fs::write(increment.unwrap(), "*3\r\n$3\r\nSET\r\nnonsense in the middle\r\n*1\r\n$4\r\nPING\r\n")
        .unwrap();
    let error = servers.start_redis().await.unwrap_err();
    assert!(matches!(error, ServersError::StartFailed { .. }), "{error}");
    assert!(error.to_string().contains("Bad file format"), "{error}");
}

#[tokio::test]
async fn a_postgres_that_refuses_its_settings_says_so_itself() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.postgres.extra.push(("no_such_setting".to_owned(), "1".to_owned()));
    let servers = PrivateServers::open(options).await.unwrap();
    let error = servers.start_postgres().await.unwrap_err();
    assert!(matches!(error, ServersError::StartFailed { .. }), "{error}");
    assert!(error.to_string().contains("unrecognized configuration parameter"), "{error}");
    // Put right, it goes on with the data that are there.
    place.open("a").await.start_postgres().await.unwrap();
}

#[tokio::test]
async fn lost_passwords_are_named_with_their_file() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    servers.start_postgres().await.unwrap();
    let secrets = servers.data_dir().join("postgres/secrets.json");
    fs::remove_file(&secrets).unwrap();
    let error = servers.start_postgres().await.unwrap_err();
    assert!(matches!(error, ServersError::Secrets { .. }), "{error}");
    assert!(error.to_string().contains(&*secrets.to_string_lossy()), "{error}");
}

#[tokio::test]
async fn an_unfinished_data_directory_is_made_anew() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let unfinished = servers.data_dir().join("postgres/data.new");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    servers.start_postgres().await.unwrap();
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_directory_that_the_servers_account_cannot_enter_is_named() {
    let place = Place::new().await;
    let closed = place.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let opened = PrivateServers::open(place.options("closed/a")).await;
    if is_root() {
        let text = opened.unwrap_err().to_string();
        assert!(text.contains(&format!("chmod o+x {}", closed.display())), "{text}");
    } else {
        // Ordinary users run the servers as themselves.
        opened.unwrap();
    }
}
