//! `run --feed`: a node's main logic, in any language, drives the chain by JSON Lines. One line asks, one line answers, in
//! order; several lines may be under way.

mod answer;
mod connection;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use forebay_fast::Position;
use forebay_ledger::ids::Height;
use forebay_store::{Node, Progress};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::chain::Chain;
use crate::exit::{Exit, Told};
use crate::session::Session;

/// What every connection works with.
#[derive(Clone)]
pub struct Driven {
    node: Node,
    chain: Chain,
    postgres: Arc<tokio_postgres::Config>,
    /// One operation at a time over all connections: `pop` counts from the tip that it sees.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Where operations come from, while the node runs.
pub struct Feed {
    task: Option<JoinHandle<()>>,
    closing: watch::Sender<bool>,
    /// All senders are gone when all connections have ended.
    ended: mpsc::Receiver<()>,
    socket: Option<PathBuf>,
}

impl Feed {
    /// No feed.
    pub fn nothing() -> Self {
        let (closing, _) = watch::channel(false);
        let (_, ended) = mpsc::channel(1);
        Self { task: None, closing, ended, socket: None }
    }

    /// Operations from stdin, answers on stdout.
    pub fn stdin(session: &Session) -> Self {
        let (closing, close) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let driven = Driven::of(session);
        let task = tokio::spawn(async move {
            connection::serve(tokio::io::stdin(), tokio::io::stdout(), driven, close, "stdin").await;
            drop(alive);
        });
        Self { task: Some(task), closing, ended, socket: None }
    }

    /// A Unix socket that only our user may use.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn socket(session: &Session, path: &Path) -> anyhow::Result<Self> {
        let listener = bind(path).with_context(|| format!("making the feed's socket {}", path.display()))?;
        let (closing, close) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let driven = Driven::of(session);
        let task = tokio::spawn(async move { accept(&listener, &driven, close, &alive).await });
        Ok(Self { task: Some(task), closing, ended, socket: Some(path.to_owned()) })
    }

    /// Waits until stdin ends. A socket never ends by itself.
    pub async fn ended(&mut self) {
        match (&self.socket, &mut self.task) {
            (None, Some(task)) => {
                // However it ended, nothing more will come.
                let _ = task.await;
                self.task = None;
            }
            _ => std::future::pending().await,
        }
    }

    /// Takes no more lines, lets those under way be answered, and removes the socket.
    pub async fn close(&mut self) {
        if let Some(socket) = self.socket.take() {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(socket);
        }
        self.closing.send_replace(true);
        while self.ended.recv().await.is_some() {}
    }
}

impl Driven {
    fn of(session: &Session) -> Self {
        Self {
            node: session.node.clone(),
            chain: session.chain.clone(),
            postgres: Arc::new(session.connections.postgres.clone()),
            turn: Arc::default(),
        }
    }
}

async fn accept(
    listener: &UnixListener,
    driven: &Driven,
    mut close: watch::Receiver<bool>,
    alive: &mpsc::Sender<()>,
) {
    let mut number = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = close.wait_for(|closing| *closing) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the feed was not accepted");
                continue;
            }
        };
        number += 1;
        let (input, output) = stream.into_split();
        let (driven, close, alive) = (driven.clone(), close.clone(), alive.clone());
        let name = format!("connection {number}");
        tokio::spawn(async move {
            connection::serve(input, output, driven, close, &name).await;
            drop(alive);
        });
    }
}

/// Whether a socket can be made there.
///
/// # Errors
/// Somebody listens there, it is no socket, or there is no such directory.
pub fn check_socket(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if parent.is_dir() {
                return Ok(());
            }
            let message = format!("the feed's socket {shown}: there is no directory {}", parent.display());
            Err(Told::configuration(message, "Make the directory, or choose another path.").into())
        }
        Err(error) => Err(error).with_context(|| format!("looking at the feed's socket {shown}")),
        Ok(meta) if !meta.file_type().is_socket() => Err(Told::configuration(
            format!("the feed's socket {shown}: there is a file of another kind"),
            "Remove it, or choose another path.",
        )
        .into()),
        // Nobody behind it: left over by a crash.
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_err() => Ok(()),
        Ok(_) => Err(Told::new(
            Exit::Held,
            "held",
            format!("the feed's socket {shown}: another program listens there"),
            "Stop that program, or choose another path.",
        )
        .into()),
    }
}

/// The socket appears under its name when its mode is right already.
fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    check_socket(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    // Of an earlier process with our number.
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    let finish = || {
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&temporary, path)
    };
    finish().inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
    Ok(listener)
}

/// An operation with which everything up to a height of the chain is done: durable with it, that height is durable.
///
/// Above a height stand `tip - height` blocks, and each took at least one operation since.
pub fn position_of(progress: &Progress, height: Height) -> Position {
    let above = progress.tip.map_or(0, |tip| tip.height.saturating_sub(height));
    Position { seq: progress.position.seq.saturating_sub(u64::from(above)), ..progress.position }
}
