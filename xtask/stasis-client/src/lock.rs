//! [`Lock`]: the sign that a tool of this host has a channel, or serves one for many. QEMU's sockets let a second one wait without a word.
//!
//! The lock is a socket in the abstract namespace of this host (unix(7)), which goes with the
//! process, and leaves no file.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};

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

    /// Returns whether many tools can use a target at a time. The look itself is no sign: another
    /// tool that looks meanwhile does not see it.
    pub(crate) fn is_shared(target: &Target) -> bool {
        let looked =
            sign().and_then(|socket| connect(socket.as_raw_fd(), &name("shared", target)?));
        looked.is_ok()
    }

    fn named(kind: &str, target: &Target) -> Result<Self, Errno> {
        let socket = sign()?;
        bind(socket.as_raw_fd(), &name(kind, target)?)?;
        Ok(Self { _socket: socket })
    }
}

/// Returns a socket without a name.
fn sign() -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
}

/// Returns the name of a sign of this kind.
fn name(kind: &str, target: &Target) -> Result<UnixAddr, Errno> {
    /// The longest name.
    const LONGEST: usize = 107;
    let (place, kind) = (target.canonical(), format!("stasis-{kind}:"));
    // Places that are longer are told apart by their ends.
    let place = place.as_bytes();
    let place = &place[place.len().saturating_sub(LONGEST - kind.len())..];
    UnixAddr::new_abstract(&[kind.as_bytes(), place].concat())
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
    #[test]
    fn a_look_for_the_sign_is_in_nobodys_way() {
        let target: Target = format!("unix:/nowhere/look/{}", std::process::id()).parse().unwrap();
        std::thread::scope(|scope| {
            let look = || (0..2000).filter(|_| Lock::is_shared(&target)).count();
            let others: Vec<_> = (0..3).map(|_| scope.spawn(look)).collect();
            assert_eq!(others.into_iter().map(|other| other.join().unwrap()).sum::<usize>(), 0);
            let other = scope.spawn(look);
            assert!((0..2000).all(|_| Lock::share(&target).is_some()));
            other.join().unwrap();
        });
    }
}
