//! What systemd is told (sd_notify(3)): ready, what is being done, and that more time is needed. Without `NOTIFY_SOCKET`
//! nothing is told. It is a courtesy: a message that is not taken changes nothing here.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use forebay_store::{Phase, PhaseProgress, Progress};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Each message during a start or a stop asks for so much more time, counted from then.
const EXTENSION: Duration = Duration::from_secs(60);
/// A third of it: two messages may be lost.
const EXTEND_EVERY: Duration = Duration::from_secs(20);
/// `systemctl status` is read by people.
/// The same phase again, with other counts.
const PHASE_EVERY: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The service manager that started this process.
pub fn service_manager() -> &'static ServiceManager {
    static MANAGER: OnceLock<ServiceManager> = OnceLock::new();
    MANAGER.get_or_init(|| {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        ServiceManager::at(address.as_ref().and_then(|address| address.to_str()))
    })
}

/// Who listens at `NOTIFY_SOCKET`, or nobody.
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The phase that was told last, and when: a restore makes thousands of steps a second.
    told: Mutex<Option<(Phase, Instant)>>,
}

impl ServiceManager {
    fn at(address: Option<&str>) -> Self {
        let socket = address.and_then(|address| {
            let open = || -> io::Result<_> { Ok((UnixDatagram::unbound()?, parse(address)?)) };
            open()
                .inspect_err(|error| tracing::warn!(%error, address, "NOTIFY_SOCKET cannot be used; systemd is told nothing"))
                .ok()
        });
        Self { socket, told: Mutex::default() }
    }

    /// The start is over: reads and writes work.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\n{}", status_line(status)));
    }

    /// The end has begun.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\n{}", status_line(status)));
    }

    /// A phase of the start.
    pub fn starting(&self, progress: &PhaseProgress) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|(phase, at)| phase == progress.phase && at.elapsed() < PHASE_EVERY) {
            return;
        }
        *told = Some((progress.phase, Instant::now()));
        let counted =
            progress.total.map_or_else(String::new, |total| format!(", {} of {total}", progress.done));
        let trouble = progress.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        self.send(&status_line(&format!("starting: {}{counted}{trouble}", progress.phase.name())));
    }

    /// Asks for more time, again and again, while `work` goes on: a start waits for PostgreSQL as long as it takes, and
    /// loads as much as there is.
    pub async fn patiently<T>(&self, work: impl Future<Output = T>) -> T {
        if self.socket.is_none() {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        loop {
            self.send(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
            if let Ok(done) = tokio::time::timeout(EXTEND_EVERY, &mut work).await {
                return done;
            }
        }
    }

    /// Tells where a ready node stands, until the task is aborted or the node is gone.
    pub fn follow(&'static self, mut node: watch::Receiver<Progress>) -> Option<JoinHandle<()>> {
        self.socket.as_ref()?;
        Some(tokio::spawn(async move {
            loop {
                let status = status_of(&node.borrow_and_update());
                self.send(&status_line(&status));
                tokio::time::sleep(STATUS_EVERY).await;
                if node.changed().await.is_err() {
                    return;
                }
            }
        }))
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::debug!(%error, "systemd did not take a message");
        }
    }
}

/// A path, or a name in the kernel's abstract namespace after an `@`.
fn parse(address: &str) -> io::Result<SocketAddr> {
    match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(address),
    }
}

/// A line break would begin another assignment.
fn status_line(status: &str) -> String {
    format!("STATUS={}", status.replace(['\n', '\r'], " "))
}

fn status_of(progress: &Progress) -> String {
    let height = progress.tip.map_or(0, |tip| tip.height);
    let trouble = progress.last_error.as_ref().map_or_else(String::new, |error| format!("; {error}"));
    format!(
        "{}: height {height}, {} operations behind{trouble}",
        progress.phase.name(),
        progress.lag_operations
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_a_path_and_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("forebay-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (address, socket) in [
            (path.to_str().unwrap().to_owned(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_name).unwrap()),
        ] {
            ServiceManager::at(Some(&address)).ready("one\ntwo");
            assert_eq!(receive(&socket), "READY=1\nSTATUS=one two");
        }
    }

    #[test]
    fn nobody_listening_is_no_failure() {
        ServiceManager::at(None).ready("x");
        ServiceManager::at(Some("/nowhere/notify")).stopping("x");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_start_asks_for_more_time_again_before_the_last_extension_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.to_str());
        let begun = tokio::time::Instant::now();
        manager.patiently(tokio::time::sleep(Duration::from_secs(50))).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(50));
        for _ in 0..3 {
            assert_eq!(receive(&socket), "EXTEND_TIMEOUT_USEC=60000000");
        }
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 64]).is_err(), "no more than asked for");
    }
}
