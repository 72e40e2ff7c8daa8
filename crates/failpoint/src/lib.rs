//! Places between two effects where a test can kill the process.
//!
//! Each has a name of its own, written once in the source as `reach("…")`; a test collects the names from the source, so
//! that none can be forgotten. `FAILPOINTS="store.after_step=2*off->return"` in the environment kills the process, as
//! `kill -9` does, when that place is reached for the third time (`fail`'s syntax: `return` is the kill; `sleep(…)`,
//! `pause` and the like work too). Without the feature `enabled` nothing of this is in the program.

/// Kills the process here if the environment says so.
#[inline]
pub fn reach(name: &'static str) {
    #[cfg(feature = "enabled")]
    let _: Option<()> = fail::eval(name, |_| kill(name));
    #[cfg(not(feature = "enabled"))]
    let _ = name;
}

/// Reads `FAILPOINTS`. Call it once, first thing in `main`; the guard must live as long as the program.
#[must_use]
pub fn from_environment() -> impl Sized {
    #[cfg(feature = "enabled")]
    let guard = fail::FailScenario::setup();
    #[cfg(not(feature = "enabled"))]
    let guard = ();
    guard
}

/// The process ends here and now: no destructor runs, nothing is flushed.
#[cfg(feature = "enabled")]
fn kill(name: &str) {
    eprintln!("failpoint {name}: killed");
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is on its way.
    loop {
        std::thread::park();
    }
}
