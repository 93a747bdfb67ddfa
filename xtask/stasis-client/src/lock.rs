//! [`Lock`]: the sign that a tool of this host has a channel, or serves one for many. QEMU's sockets let a second one wait without a word.
//!
//! The lock is a socket in the abstract namespace of this host (unix(7)), which goes with the process, and leaves no file.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

use crate::Target;

/// The sign, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _socket: OwnedFd,
}

impl Lock {
    /// Returns the sign for a target; `None` if another tool has it.
    pub(crate) fn take(target: &Target) -> Option<Self> {
        Self::named("channel", target).ok()
    }

    /// Returns the sign that many tools can use a target at a time; `None` if another tool has it.
    pub(crate) fn share(target: &Target) -> Option<Self> {
        Self::named("shared", target).ok()
    }

    /// Returns whether many tools can use a target at a time.
    pub(crate) fn is_shared(target: &Target) -> bool {
        matches!(Self::named("shared", target), Err(Errno::EADDRINUSE))
    }

    fn named(kind: &str, target: &Target) -> Result<Self, Errno> {
        /// The longest name.
        const LONGEST: usize = 107;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let (place, kind) = (target.canonical(), format!("stasis-{kind}:"));
        // Places that are longer are told apart by their ends.
        let place = place.as_bytes();
        let place = &place[place.len().saturating_sub(LONGEST - kind.len())..];
        let name = [kind.as_bytes(), place].concat();
        bind(socket.as_raw_fd(), &UnixAddr::new_abstract(&name)?)?;
        Ok(Self { _socket: socket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_tool_finds_the_sign_of_the_first() {
        let target: Target = format!("unix:/nowhere/{}", std::process::id()).parse().unwrap();
        let first = Lock::take(&target).unwrap();
        assert!(Lock::take(&target).is_none());
        drop(first);
        assert!(Lock::take(&target).is_some());
        assert!(!Lock::is_shared(&target));
        let shared = Lock::share(&target).unwrap();
        assert!(Lock::is_shared(&target) && Lock::take(&target).is_some());
        drop(shared);
        assert!(!Lock::is_shared(&target));
    }
}
