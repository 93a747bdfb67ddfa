//! [`Target`]: where a machine's channel or its console is; [`Line`]: the open connection to it.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::termios::{self, BaudRate, ControlFlags, Termios};
use nix::unistd::geteuid;

use crate::terminal::Settings;

/// Where a machine's channel or its console is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A socket of this host.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String),
    /// A serial device.
    Device(PathBuf),
}

impl Target {
    /// Returns the socket at which `stasis connect` serves this user's tools unless it is told
    /// another place, if there is one that is this user's own.
    pub fn usual() -> Option<Self> {
        let path = usual_socket();
        // Where others may write, a link could lead to a socket of this user's that is something
        // else.
        let metadata = path.symlink_metadata().ok()?;
        let is_own = metadata.uid() == geteuid().as_raw();
        (metadata.file_type().is_socket() && is_own).then_some(Self::Unix(path))
    }

    /// Returns the same name for the same socket or device, by whatever path it is reached.
    pub(crate) fn canonical(&self) -> String {
        match self {
            Self::Unix(given) | Self::Device(given) => {
                let path = given.canonicalize().ok().or_else(|| absent(given));
                path.as_ref().unwrap_or(given).display().to_string()
            }
            Self::Tcp(address) => address.clone(),
        }
    }

    /// Returns whether another one is the same socket or device, by whatever path it is reached.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_device() == other.is_device() && self.canonical() == other.canonical()
    }

    /// Returns whether it is a serial device.
    pub fn is_device(&self) -> bool {
        matches!(self, Self::Device(_))
    }
}

/// Returns the path that a file will have in its folder, if there is the folder.
fn absent(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}

/// Returns the path of the socket at which `stasis connect` serves this user's tools unless it is
/// told another place.
pub fn usual_socket() -> PathBuf {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match folder.filter(|folder| folder.is_dir()) {
        Some(folder) => folder.join("stasis.sock"),
        None => std::env::temp_dir().join(format!("stasis-{}.sock", geteuid())),
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of_kind = text.split_once(':').filter(|(kind, _)| !kind.contains(['/', '.']));
        match of_kind {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Self::Tcp(address.to_owned())),
            None if !text.is_empty() => Ok(Self::Device(text.into())),
            _ => Err("it is none of unix:PATH, tcp:HOST:PORT, and the path of a device".to_owned()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
            Self::Tcp(address) => write!(out, "tcp:{address}"),
            Self::Device(path) => write!(out, "{}", path.display()),
        }
    }
}

/// Bits per second of a serial device, as Stasis and the Raspberry Pi's firmware have it.
pub const DEFAULT_BAUD: u32 = 115_200;

/// The rates that Linux has names for, from where a console can be used on.
const RATES: [(u32, BaudRate); 18] = [
    (9_600, BaudRate::B9600),
    (19_200, BaudRate::B19200),
    (38_400, BaudRate::B38400),
    (57_600, BaudRate::B57600),
    (115_200, BaudRate::B115200),
    (230_400, BaudRate::B230400),
    (460_800, BaudRate::B460800),
    (500_000, BaudRate::B500000),
    (576_000, BaudRate::B576000),
    (921_600, BaudRate::B921600),
    (1_000_000, BaudRate::B1000000),
    (1_152_000, BaudRate::B1152000),
    (1_500_000, BaudRate::B1500000),
    (2_000_000, BaudRate::B2000000),
    (2_500_000, BaudRate::B2500000),
    (3_000_000, BaudRate::B3000000),
    (3_500_000, BaudRate::B3500000),
    (4_000_000, BaudRate::B4000000),
];

/// Returns a rate in bits per second from the command line.
///
/// # Errors
///
/// The rates that there are, if it is none of them.
pub fn baud_from(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|baud| rate(*baud).is_some()).ok_or_else(|| {
        let known: Vec<String> = RATES.iter().map(|(baud, _)| baud.to_string()).collect();
        format!("it is none of {}", known.join(", "))
    })
}

fn rate(baud: u32) -> Option<BaudRate> {
    RATES.iter().find(|(known, _)| *known == baud).map(|(_, rate)| *rate)
}

/// An open connection to a machine's channel or its console. Reading and writing does not wait.
#[derive(Debug)]
pub enum Line {
    /// A socket, which is read and written as a file is.
    Socket(File),
    /// A serial device, which nobody else has who honours its lock, with the settings that it
    /// needs.
    Device(Box<Settings<File>>),
}

impl Line {
    /// Opens the line. `baud` are the bits per second of a device.
    ///
    /// # Errors
    ///
    /// What is wrong, and what a person can do.
    pub fn open(target: &Target, baud: u32) -> Result<Self> {
        match target {
            Target::Unix(path) => {
                let stream =
                    UnixStream::connect(path).map_err(|error| not_listening(target, error))?;
                stream.set_nonblocking(true)?;
                Ok(Self::Socket(OwnedFd::from(stream).into()))
            }
            Target::Tcp(address) => {
                let stream =
                    TcpStream::connect(address).map_err(|error| not_listening(target, error))?;
                stream.set_nonblocking(true)?;
                // A key is not to wait for the next one.
                stream.set_nodelay(true)?;
                Ok(Self::Socket(OwnedFd::from(stream).into()))
            }
            Target::Device(path) => device(path, baud).map(Box::new).map(Self::Device),
        }
    }

    /// Returns the file to read from and to write to.
    pub fn file(&self) -> &File {
        match self {
            Self::Socket(file) => file,
            Self::Device(settings) => settings.terminal(),
        }
    }

    /// Sends a break. Returns false if the line has none.
    ///
    /// # Errors
    ///
    /// The device is gone.
    pub fn send_break(&self) -> io::Result<bool> {
        match self {
            Self::Socket(_) => Ok(false),
            // 0: a quarter to half a second.
            Self::Device(settings) => {
                Ok(termios::tcsendbreak(settings.terminal(), 0).map(|()| true)?)
            }
        }
    }
}

fn not_listening(target: &Target, error: io::Error) -> anyhow::Error {
    let why = match error.kind() {
        ErrorKind::NotFound => "there is no such socket; does the machine run?".to_owned(),
        ErrorKind::ConnectionRefused if *target == Target::Unix(usual_socket()) => {
            "the `stasis connect` that served there has ended; start it again".to_owned()
        }
        ErrorKind::ConnectionRefused => "nobody listens there; does the machine run?".to_owned(),
        _ => error.to_string(),
    };
    anyhow!("cannot connect to {target}: {why}")
}

fn device(path: &Path, baud: u32) -> Result<Settings<File>> {
    let shown = path.display();
    // The line's carrier is not waited for, and a device does not become this process's terminal.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    if path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket()) {
        bail!("{shown} is a socket: connect to unix:{shown}");
    }
    let busy = || anyhow!("{shown} is busy: another program has it open");
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("there is no {shown}; is the adapter plugged in?"),
        ErrorKind::PermissionDenied => {
            anyhow!(
                "{shown} may not be opened; its group may, which often is dialout: `ls -l {shown}`"
            )
        }
        ErrorKind::ResourceBusy => busy(),
        _ => anyhow!("cannot open {shown}: {error}"),
    })?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => {
            return Err(error).context(format!("cannot lock {shown}"));
        }
        Ok(()) => {}
    }
    let rate = rate(baud).context("no such rate")?;
    let settings = Settings::changed(file, |settings| line_settings(settings, rate));
    let settings =
        settings.map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::ENOTTY => anyhow!("{shown} is no serial device"),
            _ => anyhow!("cannot give {shown} its settings: {error}"),
        })?;
    // What a device can't do it leaves out without a word.
    let has = termios::tcgetattr(settings.terminal())?;
    ensure!(termios::cfgetospeed(&has) == rate, "{shown} can't send {baud} bits per second");
    Ok(settings)
}

/// Changes settings to those of a line to a machine: 8 bits, no parity, one stop bit, no flow
/// control.
fn line_settings(settings: &mut Termios, rate: BaudRate) {
    termios::cfmakeraw(settings);
    settings.control_flags -= ControlFlags::CSTOPB | ControlFlags::CRTSCTS;
    // There is no modem whose carrier counts.
    settings.control_flags |= ControlFlags::CLOCAL | ControlFlags::CREAD;
    // `cfsetspeed` fails only for what is no rate.
    let _ = termios::cfsetspeed(settings, rate);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_socket_an_address_or_a_device() {
        let target = |text: &str| text.parse::<Target>();
        assert_eq!(target("unix:a:b"), Ok(Target::Unix("a:b".into())));
        assert_eq!(target("tcp:[::1]:4444"), Ok(Target::Tcp("[::1]:4444".to_owned())));
        for device in ["/dev/ttyUSB0", "/dev/serial/by-path/pci-0:14.0-usb-0:1:1.0-port0", "tty"] {
            assert_eq!(target(device), Ok(Target::Device(device.into())));
        }
        for none in ["", "unix:", "tcp:4444", "telnet:host:23"] {
            assert!(target(none).is_err(), "{none}");
        }
    }

    #[test]
    fn a_socket_has_the_same_name_before_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let name = |path: &str| Target::Unix(folder.path().join(path)).canonical();
        let before = name("./socket");
        std::fs::write(folder.path().join("socket"), b"").unwrap();
        assert_eq!(before, name("socket"));
        assert_eq!(
            Target::Unix("socket".into()).canonical(),
            Target::Unix("./socket".into()).canonical()
        );
    }

    #[test]
    fn a_rate_that_no_device_has_is_answered_with_those_there_are() {
        assert_eq!(baud_from("115200"), Ok(115_200));
        assert!(baud_from("115201").unwrap_err().contains("57600, 115200, 230400"));
    }
}
