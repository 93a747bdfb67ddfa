//! [`Rendezvous`]: the socket at which tools find a session that is shared.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::Target;
use crate::lock::Lock;

/// A socket at which tools connect to a session that they share. Its path goes when this is
/// dropped.
#[derive(Debug)]
pub struct Rendezvous {
    listener: UnixListener,
    path: PathBuf,
    /// The sign for tools that they need not wait for each other.
    _sign: Lock,
}

impl Rendezvous {
    /// Makes the socket. Tools that come before the session is shared wait. A socket is replaced
    /// that was left by a process that was killed.
    ///
    /// # Errors
    ///
    /// The path is another's, or can't be a socket's.
    pub fn bind(path: &Path) -> io::Result<Self> {
        // A tool that finds the socket finds the sign, too. Who has the sign is alone with the
        // path: it is taken before the path is looked at, and outlives it.
        let sign = Lock::share(&Target::Unix(path.to_owned())).ok_or_else(|| {
            io::Error::new(ErrorKind::AddrInUse, "another `stasis connect` serves there")
        })?;
        remove_if_left(path)?;
        let listener = UnixListener::bind(path)?;
        let place = Self { listener, path: path.to_owned(), _sign: sign };
        place.listener.set_nonblocking(true)?;
        Ok(place)
    }

    /// Returns the next tool that has come, without waiting for one.
    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }
}

impl AsFd for Rendezvous {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Removes a socket at which nobody listens any more.
fn remove_if_left(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata().is_ok_and(|it| it.file_type().is_socket()) {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            format!("there is a socket, and whether it is in use can't be told: {error}"),
        )),
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another program listens there")),
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn one_of_many_that_begin_at_once_gets_the_path_of_one_that_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for _ in 0..100 {
            drop(UnixListener::bind(&path).unwrap());
            let barrier = Barrier::new(4);
            let bind = || {
                barrier.wait();
                Rendezvous::bind(&path)
            };
            let all: Vec<_> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1);
            UnixStream::connect(&path).unwrap();
            drop(all);
            assert!(!path.exists());
        }
    }

    #[test]
    fn another_programs_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _other = UnixListener::bind(&path).unwrap();
        let error = Rendezvous::bind(&path).unwrap_err();
        assert_eq!(error.to_string(), "another program listens there");
        let _other = std::os::unix::net::UnixDatagram::bind(folder.path().join("datagrams"));
        let error = Rendezvous::bind(&folder.path().join("datagrams")).unwrap_err();
        assert!(error.to_string().contains("can't be told"), "{error}");
    }
}
