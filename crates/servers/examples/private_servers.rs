//! Private servers by hand, and the second process of this crate's tests.
//!
//! ```text
//! cargo run -p forebay-servers --example private_servers -- start /tmp/fb   # they stay when this ends
//! cargo run -p forebay-servers --example private_servers -- hold  /tmp/fb   # as the node does: lock, start, wait
//! cargo run -p forebay-servers --example private_servers -- stop  /tmp/fb
//! ```

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use forebay_servers::{DataDirLock, PrivateServers, SUPERUSER, ServersOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [action, data_dir] = arguments.as_slice() else {
        eprintln!("usage: private_servers start|hold|stop DIRECTORY");
        return ExitCode::from(2);
    };
    match run(action, Path::new(data_dir)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(action: &str, data_dir: &Path) -> Result<(), Box<dyn Error>> {
    match action {
        "start" => start(data_dir).await,
        "hold" => {
            let _lock = DataDirLock::acquire(data_dir, "private_servers hold")?;
            start(data_dir).await?;
            loop {
                std::thread::park();
            }
        }
        "stop" => Ok(open(data_dir).await?.stop().await?),
        other => Err(format!("unknown action `{other}`; there are start, hold and stop").into()),
    }
}

async fn open(data_dir: &Path) -> Result<PrivateServers, Box<dyn Error>> {
    Ok(PrivateServers::open(ServersOptions::new(data_dir)).await?)
}

async fn start(data_dir: &Path) -> Result<(), Box<dyn Error>> {
    let (redis, postgres) = open(data_dir).await?.start().await?;
    println!("redis-cli -s {}", redis.socket().display());
    println!("psql -h {} -U {SUPERUSER} {}", postgres.socket_dir().display(), postgres.database());
    println!("ready");
    Ok(std::io::stdout().flush()?)
}
