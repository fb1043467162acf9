//! Test bench for whole appliances: hosts in network namespaces around a running `portcullis`.
//!
//! Everything needs root. Without it a test says so and passes; with `PORTCULLIS_REQUIRE_ROOT=1`,
//! which `./test` sets where it can be root, it fails instead.

// Each test program uses a part of the bench.
#![allow(dead_code)]

pub mod appliance;
pub mod lab;
pub mod namespace;
pub mod policies;
pub mod traffic;

use std::time::{Duration, Instant};

/// Can namespaces be made here?
///
/// # Panics
/// When they cannot, and `PORTCULLIS_REQUIRE_ROOT=1` demands it.
pub fn root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let demanded = std::env::var("PORTCULLIS_REQUIRE_ROOT").is_ok_and(|value| value == "1");
    assert!(!demanded, "PORTCULLIS_REQUIRE_ROOT=1, but this is not root");
    eprintln!("not run: needs root");
    false
}

/// Asks again and again until the answer is yes; `false` when the time is up.
pub fn within(limit: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if ask() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Shorthand for seconds.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
