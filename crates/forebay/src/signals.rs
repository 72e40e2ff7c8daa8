//! SIGINT, SIGTERM and SIGHUP: the first asks to end in order, the second ends at once, unless the end is [held](Signals::hold).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What a shell adds to a signal's number when a signal ended a program.
const EXIT_BY_SIGNAL: i32 = 128;

/// Whether somebody asked us to end. Cheap to clone.
#[derive(Clone)]
pub struct Signals {
    asked: watch::Receiver<Option<i32>>,
    is_held: Arc<AtomicBool>,
}

/// While it lives, no number of signals ends the program at once.
pub struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let (tell, asked) = watch::channel(None);
        let is_held = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&is_held);
        tokio::spawn(async move {
            let mut count = 0_u32;
            loop {
                let number = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                    _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
                    _ = hang_up.recv() => SignalKind::hangup().as_raw_value(),
                };
                count += 1;
                if count > 1 && held.load(Ordering::Relaxed) {
                    tracing::warn!("already ending: what was started is being stopped and removed");
                    continue;
                }
                if count > 1 {
                    tracing::warn!(
                        "a second signal: ending at once; the next start goes on from what both tiers have, or obeys the rollback \
                         file that the first signal left"
                    );
                    std::process::exit(EXIT_BY_SIGNAL + number);
                }
                let more = if held.load(Ordering::Relaxed) { "" } else { "; a second signal ends at once" };
                tracing::info!(signal = number, "asked to end{more}");
                tell.send_replace(Some(number));
            }
        });
        Ok(Self { asked, is_held })
    }

    /// For work that would leave servers behind which nobody adopts: a second signal does not cut its end short. That end
    /// must be bounded.
    pub fn hold(&self) -> Held {
        self.is_held.store(true, Ordering::Relaxed);
        Held(Arc::clone(&self.is_held))
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(Option::is_some).await.is_err() {
            // The listener is gone with the runtime: nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }

    /// The exit code of work that was not done because somebody asked; `None`: nobody did.
    pub fn exit_code(&self) -> Option<i32> {
        self.asked.borrow().map(|number| EXIT_BY_SIGNAL + number)
    }
}
