//! What `--version` says: enough to find the sources and the compiler of a program that somebody reports about.

/// One line, for `-V`.
pub const SHORT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("FOREBAY_BUILD_COMMIT"), ")");

/// With the build's facts, one a line, for `--version`.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:   ",
    env!("FOREBAY_BUILD_COMMIT"),
    "\ncompiler: ",
    env!("FOREBAY_BUILD_RUSTC"),
    "\ntarget:   ",
    env!("FOREBAY_BUILD_TARGET"),
    "\nprofile:  ",
    env!("FOREBAY_BUILD_PROFILE"),
);
