//! A machine under QEMU: [`Machine`] says what it consists of, and [`Qemu`] is one that runs.
//!
//! A [`Qemu`] always ends, at the latest when it is dropped or when its time limit is reached.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use stasis_client::Target;
use tempfile::TempDir;

use stasis_tool::qemu_option;

use crate::board::Board;
use crate::console::{Console, Transcript};

pub use crate::setup::qemu::PROGRAM;
pub use stasis_tool::qemu_option::ON_ERROR;

/// The network card of a machine, as the device tree calls it.
pub const UPLINK: &str = "/virtio_mmio@a003a00";

/// The socket of a machine's channel. It is not in the machine's folder: a socket's path must be
/// shorter than 108 bytes, wherever the project lies.
#[derive(Debug)]
pub struct ChannelSocket {
    path: PathBuf,
    /// The folder of the socket alone, if it has one.
    _folder: Option<TempDir>,
}

impl ChannelSocket {
    /// Returns a path for a socket, which goes when this is dropped.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("there is no place for a channel")?;
        Ok(Self { path: folder.path().join("channel"), _folder: Some(folder) })
    }

    /// Returns a socket at `path`, which is the same each time; elsewhere if that is too long for a
    /// socket.
    pub fn at(path: PathBuf) -> Result<Self> {
        /// The longest path of a socket (unix(7)).
        const LONGEST: usize = 107;
        match path.as_os_str().len() <= LONGEST {
            true => Ok(Self { path, _folder: None }),
            false => Self::new(),
        }
    }

    /// Returns the socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the socket as `stasis ctl --to` takes it.
    pub fn target(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

/// Returns QEMU's arguments for a disk with a raw image in a virtio-mmio slot of the board virt.
/// Where it stands on the command line makes no difference then. `options` are those of `-drive`,
/// such as `readonly=on`, or none. The device has `serial`, if it is not empty.
pub fn disk_in_slot(slot: u32, image: &Path, options: &str, serial: &str) -> [OsString; 4] {
    let comma = if options.is_empty() { "" } else { "," };
    let mut drive = OsString::from(format!(
        "if=none,id=slot{slot},{ON_ERROR},format=raw{comma}{options},file="
    ));
    drive.push(qemu_option::value(image));
    let mut device = format!("virtio-blk-device,drive=slot{slot},bus=virtio-mmio-bus.{slot}");
    if !serial.is_empty() {
        device.push_str(&format!(",serial={serial}"));
    }
    ["-drive".into(), drive, "-device".into(), device.into()]
}

/// The parts and the settings of a machine.
#[derive(Clone, Debug)]
pub struct Machine {
    board: Board,
    virtualization: bool,
    /// None for a machine that goes on from a stream.
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    cmdline: String,
    cpu: String,
    cpus: u32,
    memory: String,
    disks: Vec<PathBuf>,
    network: Option<String>,
    channel: Option<PathBuf>,
    extra: Vec<OsString>,
    time_limit: Duration,
    mirror: bool,
}

impl Machine {
    /// Returns a machine that starts the hypervisor's `image` at EL2, with an archive of guests.
    pub fn stasis(image: impl Into<PathBuf>, archive: Option<&Path>) -> Self {
        Self {
            board: Board::Virt,
            virtualization: true,
            kernel: Some(image.into()),
            initrd: archive.map(Path::to_owned),
            cmdline: String::new(),
            cpu: "cortex-a72".to_owned(),
            cpus: 2,
            memory: "1G".to_owned(),
            disks: Vec::new(),
            network: None,
            channel: None,
            extra: Vec::new(),
            time_limit: Duration::from_secs(600),
            mirror: false,
        }
    }

    /// Returns a machine that starts a guest's kernel at EL1, without Stasis: the oracle.
    pub fn plain(kernel: impl Into<PathBuf>, initrd: Option<&Path>) -> Self {
        Self {
            virtualization: false,
            cpus: 1,
            memory: "512M".to_owned(),
            ..Self::stasis(kernel, initrd)
        }
    }

    /// Returns a machine without Stasis that goes on from a migration stream: the other end of
    /// `stasis convert qemu`.
    pub fn incoming(stream: &Path) -> Self {
        let mut uri = OsString::from("file:");
        uri.push(stream);
        let machine = Self { kernel: None, ..Self::plain(PathBuf::new(), None) };
        machine.arg("-incoming").arg(uri)
    }

    /// Sets the board. If the board has cores, a CPU and memory of its own, those that are set here
    /// do not count.
    pub fn board(mut self, board: Board) -> Self {
        self.board = board;
        self
    }

    /// Sets the kernel's command line.
    pub fn cmdline(mut self, cmdline: impl Into<String>) -> Self {
        self.cmdline = cmdline.into();
        self
    }

    /// Sets the model of the CPU.
    pub fn cpu(mut self, cpu: impl Into<String>) -> Self {
        self.cpu = cpu.into();
        self
    }

    /// Sets the number of cores.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Gives the machine a second serial port, the channel for programs, which QEMU listens for at
    /// a socket with this path.
    pub fn channel(mut self, socket: impl Into<PathBuf>) -> Self {
        self.channel = Some(socket.into());
        self
    }

    /// Gives the machine a network card at [`UPLINK`], with QEMU's `netdev` behind it: its kind and
    /// options, such as `user`.
    pub fn network_card(mut self, netdev: impl Into<String>) -> Self {
        self.network = Some(netdev.into());
        self
    }

    /// Sets the memory, in the form in which QEMU reads it: `512M`.
    pub fn memory(mut self, memory: impl Into<String>) -> Self {
        self.memory = memory.into();
        self
    }

    /// Adds a disk with a raw image: a virtio-blk disk, or a card.
    pub fn disk(mut self, image: impl Into<PathBuf>) -> Self {
        self.disks.push(image.into());
        self
    }

    /// Adds a disk with a raw image in a virtio-mmio slot of the board virt: [`disk_in_slot`].
    pub fn disk_in_slot(mut self, slot: u32, image: &Path, options: &str, serial: &str) -> Self {
        self.extra.extend(disk_in_slot(slot, image, options, serial));
        self
    }

    /// Adds an argument for QEMU.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.extra.push(argument.into());
        self
    }

    /// Sets the time after which QEMU is ended, whatever happens. The default is ten minutes.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Sets whether every line that the machine prints is shown to the person.
    pub fn mirror(mut self, mirror: bool) -> Self {
        self.mirror = mirror;
        self
    }

    /// Returns QEMU's command line, without the option for the serial port.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        let cmdline = match &self.board {
            Board::Virt => {
                let virtualization = if self.virtualization { "virtualization=on," } else { "" };
                command.args(["-M", &format!("virt,{virtualization}gic-version=2")]).args([
                    "-cpu",
                    &self.cpu,
                    "-smp",
                    &self.cpus.to_string(),
                    "-m",
                    &self.memory,
                ]);
                self.cmdline.clone()
            }
            Board::Raspi4 { device_tree } => {
                command.args(["-M", "raspi4b", "-m", "2G", "-dtb"]).arg(device_tree);
                // The device tree names the mini UART, but QEMU connects the first serial port to
                // the PL011.
                format!("console=ttyAMA0 {}", self.cmdline).trim_end().to_owned()
            }
        };
        command.args(["-nic", "none"]);
        if let Some(kernel) = &self.kernel {
            command.arg("-kernel").arg(kernel);
        }
        if let Some(initrd) = &self.initrd {
            command.arg("-initrd").arg(initrd);
        }
        if !cmdline.is_empty() {
            command.args(["-append", &cmdline]);
        }
        // Before the disks, which take any slots that are free.
        if let Some(netdev) = &self.network {
            command.args(["-netdev", &format!("{netdev},id=network"), "-device"]);
            command.arg("virtio-net-device,netdev=network,bus=virtio-mmio-bus.29");
        }
        for (number, disk) in self.disks.iter().enumerate() {
            self.attach(&mut command, number, disk);
        }
        command.args(&self.extra);
        command
    }

    fn attach(&self, command: &mut Command, number: usize, disk: &Path) {
        let interface = match self.board {
            Board::Virt => format!("none,id=disk{number},{ON_ERROR}"),
            // QEMU refuses these options for a card, and never stops the machine for an error of
            // one.
            Board::Raspi4 { .. } => "sd".to_owned(),
        };
        let mut drive = OsString::from(format!("if={interface},format=raw,file="));
        drive.push(qemu_option::value(disk));
        command.arg("-drive").arg(drive);
        if self.board == Board::Virt {
            command.args(["-device", &format!("virtio-blk-device,drive=disk{number}")]);
        }
    }

    /// Returns QEMU's command line for a person at a terminal, where Ctrl-A X ends QEMU. The file
    /// `log` gets everything that the machine prints.
    pub fn at_a_terminal(&self, log: &Path) -> Command {
        let mut command = self.command();
        let mut line = OsString::from("stdio,id=line,mux=on,signal=off,logfile=");
        line.push(qemu_option::value(log));
        command.args(["-display", "none", "-serial", "chardev:line", "-mon", "chardev=line"]);
        command.arg("-chardev").arg(line);
        self.attach_channel(&mut command);
        command
    }

    /// Returns QEMU's command line with the console at a socket, for which QEMU listens. The file
    /// `log` gets everything that the machine prints.
    ///
    /// # Errors
    ///
    /// The console must be a device, which QEMU can't be.
    pub fn at_a_socket(&self, target: &Target, log: &Path) -> Result<Command> {
        let mut command = self.command();
        let mut line = OsString::from("socket,id=line,server=on,wait=off,logfile=");
        line.push(qemu_option::value(log));
        match target {
            Target::Unix(path) => line.push(format!(",path={}", qemu_option::value(path))),
            Target::Tcp(at) => {
                let (host, port) = at.rsplit_once(':').context("tcp:HOST:PORT")?;
                line.push(format!(",host={host},port={port}"));
            }
            Target::Device(path) => {
                bail!("{} is no socket: unix:PATH or tcp:HOST:PORT", path.display())
            }
        }
        command.args(["-display", "none", "-monitor", "none", "-serial", "chardev:line"]);
        command.arg("-chardev").arg(line);
        self.attach_channel(&mut command);
        Ok(command)
    }

    /// Adds the second serial port. It stands behind the option for the first one: QEMU counts
    /// them.
    fn attach_channel(&self, command: &mut Command) {
        if let Some(socket) = &self.channel {
            let mut option = OsString::from("unix:");
            option.push(qemu_option::value(socket));
            option.push(",server=on,wait=off");
            command.arg("-serial").arg(option);
        }
    }

    /// Starts the machine.
    pub fn start(&self) -> Result<Qemu> {
        let mut command = self.command();
        command.args(["-display", "none", "-monitor", "none"]).args([
            "-chardev",
            "stdio,id=line,signal=off",
            "-serial",
            "chardev:line",
        ]);
        self.attach_channel(&mut command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("{PROGRAM} was started without its pipes");
        };
        let console = Console::new(output, input, self.mirror);
        let transcript = console.shared_transcript();
        let complaints = transcript.clone();
        complaints.begin();
        std::thread::spawn(move || {
            complain(errors, &complaints);
            complaints.end();
        });

        let child = Arc::new(Mutex::new(child));
        let (alive, ended) = mpsc::channel();
        let (limit, watched) = (self.time_limit, Arc::clone(&child));
        std::thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                transcript.append(format!("\n[no end after {limit:?}: killed]\n").as_bytes());
                // QEMU may have ended by itself at this very moment.
                let _ = lock(&watched).kill();
            }
        });
        Ok(Qemu { console, child, _alive: alive })
    }
}

/// Puts QEMU's own messages behind the transcript: they explain much, but belong to no line of the
/// machine.
fn complain(mut errors: impl Read, transcript: &Transcript) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = errors.read(&mut buffer) {
        transcript.complain(&buffer[..count]);
    }
}

fn lock(child: &Mutex<Child>) -> std::sync::MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine that runs. QEMU is killed when this is dropped.
pub struct Qemu {
    /// The conversation over the machine's serial port.
    pub console: Console,
    child: Arc<Mutex<Child>>,
    /// The thread that watches the time limit ends when this is dropped.
    _alive: Sender<()>,
}

impl Qemu {
    /// Kills QEMU at once, as if the machine lost its power.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = lock(&self.child);
        child.kill().context("cannot kill QEMU")?;
        child.wait().context("cannot wait for QEMU")?;
        Ok(())
    }

    /// Waits until QEMU has ended by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = lock(&self.child).try_wait().context("cannot wait for QEMU")? {
                return Ok(status);
            }
            self.console.check_stop("QEMU's end")?;
            if Instant::now() >= deadline {
                bail!("QEMU has not ended after {timeout:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the id of QEMU's process.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // If QEMU has ended already, there is nothing to kill.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a text that belong to one command, or to one piece of it: a line that ends in
    /// `\` goes on in the next.
    fn joined(text: &str) -> Vec<String> {
        text.replace("\\\n", " ").lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_documented_command_line_reports_errors_and_has_no_network() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut seen = 0;
        for folder in ["docs", "examples", "."] {
            for file in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
                let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
                for line in joined(&text) {
                    let line = format!("{}: {line}", file.path().display());
                    // A card takes no such option.
                    if line.contains("-drive ") && !line.contains("if=sd") {
                        seen += 1;
                        assert!(line.contains(ON_ERROR), "{line}");
                    }
                    if line.contains("qemu-system-aarch64 ") && line.contains("-kernel") {
                        seen += 1;
                        assert!(line.contains("-nic none"), "{line}");
                    }
                }
            }
        }
        assert!(seen >= 6, "{seen}");
    }

    #[test]
    fn a_machines_disk_reports_errors() {
        let command = Machine::stasis("Image", None).disk("disk.img").command();
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert!(arguments.iter().any(|word| word.contains(ON_ERROR)), "{arguments:?}");
    }
}
