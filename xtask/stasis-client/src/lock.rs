//! [`Lock`]: one process of this host at a time has a channel. QEMU's sockets let a second one wait without a word.
//!
//! It is a socket in the abstract namespace of this host (unix(7)), which goes with the process, and leaves no file.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

use crate::{Error, Target};

/// The lock of a channel, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _socket: OwnedFd,
}

impl Lock {
    /// Takes the lock of a target. Waits at most `patience` for whoever has it.
    pub(crate) fn take(target: &Target, patience: Duration) -> Result<Self, Error> {
        let until = Instant::now() + patience;
        loop {
            match Self::try_take(target) {
                Ok(lock) => return Ok(lock),
                Err(Errno::EADDRINUSE) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(Errno::EADDRINUSE) => return Err(Error::InUse(target.to_string())),
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }

    fn try_take(target: &Target) -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let name = format!("stasis-channel:{}", target.canonical());
        // A name may have 107 bytes. One that is longer is told apart by its end.
        let name = &name.as_bytes()[name.len().saturating_sub(107)..];
        bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new_abstract(name)?)?;
        Ok(Self { _socket: socket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_tool_is_told_that_there_is_a_first() {
        let target: Target = format!("unix:/nowhere/{}", std::process::id()).parse().unwrap();
        let first = Lock::take(&target, Duration::ZERO).unwrap();
        let second = Lock::take(&target, Duration::from_millis(60)).unwrap_err();
        assert!(matches!(&second, Error::InUse(_)), "{second}");
        assert_eq!(second.exit_code(), 3);
        drop(first);
        Lock::take(&target, Duration::ZERO).unwrap();
    }
}
