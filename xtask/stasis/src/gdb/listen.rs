//! Waiting for a debugger, or starting one.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::report;

/// A place where a debugger connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port, as `HOST:PORT`.
    Tcp(String),
    /// A socket with a path.
    Unix(PathBuf),
    /// This process's input and output, as of gdb's `target remote | COMMAND`.
    Stdio,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "stdio" => Ok(Self::Stdio),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Self::Tcp(address.to_owned())),
            _ => Err("neither tcp:HOST:PORT nor unix:PATH nor stdio".to_owned()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => path.display().fmt(f),
            Self::Stdio => f.write_str("stdio"),
        }
    }
}

/// A connection to a debugger, which is read and written as a file is.
pub struct Debugger {
    /// What comes from it.
    pub input: File,
    /// What goes to it.
    pub output: File,
    /// The debugger, if it was started.
    pub child: Option<Child>,
}

impl Debugger {
    fn of(stream: impl Into<OwnedFd>) -> Result<Self> {
        let input = File::from(stream.into());
        let output = input.try_clone().context("the debugger is lost")?;
        Ok(Self { input, output, child: None })
    }

    /// Closes the connection, and waits until a debugger that was started has ended.
    ///
    /// # Errors
    ///
    /// The debugger has failed.
    pub fn wait(self) -> Result<()> {
        let Self { input, output, child } = self;
        drop((input, output));
        child.map_or(Ok(()), wait)
    }
}

/// Waits until a debugger has ended. Nobody talks with it any more.
///
/// # Errors
///
/// The debugger has failed.
pub fn wait(mut debugger: Child) -> Result<()> {
    let status = debugger.wait().context("the debugger is lost")?;
    ensure!(status.success(), "the debugger has failed: {status}");
    Ok(())
}

/// Ends a debugger, as a signal would that it had got itself, and waits for that.
///
/// # Errors
///
/// The debugger can't be waited for.
pub fn end(mut debugger: Child) -> Result<()> {
    // The debugger may have ended by itself.
    let _ = kill(Pid::from_raw(debugger.id() as i32), Signal::SIGTERM);
    debugger.wait().context("the debugger is lost").map(drop)
}

impl Listen {
    /// Waits for a debugger.
    ///
    /// # Errors
    ///
    /// Nobody can listen there.
    pub fn accept(&self) -> Result<Debugger> {
        let cannot = || format!("cannot listen at {self}");
        let tell = |at: &dyn fmt::Display| report::step(format_args!("target remote {at}"));
        match self {
            Self::Stdio => {
                let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
                let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Ok(Debugger { input, output, child: None })
            }
            Self::Tcp(address) => {
                let listener = TcpListener::bind(address).with_context(cannot)?;
                tell(&listener.local_addr().with_context(cannot)?);
                let (stream, _) = listener.accept().with_context(cannot)?;
                // Each answer is waited for.
                stream.set_nodelay(true).with_context(cannot)?;
                Debugger::of(stream)
            }
            Self::Unix(path) => {
                let listener = UnixListener::bind(path).with_context(cannot)?;
                tell(self);
                let accepted = listener.accept();
                // The path is of no use to anybody else, and would be in the way next time.
                let _ = std::fs::remove_file(path);
                Debugger::of(accepted.with_context(cannot)?.0)
            }
        }
    }
}

/// Starts a debugger with these arguments, and with the guest's symbols if it is given no file, and
/// waits until it has connected.
///
/// # Errors
///
/// There is no such debugger, or it has ended before.
pub fn start(debugger: &str, arguments: &[String], symbols: Option<&Path>) -> Result<Debugger> {
    let folder = tempfile::tempdir().context("cannot make a folder for a socket")?;
    let path = folder.path().join("gdb");
    let cannot = || format!("cannot listen at {}", path.display());
    let listener = UnixListener::bind(&path).with_context(cannot)?;
    let mut child = spawn(debugger, arguments, symbols, &path)?;
    // Ctrl-C is the debugger's. It was started before, and so does not inherit this.
    let interrupt = SigSet::from(Signal::SIGINT);
    interrupt.thread_block().context("cannot leave Ctrl-C to the debugger")?;
    let stream = accept(&listener, &mut child)?;
    Ok(Debugger { child: Some(child), ..Debugger::of(stream)? })
}

fn spawn(
    debugger: &str,
    arguments: &[String],
    symbols: Option<&Path>,
    path: &Path,
) -> Result<Child> {
    // A serial line is slow, and a machine may be busy: gdb gives up after 2 s by itself, lldb
    // after 5 s.
    const PATIENCE: u32 = 60;
    let path = path.display();
    let mut command = Command::new(debugger);
    if debugger.contains("lldb") {
        command.arg("-o");
        command.arg(format!("settings set plugin.process.gdb-remote.packet-timeout {PATIENCE}"));
        command.args(["-o", &format!("process connect unix-connect://{path}")]);
    } else {
        command.args(["-ex", "set confirm off", "-ex", &format!("set remotetimeout {PATIENCE}")]);
        command.args(["-ex", &format!("target remote {path}")]);
    }
    command.args(arguments);
    if arguments.iter().all(|argument| argument.starts_with('-')) {
        command.args(symbols);
    }
    command.spawn().with_context(|| {
        format!("cannot start {debugger}: install it, or connect another one by --listen tcp:127.0.0.1:1234")
    })
}

/// Waits until the debugger connects.
///
/// # Errors
///
/// The debugger has ended before.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
    use std::thread::sleep;
    use std::time::Duration;

    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            bail!("the debugger has ended before it has connected: {status}");
        }
        sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debugger_connects_by_tcp_by_a_path_or_by_pipes() {
        assert_eq!("stdio".parse(), Ok(Listen::Stdio));
        assert_eq!("unix:/tmp/x".parse(), Ok(Listen::Unix("/tmp/x".into())));
        assert_eq!("tcp:127.0.0.1:1".parse(), Ok(Listen::Tcp("127.0.0.1:1".into())));
        for wrong in ["", "unix:", "tcp:1", "1234"] {
            wrong.parse::<Listen>().unwrap_err();
        }
    }
}
