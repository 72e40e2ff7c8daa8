//! Who can reach the servers, and as whom.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use forebay_servers::{PrivateServers, SUPERUSER, ServersError};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::fixture::{Place, is_root, redis, sql, superuser};

#[tokio::test]
async fn nothing_listens_on_tcp() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    let (redis, postgres) = servers.start().await.unwrap();
    let tables =
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    // The tenth column is the socket's inode.
    let tcp: HashSet<String> = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| line.split_ascii_whitespace().nth(9))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    for pid in [redis.pid(), postgres.pid()] {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let targets: Vec<_> = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        let sockets: Vec<_> =
            targets.iter().map(|t| t.to_string_lossy()).filter(|t| t.starts_with("socket:")).collect();
        assert!(!sockets.is_empty(), "its Unix socket is one");
        assert!(sockets.iter().all(|socket| !tcp.contains(socket.as_ref())), "{sockets:?}");
    }
}

#[tokio::test]
async fn files_and_sockets_are_closed_to_others_and_do_not_belong_to_root() {
    let place = Place::new().await;
    let servers = place.open("a").await;
    servers.start().await.unwrap();
    for private in ["redis", "postgres", "postgres/data", "postgres/secrets.json", "postgres/postgres.log"] {
        let meta = fs::metadata(servers.data_dir().join(private)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o077, 0, "{private}");
        assert_ne!(meta.uid(), 0, "{private}");
        assert_eq!(meta.uid() == rustix::process::geteuid().as_raw(), !is_root(), "{private}");
    }
}

#[tokio::test]
async fn each_role_logs_in_with_its_own_password_and_has_no_rights() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.postgres.roles = ["owner", "writer", "reader"].map(str::to_owned).to_vec();
    options.postgres.database_owner = Some("owner".to_owned());
    let servers = PrivateServers::open(options).await.unwrap();
    let postgres = servers.start_postgres().await.unwrap();

    sql(&postgres, "owner").await.batch_execute("create schema s; create table s.t (n int)").await.unwrap();
    for role in ["writer", "reader"] {
        let client = sql(&postgres, role).await;
        let user = client
            .query_one("select current_user::text, usesuper from pg_user where usename = current_user", &[]);
        let row = user.await.unwrap();
        assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, bool>(1)), (role, false));
        let refused = client.batch_execute("select * from s.t").await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
        let refused = client.batch_execute("create schema mine").await.unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    }
    let mut wrong = postgres.config("owner").unwrap();
    wrong.password(postgres.password("reader").unwrap());
    let error = wrong.connect(NoTls).await.err().expect("refused");
    assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD));
    assert!(matches!(postgres.config("nobody"), Err(ServersError::Secrets { .. })));
}

#[tokio::test]
async fn roles_are_added_to_a_server_that_runs_and_keep_their_passwords() {
    let place = Place::new().await;
    let before = place.open("a").await.start_postgres().await.unwrap();
    let mut options = place.options("a");
    options.postgres.roles = vec!["reader".to_owned()];
    let servers = PrivateServers::open(options).await.unwrap();
    let first = servers.start_postgres().await.unwrap();
    assert_eq!(first.pid(), before.pid());
    sql(&first, "reader").await.batch_execute("select 1").await.unwrap();
    let second = servers.start_postgres().await.unwrap();
    assert_eq!(first.password("reader").unwrap(), second.password("reader").unwrap());
    // Printing the handle does not print passwords.
    assert!(!format!("{second:?}").contains(second.password(SUPERUSER).unwrap()));
}

#[tokio::test]
async fn the_settings_that_the_promises_stand_on_are_live() {
    let place = Place::new().await;
    let mut options = place.options("a");
    options.postgres.fsync = true;
    let servers = PrivateServers::open(options).await.unwrap();
    let (redis_server, postgres) = servers.start().await.unwrap();
    let mut connection = redis(&redis_server).await;
    for (name, value) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("aof-use-rdb-preamble", "yes"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("port", "0"),
        ("unixsocketperm", "700"),
        ("hash-max-listpack-entries", "512"),
        ("hash-max-listpack-value", "64"),
    ] {
        let answer: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await.unwrap();
        assert_eq!(answer[1], value, "{name}");
    }
    let client = superuser(&postgres).await;
    for (name, value) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", ""),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
    ] {
        let row = client.query_one("select setting from pg_settings where name = $1", &[&name]).await;
        let live = match row {
            Ok(row) => row.get::<_, String>(0),
            // Since PostgreSQL 16 a property of the database.
            Err(_) => client
                .query_one("select datcollate from pg_database where datname = 'forebay'", &[])
                .await
                .unwrap()
                .get(0),
        };
        assert_eq!(live, value, "{name}");
    }
}
