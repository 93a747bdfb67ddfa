//! `stasis connect`: one session with a machine, for many tools of this host.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;
use nix::sys::stat::{Mode, umask};
use stasis_client::{Rendezvous, Share, Target, target};

use super::{Address, coded};
use crate::report::{self, mistyped};

/// The text behind the command's help.
pub const DETAILS: &str = "\
A channel has one client at a time. This is one, and serves any number at a socket of its own, each as the machine would. This user's tools find
it there by themselves: `stasis ctl guests`. With --listen, another place is named, and tools are told by --to. It goes on until the machine is
lost, or Ctrl-C ends it. The socket is for this user alone.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where the machine's channel is; else --to or the environment's STASIS_TO says it
    #[arg(value_name = "unix:PATH|tcp:HOST:PORT|DEVICE", conflicts_with = "to")]
    target: Option<Target>,
    #[command(flatten)]
    address: Address,
    /// The socket that is made [default: stasis.sock in XDG_RUNTIME_DIR, or stasis-UID.sock in the
    /// folder for temporary files]
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,
}

/// Runs the command, until a signal ends it.
///
/// # Errors
///
/// There is no session, or it is lost; or the socket can't be made.
pub fn main(arguments: Arguments) -> Result<()> {
    let Arguments { target, mut address, listen } = arguments;
    address.to = target.or(address.given()?);
    let path = listen.clone().unwrap_or_else(target::usual_socket);
    let Some(machine) = &address.to else {
        let why = "where is the machine? `stasis connect unix:PATH`, or tcp:HOST:PORT, or a serial device".to_owned();
        return Err(mistyped(why));
    };
    if machine.is_same(&Target::Unix(path.clone())) {
        return Err(mistyped(format!(
            "{machine} is where this command serves, and not the machine"
        )));
    }
    let socket = listen_at(&path)?;
    let client = address.connect(true)?;
    let tool = match listen {
        None => "stasis ctl guests".to_owned(),
        Some(path) => format!("stasis ctl --to unix:{} guests", path.display()),
    };
    report::step(format_args!("{}: {tool}", client.machine()));
    Share::new(client, socket).run().map_err(coded)
}

/// Makes the socket, which only this user can connect to.
fn listen_at(path: &Path) -> Result<Rendezvous> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let socket = Rendezvous::bind(path);
    umask(before);
    socket.map_err(|error| {
        anyhow!("cannot listen at {}: {error}; --listen names another place", path.display())
    })
}
