//! A proxy in front of one server, on a Unix socket or TCP, that breaks what passes through it: delays, cuts, cuts after so
//! many bytes, black holes, refusals. All of it can be changed while connections are open.
//!
//! It knows nothing of what it carries. A fault stays until [`Proxy::heal`]; cuts happen once.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes that are carried at once: small, so that a delay is felt by every message.
const CHUNK_BYTES: usize = 16 << 10;

/// Where somebody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: questions.
    ToServer,
    /// From the server to the client: answers.
    ToClient,
}

/// What becomes of the bytes of a direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flow {
    /// They arrive.
    #[default]
    Forward,
    /// They are taken and thrown away, as by a network that drops packets. A connection that lost bytes so is cut when the
    /// flow is healed.
    Swallow,
    /// They are not even taken: the sender's buffers fill up. They arrive when the flow is healed.
    Stall,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Way {
    flow: Flow,
    delay: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rules {
    ways: [Way; 2],
    refuses: bool,
    /// Connections of an earlier generation are cut.
    generation: u64,
}

struct Shared {
    server: Endpoint,
    rules: watch::Sender<Rules>,
    /// Bytes that may still pass before the connection that carries the next one is cut.
    allowed_bytes: [Mutex<Option<u64>>; 2],
    passed_bytes: [AtomicU64; 2],
    connections: AtomicUsize,
}

/// A running proxy. Dropping it cuts everything.
pub struct Proxy {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Direction {
    fn index(self) -> usize {
        match self {
            Self::ToServer => 0,
            Self::ToClient => 1,
        }
    }
}

impl Proxy {
    /// Listens, and carries each connection to `server`, which need not run yet. A stale Unix socket is replaced.
    ///
    /// # Errors
    /// It cannot listen there.
    pub async fn start(listen: Endpoint, server: Endpoint) -> io::Result<Self> {
        let listener = Listener::bind(&listen).await?;
        let endpoint = listener.endpoint(&listen)?;
        let shared = Arc::new(Shared {
            server,
            rules: watch::Sender::new(Rules::default()),
            allowed_bytes: [Mutex::new(None), Mutex::new(None)],
            passed_bytes: [AtomicU64::new(0), AtomicU64::new(0)],
            connections: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, endpoint.clone(), Arc::clone(&shared)));
        Ok(Self { endpoint, shared, accepting })
    }

    /// Where it listens, with the port that it took.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Carries everything as it comes again, and takes connections again. An armed [`cut_after`](Self::cut_after) is gone.
    pub fn heal(&self) {
        for allowed in &self.shared.allowed_bytes {
            *allowed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        self.shared
            .rules
            .send_modify(|rules| *rules = Rules { generation: rules.generation, ..Rules::default() });
    }

    /// What becomes of bytes from now on, also in connections that are open.
    pub fn set_flow(&self, direction: Direction, flow: Flow) {
        self.shared.rules.send_modify(|rules| rules.ways[direction.index()].flow = flow);
    }

    /// Each piece of data waits so long before it goes on.
    pub fn set_delay(&self, direction: Direction, delay: Duration) {
        self.shared.rules.send_modify(|rules| rules.ways[direction.index()].delay = delay);
    }

    /// Ends all connections now. New ones are taken.
    pub fn cut(&self) {
        self.shared.rules.send_modify(|rules| rules.generation += 1);
    }

    /// Lets so many more bytes pass in this direction, of all connections together, then cuts all of them, once.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        let allowed = &self.shared.allowed_bytes[direction.index()];
        *allowed.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
    }

    /// New connections are refused from now on, as if nobody listened; open ones stay.
    pub fn refuse(&self) {
        self.shared.rules.send_modify(|rules| rules.refuses = true);
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes that arrived in a direction since the start.
    #[must_use]
    pub fn passed_bytes(&self, direction: Direction) -> u64 {
        self.shared.passed_bytes[direction.index()].load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
        if let Endpoint::Unix(path) = &self.endpoint {
            // Gone already, or its directory is.
            let _ = std::fs::remove_file(path);
        }
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

impl Listener {
    async fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Unix(path) => {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                Ok(Self::Unix(UnixListener::bind(path)?))
            }
            Endpoint::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
        }
    }

    fn endpoint(&self, asked: &Endpoint) -> io::Result<Endpoint> {
        match self {
            Self::Unix(_) => Ok(asked.clone()),
            Self::Tcp(listener) => Ok(Endpoint::Tcp(listener.local_addr()?)),
        }
    }

    async fn accept(&self) -> io::Result<Halves> {
        Ok(match self {
            Self::Unix(listener) => of_unix(listener.accept().await?.0),
            Self::Tcp(listener) => of_tcp(listener.accept().await?.0)?,
        })
    }
}

fn of_unix(stream: UnixStream) -> Halves {
    let (read, write) = stream.into_split();
    (Box::new(read), Box::new(write))
}

fn of_tcp(stream: TcpStream) -> io::Result<Halves> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Box::new(read), Box::new(write)))
}

async fn accept(listener: Listener, endpoint: Endpoint, shared: Arc<Shared>) {
    let mut rules = shared.rules.subscribe();
    let mut listener = Some(listener);
    loop {
        if rules.borrow_and_update().refuses {
            listener = None;
            if rules.wait_for(|rules| !rules.refuses).await.is_err() {
                return;
            }
        }
        let open = match listener.take() {
            Some(open) => open,
            None => match Listener::bind(&endpoint).await {
                Ok(open) => open,
                Err(_) => {
                    // Somebody may still hold the port for a moment.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        tokio::select! {
            client = open.accept() => {
                // The system takes connections by itself: this one may be of a time when we refuse already.
                let now = *rules.borrow();
                if let Ok(client) = client && !now.refuses {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move { carry(client, now.generation, &shared).await });
                }
            }
            _ = rules.changed() => {}
        }
        listener = Some(open);
    }
}

/// One connection, until either side ends it or we cut it.
async fn carry(client: Halves, generation: u64, shared: &Shared) {
    let server = match &shared.server {
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(of_unix),
        Endpoint::Tcp(address) => TcpStream::connect(address).await.and_then(of_tcp),
    };
    // Dropping the client tells it that nobody is there.
    let Ok(server) = server else { return };
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let questions = pump(client.0, server.1, Direction::ToServer, generation, shared);
    let answers = pump(server.0, client.1, Direction::ToClient, generation, shared);
    // However one direction ends, the other has nothing to say any more: neither server knows half-open connections.
    tokio::select! {
        () = questions => {}
        () = answers => {}
    }
    shared.connections.fetch_sub(1, Ordering::SeqCst);
}

/// Carries one direction until its sender ends, or the connection has to be cut.
async fn pump(
    mut from: Box<dyn AsyncRead + Send + Unpin>,
    mut to: Box<dyn AsyncWrite + Send + Unpin>,
    direction: Direction,
    generation: u64,
    shared: &Shared,
) {
    let mut rules = shared.rules.subscribe();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut has_swallowed = false;
    loop {
        let now = *rules.borrow_and_update();
        let way = now.ways[direction.index()];
        if now.generation != generation || has_swallowed && way.flow == Flow::Forward {
            return;
        }
        let read = tokio::select! {
            biased;
            changed = rules.changed() => {
                if changed.is_err() { return };
                continue;
            }
            read = from.read(&mut buffer), if way.flow != Flow::Stall => read,
        };
        let Ok(count @ 1..) = read else { return };
        if way.flow == Flow::Swallow {
            has_swallowed = true;
            continue;
        }
        if !hold(&mut rules, way, direction, generation).await {
            return;
        }
        let (allowed, is_last) = shared.allow(direction, count);
        if to.write_all(&buffer[..allowed]).await.is_err() {
            return;
        }
        shared.passed_bytes[direction.index()].fetch_add(allowed as u64, Ordering::SeqCst);
        if is_last {
            // What was allowed has to arrive before the end does.
            let _ = to.flush().await;
            shared.rules.send_modify(|rules| rules.generation += 1);
            return;
        }
    }
}

/// Holds data back for the delay, and as long as the flow is stalled meanwhile. `false`: the connection is cut.
async fn hold(rules: &mut watch::Receiver<Rules>, way: Way, direction: Direction, generation: u64) -> bool {
    if !way.delay.is_zero() {
        let is_cut = |rules: &Rules| rules.generation != generation;
        tokio::select! {
            () = tokio::time::sleep(way.delay) => {}
            _ = rules.wait_for(is_cut) => return false,
        }
    }
    let goes_on =
        |rules: &Rules| rules.generation != generation || rules.ways[direction.index()].flow != Flow::Stall;
    rules.wait_for(goes_on).await.is_ok_and(|rules| rules.generation == generation)
}

impl Shared {
    /// How many of these bytes may pass, and whether the connections are cut after them.
    fn allow(&self, direction: Direction, count: usize) -> (usize, bool) {
        let mut allowed =
            self.allowed_bytes[direction.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = *allowed else { return (count, false) };
        match left.checked_sub(count as u64) {
            Some(rest) if rest > 0 => {
                *allowed = Some(rest);
                (count, false)
            }
            _ => {
                *allowed = None;
                (usize::try_from(left).unwrap_or(count).min(count), true)
            }
        }
    }
}
