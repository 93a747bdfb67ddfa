//! `stasis connect`: one session with a machine, for many tools of this host.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use stasis_client::Share;

use super::{Address, coded};
use crate::report;

/// The text behind the command's help.
pub const DETAILS: &str = "\
A channel has one client at a time. This is one, and serves any number at a socket of its own, each as the machine would:
stasis ctl --to unix:SOCKET guests. It goes on until the machine is lost or it is ended. The socket is for this user alone.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    address: Address,
    /// The socket that is made [default: stasis-PID in XDG_RUNTIME_DIR or the folder for temporary files]
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,
}

/// A socket's path, which goes when this is dropped.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs the command.
///
/// # Errors
///
/// There is no session, or it is lost; or the socket can't be made.
pub fn main(arguments: Arguments) -> Result<()> {
    let Arguments { address, listen } = arguments;
    let path = listen.unwrap_or_else(|| {
        let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let folder = folder.filter(|folder| folder.is_dir()).unwrap_or_else(std::env::temp_dir);
        folder.join(format!("stasis-{}", std::process::id()))
    });
    let client = address.connect(true)?;
    let (listener, _place) = listen_at(&path)?;
    report::step(format_args!(
        "{}: stasis ctl --to unix:{} guests",
        client.machine(),
        path.display()
    ));
    let share = Share::new(client, listener, address.patience()).map_err(coded)?;
    share.run().map_err(coded)
}

/// Makes the socket, which only this user can connect to.
fn listen_at(path: &Path) -> Result<(UnixListener, Place)> {
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    match listener {
        Ok(listener) => Ok((listener, Place(path.to_owned()))),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                bail!("{} is in use: another tool listens there", path.display());
            }
            Err(anyhow!("{} is there, and nobody listens: remove it", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen at {}", path.display())),
    }
}
