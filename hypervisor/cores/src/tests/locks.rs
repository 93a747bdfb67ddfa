//! Locks as spin has them, of loom's.

use loom::sync::{Mutex, MutexGuard};

/// Stands for a spin lock.
#[derive(Debug)]
pub struct Lock<T>(Mutex<T>);
/// What has locked a [`Lock`].
pub type LockGuard<'a, T> = MutexGuard<'a, T>;
impl<T> Lock<T> {
    /// Returns a lock that nobody has.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits until nobody has the lock, and takes it.
    pub fn lock(&self) -> LockGuard<'_, T> {
        self.0.lock().expect("nobody panics with a lock")
    }

    /// Takes the lock if nobody has it.
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
