//! The atomics and locks that the protocols are made of. In this crate's own tests they are loom's,
//! which tries every order of them.

#[cfg(not(test))]
pub(crate) use real::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence, spin_loop,
};
#[cfg(not(test))]
pub use real::{Lock, LockGuard};

#[cfg(test)]
pub use crate::tests::locks::{Lock, LockGuard};
#[cfg(test)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(not(test))]
mod real {
    pub(crate) use core::hint::spin_loop;
    pub(crate) use core::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence,
    };
    /// A lock that is held for some instructions. It is not fair: whoever comes at the right moment
    /// has it next.
    pub use spin::mutex::SpinMutex as Lock;
    /// Guard of a locked [`Lock`].
    pub use spin::mutex::SpinMutexGuard as LockGuard;
}
