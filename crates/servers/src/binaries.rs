//! Finding the executables of the servers, and their versions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::error::{Server, ServersError};
use crate::options::Binaries;

/// Searched after `PATH`, which is short in services and cron jobs.
const USUAL_DIRECTORIES: [&str; 5] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin"];

/// Debian's home of the server programs, a directory for each major version.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// Functions came with Redis 7.0, and the listpack settings' names too.
const REDIS_MAJOR_MIN: u32 = 7;

/// Oldest PostgreSQL that we write a configuration for.
const POSTGRES_MAJOR_MIN: u32 = 15;

/// The programs of one PostgreSQL installation.
#[derive(Debug, Clone)]
pub(crate) struct PostgresPrograms {
    pub(crate) postgres: PathBuf,
    pub(crate) initdb: PathBuf,
    /// Such as 15.
    pub(crate) major: u32,
}

/// The Redis server's executable, of a version that will do.
pub(crate) async fn find_redis(binaries: &Binaries) -> Result<PathBuf, ServersError> {
    let found = match &binaries.redis_server {
        Some(path) => is_executable(path).then(|| path.clone()),
        None => find_program("redis-server").or_else(|| find_program("valkey-server")),
    };
    let Some(path) = found else {
        return Err(ServersError::MissingProgram {
            program: "redis-server".to_owned(),
            searched: match &binaries.redis_server {
                Some(path) => path.display().to_string(),
                None => format!("PATH, {}", USUAL_DIRECTORIES.join(", ")),
            },
            package: "redis-server".to_owned(),
        });
    };
    let text = version_text(&path).await?;
    // `Redis server v=7.0.15 sha=…`, `Valkey server v=8.0.1 …`
    let major = text.split_once(" v=").and_then(|(_, rest)| leading_number(rest));
    if major.is_none_or(|major| major < REDIS_MAJOR_MIN) {
        return Err(ServersError::WrongVersion {
            server: Server::Redis,
            found: text.trim().to_owned(),
            needed: format!("Forebay needs version {REDIS_MAJOR_MIN}.0 or newer (for Functions)"),
            remedy: "Install a newer redis-server or valkey-server, or configure its path".to_owned(),
        });
    }
    Ok(path)
}

/// Whether a Redis program has active defragmentation built in: it refuses the setting otherwise. The directory after it
/// does not exist, so that the start ends there in any case.
pub(crate) async fn defragments(program: &Path) -> Result<bool, ServersError> {
    let output = Command::new(program)
        .args(["--port", "0", "--save", "", "--activedefrag", "yes", "--dir", "/dev/null/nowhere"])
        .env("LC_ALL", "C")
        .output()
        .await
        .map_err(ServersError::io("asking the program for its features", program))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(!String::from_utf8_lossy(&text).contains("Active defragmentation cannot be enabled"))
}

/// Whether a PostgreSQL program can compress full pages of its WAL by lz4. It is asked for the setting's value, which it refuses
/// when it was built without; it opens and writes nothing.
pub(crate) async fn compresses_by_lz4(postgres: &Path) -> bool {
    let nothing = ["config_file=/dev/null", "data_directory=/", "hba_file=/dev/null", "ident_file=/dev/null"];
    let mut asked = Command::new(postgres);
    asked.args(["-C", "wal_compression", "-c", "wal_compression=lz4"]);
    for setting in nothing {
        asked.args(["-c", setting]);
    }
    asked.output().await.is_ok_and(|output| output.status.success())
}

/// An installation of PostgreSQL: for existing data (`data_major`) one of the same major version.
pub(crate) async fn find_postgres(
    binaries: &Binaries,
    data_major: Option<u32>,
) -> Result<PostgresPrograms, ServersError> {
    let candidates = match &binaries.postgres_bin_dir {
        Some(directory) => vec![directory.clone()],
        None => postgres_directories().await,
    };
    let mut other_versions = Vec::new();
    for directory in &candidates {
        let (postgres, initdb) = (directory.join("postgres"), directory.join("initdb"));
        if !is_executable(&postgres) || !is_executable(&initdb) {
            continue;
        }
        // `postgres (PostgreSQL) 15.18 (Debian …)`, `postgres (PostgreSQL) 18beta1`
        let text = version_text(&postgres).await?;
        let Some(major) = text.split_once("(PostgreSQL) ").and_then(|(_, rest)| leading_number(rest)) else {
            continue;
        };
        if major >= POSTGRES_MAJOR_MIN && data_major.is_none_or(|wanted| wanted == major) {
            return Ok(PostgresPrograms { postgres, initdb, major });
        }
        other_versions.push(format!("{major} in {}", directory.display()));
    }
    let package = data_major.map_or_else(|| "postgresql".to_owned(), |major| format!("postgresql-{major}"));
    if other_versions.is_empty() {
        let searched = match &binaries.postgres_bin_dir {
            Some(directory) => directory.display().to_string(),
            None => format!("pg_config --bindir, PATH, {DEBIAN_POSTGRES}/*/bin"),
        };
        return Err(ServersError::MissingProgram { program: "postgres".to_owned(), searched, package });
    }
    Err(ServersError::WrongVersion {
        server: Server::Postgres,
        found: format!("version {}", other_versions.join(", ")),
        needed: data_major.map_or_else(
            || format!("Forebay needs {POSTGRES_MAJOR_MIN} or newer"),
            |major| format!("the existing data need version {major}"),
        ),
        remedy: format!("Install it with `apt-get install {package}` or configure its directory"),
    })
}

/// A program of PostgreSQL's clients, such as `pg_dump`: beside the configured server, else the newest one.
///
/// # Errors
/// [`ServersError::MissingProgram`].
pub async fn postgres_tool(binaries: &Binaries, name: &str) -> Result<PathBuf, ServersError> {
    let directories = match &binaries.postgres_bin_dir {
        Some(directory) => vec![directory.clone()],
        None => postgres_directories().await,
    };
    let beside = directories.iter().map(|directory| directory.join(name)).find(|path| is_executable(path));
    beside.or_else(|| find_program(name)).ok_or_else(|| ServersError::MissingProgram {
        program: name.to_owned(),
        searched: format!("pg_config --bindir, PATH, {DEBIAN_POSTGRES}/*/bin"),
        package: "postgresql-client".to_owned(),
    })
}

/// The program that gives another one a session of its own.
pub(crate) fn find_setsid() -> Result<PathBuf, ServersError> {
    find_program("setsid").ok_or_else(|| ServersError::MissingProgram {
        program: "setsid".to_owned(),
        searched: format!("PATH, {}", USUAL_DIRECTORIES.join(", ")),
        package: "util-linux".to_owned(),
    })
}

/// Directories that may hold PostgreSQL's server programs, best first.
async fn postgres_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(pg_config) = find_program("pg_config")
        && let Ok(output) = Command::new(pg_config).arg("--bindir").output().await
        && output.status.success()
    {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    directories.extend(find_program("postgres").and_then(|path| path.parent().map(Path::to_path_buf)));
    let installed = fs::read_dir(DEBIAN_POSTGRES).into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        installed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    directories.extend(versions.iter().map(|major| Path::new(DEBIAN_POSTGRES).join(format!("{major}/bin"))));
    directories
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = USUAL_DIRECTORIES.iter().map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|directory| directory.join(name)).find(|p| is_executable(p))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

async fn version_text(program: &Path) -> Result<String, ServersError> {
    let output = Command::new(program).arg("--version").env("LC_ALL", "C").output().await;
    let output = output.map_err(ServersError::io("asking the version of the program", program))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::compresses_by_lz4;

    #[tokio::test]
    async fn a_program_that_refuses_or_is_not_there_has_no_lz4() {
        for program in ["/bin/false", "/nowhere/postgres"] {
            assert!(!compresses_by_lz4(Path::new(program)).await, "{program}");
        }
    }
}
