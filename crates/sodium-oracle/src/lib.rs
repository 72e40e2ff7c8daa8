//! libsodium's own verdict on a signature, for tests only.
//!
//! The reference node checked signatures with libsodium 1.0.18, so the ledger's tests ask that library itself instead of
//! trusting a list of expected answers. Calling C is unsafe, and the workspace forbids unsafe code: this is the one crate
//! with an exception, and it is a dev-dependency only; no program links it.
//!
//! It needs the system's libsodium with its development files (Debian: `libsodium-dev`). The version matters: from
//! 1.0.19 on the library accepts other signatures, and such a system's verdict would not be the network's; tests check
//! [`version`] first.

use std::ffi::{CStr, c_char, c_int, c_uchar, c_ulonglong};

/// The version whose rules the network follows.
pub const EXPECTED_VERSION: &str = "1.0.18";

#[allow(unsafe_code)]
#[link(name = "sodium")]
unsafe extern "C" {
    fn sodium_init() -> c_int;
    fn sodium_version_string() -> *const c_char;
    fn crypto_sign_verify_detached(
        signature: *const c_uchar,
        message: *const c_uchar,
        message_length: c_ulonglong,
        key: *const c_uchar,
    ) -> c_int;
}

/// The version of the library that was linked.
#[must_use]
#[allow(unsafe_code)]
pub fn version() -> String {
    // SAFETY: the library returns a pointer to a constant, zero-terminated string.
    unsafe { CStr::from_ptr(sodium_version_string()) }.to_string_lossy().into_owned()
}

/// What `crypto_sign_verify_detached` says.
#[must_use]
#[allow(unsafe_code)]
pub fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    // SAFETY: may be called any number of times from any thread.
    let initialised = unsafe { sodium_init() } >= 0;
    // SAFETY: the pointers hold 64, `message.len()` and 32 readable bytes, and the function only reads them.
    initialised
        && unsafe {
            crypto_sign_verify_detached(
                signature.as_ptr(),
                message.as_ptr(),
                message.len() as c_ulonglong,
                key.as_ptr(),
            )
        } == 0
}
