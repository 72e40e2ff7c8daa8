//! A new data directory for the private PostgreSQL. It appears under its final name when it is complete, so a start
//! that is cut off is simply done again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::binaries::PostgresPrograms;
use crate::error::{Server, ServersError};
use crate::postgres_server::SUPERUSER;
use crate::secrets::Secrets;
use crate::servers::Home;

/// Appended to postgresql.conf once; relative to that file.
const INCLUDE: &str =
    "\n# Forebay's settings, written at each start.\ninclude_if_exists = '../forebay.conf'\n";

/// The major version that wrote the data directory, `None` when there is none yet.
pub(crate) fn data_major(home: &Home) -> Result<Option<u32>, ServersError> {
    let path = home.layout.postgres_data().join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| ServersError::BadPath {
            path,
            reason: format!("it should hold a major version, but holds `{}`", text.trim()),
            remedy: "Restore the data of PostgreSQL from a backup".to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ServersError::io("reading the version of the data", &path)(error)),
    }
}

/// Creates the data directory with the superuser and its password. Flushed to disk when this returns (unless the
/// options switch flushing off).
pub(crate) async fn initialise(home: &Home, programs: &PostgresPrograms) -> Result<(), ServersError> {
    let (layout, account) = (&home.layout, &home.account);
    let data = layout.postgres_data();
    if data.exists() && data.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(ServersError::BadPath {
            path: data,
            reason: "it is not empty and holds no PostgreSQL data".to_owned(),
            remedy: "Move it away, then start again".to_owned(),
        });
    }
    let new = layout.postgres_dir().join("data.new");
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ServersError::io("removing an unfinished data directory", &new)(error));
        }
        _ => {}
    }
    let secrets = prepare_secrets(home)?;
    tracing::info!(data = %data.display(), version = programs.major, "creating the private PostgreSQL's data");
    account.private_directory(&new)?;
    let password_file = layout.postgres_dir().join("initdb.password");
    account.write_file(&password_file, secrets.password(SUPERUSER).unwrap_or_default().as_bytes())?;
    let ran = run_initdb(home, programs, &new, &password_file).await;
    fs::remove_file(&password_file).map_err(ServersError::io("removing", &password_file))?;
    ran?;
    append_include(&new.join("postgresql.conf"))?;
    fs::rename(&new, &data).map_err(ServersError::io("naming the new data directory", &data))
}

/// The superuser's password is on disk before the data that need it.
fn prepare_secrets(home: &Home) -> Result<Secrets, ServersError> {
    let path = home.layout.postgres_secrets();
    let mut secrets = Secrets::load(&path)?.unwrap_or_default();
    let superuser = [SUPERUSER.to_owned()];
    let new = secrets.add_missing(&superuser).map_err(ServersError::io("making a password for", &path))?;
    if !new.is_empty() {
        secrets.save(&path, &home.account)?;
    }
    Ok(secrets)
}

async fn run_initdb(
    home: &Home,
    programs: &PostgresPrograms,
    data: &Path,
    password_file: &Path,
) -> Result<(), ServersError> {
    let mut command = home.account.command(&programs.initdb, &home.layout.postgres_dir());
    command.arg("-D").arg(data).args(["--username", SUPERUSER, "--auth", "scram-sha-256"]);
    command.arg("--pwfile").arg(password_file);
    // Byte order and UTF-8 everywhere: results must not depend on the machine's locale. Checksums find bad disks.
    command.args(["--encoding", "UTF8", "--locale", "C", "--data-checksums"]);
    if !home.options.postgres.fsync {
        // Tests: no flushing, and a first WAL file of 1 MiB instead of 16.
        command.args(["--no-sync", "--wal-segsize", "1"]);
    }
    let output = command.output().await.map_err(ServersError::io("running initdb", &programs.initdb))?;
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout, output.stderr].concat();
    Err(ServersError::StartFailed {
        server: Server::Postgres,
        reason: format!("initdb could not create its data ({})", output.status),
        log_path: home.layout.postgres_log(),
        log_tail: String::from_utf8_lossy(&words).trim().to_owned(),
    })
}

fn append_include(conf: &Path) -> Result<(), ServersError> {
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let append = || -> io::Result<()> {
        let mut file = options.open(conf)?;
        file.write_all(INCLUDE.as_bytes())?;
        file.sync_all()
    };
    append().map_err(ServersError::io("writing the settings", conf))
}
