//! What `--version` says: enough to find the sources and the compiler of a program that somebody reports about.

/// One line, for `-V`.
pub const SHORT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILT_FROM_COMMIT"), ")");

/// With the build's facts, one a line, for `--version`.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:   ",
    env!("BUILT_FROM_COMMIT"),
    "\ncompiler: ",
    env!("BUILT_BY_RUSTC"),
    "\ntarget:   ",
    env!("BUILT_FOR_TARGET"),
    "\nprofile:  ",
    env!("BUILT_WITH_PROFILE"),
);
