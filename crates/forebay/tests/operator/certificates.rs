//! Servers that are reached over TLS: one whose certificate is not trusted is a setting to be corrected, with the remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use forebay_servers::SUPERUSER;
use forebay_servers::testing::{TestOptions, TestServers};

use crate::support::{Ended, Place};

/// An address of this machine that nobody else uses: PostgreSQL listens on its usual port there.
fn own_address() -> String {
    let pid = std::process::id();
    format!("127.{}.{}.{}", 64 + (pid >> 16) % 64, (pid >> 8) % 256, pid % 254 + 1)
}

/// Who signs certificates, and a server's certificate for an address and a name.
fn certificates(folder: &Path, address: &str) {
    let openssl = |words: &str| {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca \
         -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign",
    );
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    fs::write(folder.join("extensions"), format!("subjectAltName=DNS:localhost,IP:{address}\n")).unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem",
    );
    // For the servers' account; it is a test's.
    fs::set_permissions(folder.join("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
}

struct OverTls {
    place: Place,
    runtime: tokio::runtime::Runtime,
    servers: TestServers,
    address: String,
    redis_port: u16,
}

impl OverTls {
    fn start() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "openssl is missing under CI=true");
            eprintln!("skipped: openssl is missing");
            return None;
        }
        let place = Place::new()?;
        let address = own_address();
        certificates(&place.path(""), &address);
        // Encrypted only, as it should be over a network.
        let hba = place.write(
            "pg_hba.conf",
            &[
                "local all all scram-sha-256".to_owned(),
                "hostssl all all 127.0.0.0/8 scram-sha-256".to_owned(),
            ],
        );
        fs::set_permissions(&hba, fs::Permissions::from_mode(0o644)).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let extra = [("listen_addresses", address.clone()), ("hba_file", hba.display().to_string())];
        let options = TestOptions {
            postgres_extra: extra.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            postgres_fsync: true,
            ..TestOptions::default()
        };
        let servers = runtime.block_on(TestServers::with(options)).unwrap();
        let redis_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let this = Self { place, runtime, servers, address, redis_port };
        this.encrypt_redis();
        this.encrypt_postgres();
        Some(this)
    }

    fn encrypt_redis(&self) {
        let path = |name: &str| self.place.path(name).display().to_string();
        let mut connection =
            redis::Client::open(self.servers.redis().redis_url()).unwrap().get_connection().unwrap();
        let _: () = redis::cmd("CONFIG")
            .arg(&[
                "SET",
                "tls-cert-file",
                &path("server.pem"),
                "tls-key-file",
                &path("server.key"),
                "tls-ca-cert-file",
                &path("ca.pem"),
                "tls-auth-clients",
                "no",
                "tls-port",
                &self.redis_port.to_string(),
            ])
            .query(&mut connection)
            .unwrap();
    }

    /// PostgreSQL wants a key that is its own and nobody else's: it writes the file itself.
    fn encrypt_postgres(&self) {
        let read = |name: &str| fs::read_to_string(self.place.path(name)).unwrap();
        let put = |name: &str| {
            format!(
                "copy (select unnest(string_to_array($pem${}$pem$, E'\\n'))) to program \
                 'umask 077; cat > \"$PWD/{name}\"'",
                read(name)
            )
        };
        self.runtime.block_on(async {
            let config = self.servers.postgres().config(SUPERUSER).unwrap();
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            for name in ["server.pem", "server.key"] {
                client.batch_execute(&put(name)).await.unwrap();
            }
            for setting in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
                client.batch_execute(&format!("alter system set {setting}")).await.unwrap();
            }
            client.batch_execute("select pg_reload_conf()").await.unwrap();
        });
        crate::support::until("PostgreSQL speaks TLS", || {
            let said = Command::new("openssl")
                .args(["s_client", "-starttls", "postgres", "-connect", &format!("{}:5432", self.address)])
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            String::from_utf8_lossy(&said.stdout).contains("BEGIN CERTIFICATE")
        });
    }

    fn redis_in_the_clear(&self) -> String {
        self.servers.redis().redis_url()
    }

    fn redis(&self) -> String {
        format!("rediss://localhost:{}", self.redis_port)
    }

    fn postgres(&self, host: &str) -> String {
        let password = self.servers.postgres().password(SUPERUSER).unwrap();
        format!(
            "host={host} hostaddr={} user={SUPERUSER} password={password} dbname=forebay sslmode=require",
            self.address
        )
    }

    fn postgres_in_the_clear(&self) -> String {
        self.servers.postgres().connection_string(SUPERUSER).unwrap()
    }

    fn run(&self, redis: &str, postgres: &str, trusted: Option<&str>, command: &[&str]) -> Ended {
        let genesis = self.place.oracle.join("genesis.json");
        let mut running = self.place.command(command);
        running
            .args(["--redis-url", redis, "--postgres-url", postgres, "--postgres-admin-url", postgres])
            .args(["--network", "rise-devnet", "--genesis"])
            .arg(genesis)
            .env_remove("SSL_CERT_FILE")
            .env_remove("SSL_CERT_DIR");
        if let Some(name) = trusted {
            running.env("SSL_CERT_FILE", self.place.path(name));
        }
        let output = running.output().unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[test]
fn an_untrusted_certificate_of_either_server_is_a_setting_to_be_corrected_and_a_trusted_one_works() {
    let Some(servers) = OverTls::start() else { return };
    let (redis, postgres) = (servers.redis(), servers.postgres("localhost"));
    let (clear_redis, clear_postgres) = (servers.redis_in_the_clear(), servers.postgres_in_the_clear());
    // `run` waits for servers that are away as long as it takes; not for these.
    for command in [&["run"][..], &["replay", "-"], &["status"], &["memory"]] {
        for (redis, postgres, trusted) in [
            (&redis, &clear_postgres, None),
            (&clear_redis, &postgres, None),
            // Another name than the certificate's.
            (&clear_redis, &servers.postgres("elsewhere"), Some("ca.pem")),
            (&clear_redis, &postgres, Some("no-such-file.pem")),
            (&redis, &clear_postgres, Some("no-such-file.pem")),
        ] {
            let refused = servers.run(redis, postgres, trusted, command).with_code(3);
            assert!(refused.stderr.contains("SSL_CERT_FILE"), "{command:?}: {}", refused.stderr);
        }
    }
    // A server that does not speak TLS at all: over a Unix socket PostgreSQL never does.
    let forced = format!("{clear_postgres} sslmode=require");
    servers
        .run(&clear_redis, &forced, Some("ca.pem"), &["replay", "-"])
        .with_code(3)
        .says("does not support TLS");

    let trusted = Some("ca.pem");
    let lines = servers.place.write("blocks.jsonl", &servers.place.blocks()[1..20]);
    let replayed = servers.run(&redis, &postgres, trusted, &["replay", lines.to_str().unwrap(), "--json"]);
    assert_eq!(replayed.with_code(0).json()["durableHeight"], 20);
    servers.run(&redis, &postgres, trusted, &["verify"]).with_code(0);
    let status = servers.run(&redis, &postgres, trusted, &["status", "--json"]).with_code(0).json();
    assert_eq!((&status["slow"]["height"], &status["fast"]["height"]), (&20.into(), &20.into()), "{status}");
    // PostgreSQL's own tools are as strict, and find the same certificates.
    let file = servers.place.path("chain.dump").display().to_string();
    servers.run(&redis, &postgres, trusted, &["backup", &file]).with_code(0);
}
