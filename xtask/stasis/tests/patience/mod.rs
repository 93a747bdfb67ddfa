//! Waiting for a tool that has been started.

use std::time::{Duration, Instant};

/// The longest that anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
