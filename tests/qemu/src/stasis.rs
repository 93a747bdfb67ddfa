//! A machine that runs Stasis, spoken to through its console.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use stasis_guest::image::Kind;
use stasis_guest::shared::SharedRegion;
use stasis_host::config::{self, Configuration, CoreConfig, GuestConfig, NetworkConfig};
use xtask::archive;
use xtask::board::Board;
use xtask::console::{Console, ConsoleError, PROMPT};
use xtask::qemu::{ChannelSocket, Machine, Qemu, disk_in_slot};
use xtask::workspace::write;

use crate::lab::{Built, Lab};
use xtask::monitor::Socket;

/// The longest time until the first prompt.
pub const BOOT_TIME: Duration = Duration::from_secs(60);
/// The longest time until a checkpoint is stored or resumed.
const STORE_TIME: Duration = Duration::from_secs(600);
/// The longest time that a machine runs, unless its test says so.
const LIFE_TIME: Duration = Duration::from_secs(600);

/// Microseconds from one turn of a QEMU core to the next, where cores have [short
/// turns](Setup::in_short_turns).
pub const TURN_US: u64 = 200;

/// A machine in the making.
pub struct Setup<'l> {
    lab: &'l Lab,
    configuration: Configuration,
    files: Vec<(String, Vec<u8>)>,
    compiled: Option<Vec<u8>>,
    archive: Archive,
    image: Option<PathBuf>,
    disk: Option<PathBuf>,
    memory: String,
    cpus: u32,
    cpu: String,
    board: Board,
    cmdline: String,
    time_limit: Duration,
    channel: Option<PathBuf>,
    network_card: Option<String>,
    arguments: Vec<OsString>,
}

enum Archive {
    Packed,
    Bytes(Vec<u8>),
    None,
}

/// Returns a guest's configuration with everything that need not be said.
pub fn guest(name: &str, memory_mib: u64) -> GuestConfig {
    GuestConfig::new(name, name, memory_mib << 20)
}

impl Lab {
    /// Returns a machine in the making, with Stasis and without a guest.
    pub fn machine(&self) -> Setup<'_> {
        Setup::new(self)
    }
}

impl<'l> Setup<'l> {
    fn new(lab: &'l Lab) -> Self {
        Self {
            lab,
            configuration: Configuration::default(),
            files: Vec::new(),
            compiled: None,
            archive: Archive::Packed,
            image: None,
            disk: None,
            memory: "1G".to_owned(),
            cpus: 2,
            cpu: "cortex-a72".to_owned(),
            board: Board::Virt,
            cmdline: String::new(),
            time_limit: LIFE_TIME,
            channel: None,
            network_card: None,
            arguments: Vec::new(),
        }
    }

    /// Adds one of the bare-metal guests, as ELF.
    pub fn guest(self, name: &str) -> Result<Self> {
        let image = self.lab.guest(name)?;
        let memory = if name == "idle" { 4 } else { 32 };
        Ok(self.configured(guest(name, memory), Some(image)))
    }

    /// Adds a guest, with its image if there is one.
    pub fn configured(mut self, guest: GuestConfig, image: Option<Vec<u8>>) -> Self {
        if let Some(image) = image {
            self = self.file(&guest.image, image);
        }
        self.configuration.guests.push(guest);
        self
    }

    /// Adds a file to the archive.
    pub fn file(mut self, name: &str, data: Vec<u8>) -> Self {
        self.files.push((name.to_owned(), data));
        self
    }

    /// Says as what kind all guests' images are loaded.
    pub fn kind(mut self, kind: Kind) -> Self {
        for guest in &mut self.configuration.guests {
            guest.kind = Some(kind);
        }
        self
    }

    /// Divides a core's time.
    pub fn core(mut self, core: CoreConfig) -> Self {
        self.configuration.cores.push(core);
        self
    }

    /// Changes what is said of a guest.
    pub fn change(mut self, name: &str, change: impl Fn(&mut GuestConfig)) -> Self {
        self.configuration.guests.iter_mut().filter(|guest| guest.name == name).for_each(change);
        self
    }

    /// Makes guests share memory.
    pub fn shared(mut self, region: SharedRegion) -> Self {
        self.configuration.shared.push(region);
        self
    }

    /// Says something of a network.
    pub fn network(mut self, network: NetworkConfig) -> Self {
        self.configuration.networks.push(network);
        self
    }

    /// Gives the machine a network card at [`UPLINK`](xtask::qemu::UPLINK), with QEMU's `netdev`
    /// behind it.
    pub fn network_card(mut self, netdev: &str) -> Self {
        self.network_card = Some(netdev.to_owned());
        self
    }

    /// Says whether what is written to a card is read again.
    pub fn verify_writes(mut self, verify: bool) -> Self {
        self.configuration.store.verify_writes = verify;
        self
    }

    /// Takes this for the compiled configuration, whatever it is.
    pub fn compiled(mut self, bytes: Vec<u8>) -> Self {
        self.compiled = Some(bytes);
        self
    }

    /// Takes this for the archive, whatever it is.
    pub fn archive(mut self, bytes: Vec<u8>) -> Self {
        self.archive = Archive::Bytes(bytes);
        self
    }

    /// Takes this for the hypervisor's image.
    pub fn image(mut self, image: &Path) -> Self {
        self.image = Some(image.to_owned());
        self
    }

    /// Boots without an archive, and so without guests: checkpoints can be resumed.
    pub fn no_archive(mut self) -> Self {
        self.archive = Archive::None;
        self
    }

    /// Adds a disk.
    pub fn disk(mut self, disk: &Path) -> Self {
        self.disk = Some(disk.to_owned());
        self
    }

    /// Gives the machine this much memory.
    pub fn memory(mut self, memory: &str) -> Self {
        self.memory = memory.to_owned();
        self
    }

    /// Gives the machine this many cores.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Gives the machine cores of this model.
    pub fn cpu(mut self, cpu: &str) -> Self {
        self.cpu = cpu.to_owned();
        self
    }

    /// Takes the Raspberry Pi 4 for the machine, with its own cores and memory, and a card for a
    /// disk.
    pub fn raspi4(mut self) -> Result<Self> {
        self.board = Board::raspi4(&Built::get()?.workspace)?;
        Ok(self)
    }

    /// Gives it a monitor.
    pub fn monitor(self, socket: &Socket) -> Self {
        self.argument("-qmp").argument(socket.option())
    }

    /// Gives it a channel for programs.
    pub fn channel(mut self, socket: &ChannelSocket) -> Self {
        self.channel = Some(socket.path().to_owned());
        self
    }

    /// Takes this for the machine.
    pub fn board(mut self, board: Board) -> Self {
        self.board = board;
        self
    }

    /// Sets Stasis's boot arguments.
    pub fn cmdline(mut self, cmdline: &str) -> Self {
        self.cmdline = cmdline.to_owned();
        self
    }

    /// Adds an argument of QEMU's.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds a disk to virtio-mmio slot `slot` of QEMU's `virt`.
    pub fn disk_in_slot(self, disk: &Path, slot: u32) -> Self {
        disk_in_slot(slot, disk, "", "").into_iter().fold(self, Setup::argument)
    }

    /// Makes QEMU count instructions, each of which takes 2^`shift` ns: then how long something
    /// takes does not depend on what else the host does. Time in which all cores wait is skipped.
    pub fn counting_instructions(self, shift: u32) -> Self {
        self.argument("-icount").argument(format!("shift={shift},sleep=off"))
    }

    /// Gives the cores of a machine that [counts](Self::counting_instructions) take short turns.
    /// QEMU executes one after the other, each until half way to the next event that QEMU itself
    /// waits for. So here is one that comes each [`TURN_US`]: that of a filter on a network without
    /// members.
    pub fn in_short_turns(self) -> Self {
        self.argument("-netdev")
            .argument("hubport,id=nobody,hubid=0")
            .argument("-object")
            .argument(format!("filter-buffer,id=turns,netdev=nobody,interval={TURN_US}"))
    }

    /// Limits the machine's life, where the usual limit is too short.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Starts it, and waits for Stasis's first prompt.
    pub fn boot(self) -> Result<Stasis> {
        let mut stasis = self.start()?;
        let greeting = stasis.qemu.console.wait_for(PROMPT, BOOT_TIME)?;
        stasis.greeting = greeting.lines().map(|line| line.trim().to_owned()).collect();
        Ok(stasis)
    }

    /// Starts it, and waits for nothing.
    pub fn start(self) -> Result<Stasis> {
        let transcript = self.lab.next_transcript();
        // Taken, before another machine looks for one.
        write(&transcript, b"")?;
        let archive = self.write_archive(&transcript.with_extension("cpio"))?;
        let image = match self.image {
            Some(image) => image,
            None => Built::get()?.image.clone(),
        };
        let mut machine = Machine::stasis(image, archive.as_deref())
            .cpu(self.cpu)
            .cpus(self.cpus)
            .memory(self.memory)
            .board(self.board)
            .cmdline(self.cmdline)
            .time_limit(self.time_limit);
        if let Some(disk) = self.disk {
            machine = machine.disk(disk);
        }
        if let Some(channel) = self.channel {
            machine = machine.channel(channel);
        }
        if let Some(netdev) = self.network_card {
            machine = machine.network_card(netdev);
        }
        for argument in self.arguments {
            machine = machine.arg(argument);
        }
        Ok(Stasis { qemu: machine.start()?, transcript, greeting: Vec::new() })
    }

    fn write_archive(&self, path: &Path) -> Result<Option<PathBuf>> {
        let bytes = match &self.archive {
            Archive::None => return Ok(None),
            Archive::Bytes(bytes) => bytes.clone(),
            Archive::Packed => {
                let configuration = match &self.compiled {
                    Some(bytes) => bytes.clone(),
                    None => config::compile(&self.configuration).map_err(anyhow::Error::new)?,
                };
                let files: Vec<(&str, &[u8])> =
                    self.files.iter().map(|(name, data)| (name.as_str(), &data[..])).collect();
                archive::pack_raw(&configuration, &files)?
            }
        };
        write(path, &bytes)?;
        Ok(Some(path.to_owned()))
    }
}

/// Somebody to speak with, by a console.
pub trait Conversation {
    /// Returns the console.
    fn console(&mut self) -> &mut Console;
}

impl Conversation for Stasis {
    fn console(&mut self) -> &mut Console {
        &mut self.qemu.console
    }
}

/// A machine that runs Stasis. It ends when this is dropped, and leaves a transcript.
pub struct Stasis {
    /// The machine, with its console.
    pub qemu: Qemu,
    /// What was printed before the first prompt.
    pub greeting: Vec<String>,
    transcript: PathBuf,
}

impl Stasis {
    /// Returns the lines that answer a command, which must succeed.
    pub fn command(&mut self, command: &str) -> Result<Vec<String>> {
        Ok(self.qemu.console.command_within(command, STORE_TIME, |_| ())?)
    }

    /// Returns why a command was refused, which it must be.
    pub fn refused(&mut self, command: &str) -> Result<String> {
        match self.qemu.console.command_within(command, STORE_TIME, |_| ()) {
            Ok(lines) => bail!("\"{command}\" should have been refused; it said {lines:?}"),
            Err(ConsoleError::Refused { reason, .. }) => {
                ensure!(reason.len() > 10, "\"{reason}\" does not say what is wrong");
                Ok(reason)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Returns why a command was refused, which must mention each of these words.
    pub fn refused_for(&mut self, command: &str, words: &[&str]) -> Result<String> {
        let reason = self.refused(command)?;
        for word in words {
            ensure!(
                reason.to_lowercase().contains(&word.to_lowercase()),
                "\"{command}\" was refused with \"{reason}\", which does not mention \"{word}\""
            );
        }
        Ok(reason)
    }

    /// Returns the line before the first prompt that names what is wrong with `guest`, or with all
    /// of them.
    pub fn complaint(&self, words: &[&str]) -> Result<&str> {
        let fits = |line: &&String| {
            let line = line.to_lowercase();
            words.iter().all(|word| line.contains(&word.to_lowercase()))
        };
        let lines: Vec<_> = self.greeting.iter().filter(fits).collect();
        match lines[..] {
            [line] => Ok(line),
            [] => bail!("no line mentions {words:?}; Stasis said {:#?}", self.greeting),
            _ => bail!("{} lines mention {words:?}: {lines:#?}", lines.len()),
        }
    }

    /// Begins a checkpoint that must fail, makes happen what happens then, and returns why it was
    /// refused.
    pub fn checkpoint_fails(
        &mut self,
        guest: &str,
        name: &str,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<String> {
        let (mut under_way, mut result) = (false, Ok(()));
        let command = format!("checkpoint {guest} {name}");
        let answer = self.qemu.console.command_within(&command, STORE_TIME, |line| {
            if line.contains("stored: ") && !std::mem::replace(&mut under_way, true) {
                result = meanwhile();
            }
        });
        result?;
        match answer {
            Ok(lines) => bail!("\"{command}\" should have failed; it said {lines:?}"),
            Err(ConsoleError::Refused { reason, .. }) => Ok(reason),
            Err(other) => Err(other.into()),
        }
    }

    /// Checkpoints a guest, and returns the number of the checkpoint.
    pub fn checkpoint(&mut self, guest: &str, name: &str) -> Result<u64> {
        let lines = self.command(&format!("checkpoint {guest} {name}"))?;
        let number = lines.iter().rev().find_map(|line| checkpoint_number(line, name));
        number.with_context(|| format!("no line names the checkpoint \"{name}\": {lines:#?}"))
    }

    /// Resumes a checkpoint.
    pub fn resume(&mut self, which: impl std::fmt::Display) -> Result<()> {
        self.command(&format!("resume {which}")).map(drop)
    }

    /// Resumes a checkpoint as a whole, and returns how often all of its memory was read: once, as
    /// it was loaded, or twice, if it was checked before.
    pub fn resume_whole(&mut self, which: impl std::fmt::Display) -> Result<usize> {
        let lines = self.command(&format!("resume {which} --whole"))?;
        let is_said = |what: &&str| lines.iter().any(|line| line.starts_with(what));
        ensure!(is_said(&"... loaded: "), "nothing was loaded: {lines:?}");
        Ok(["... checked: ", "... loaded: "].iter().filter(|what| is_said(what)).count())
    }

    /// Deletes a checkpoint, or a set, as soon as no guest is loaded from it any more.
    pub fn delete_when_loaded(&mut self, which: impl std::fmt::Display) -> Result<()> {
        let (command, end) = (format!("delete {which}"), Instant::now() + STORE_TIME);
        loop {
            match self.qemu.console.command_within(&command, STORE_TIME, |_| ()) {
                Err(ConsoleError::Refused { reason, .. })
                    if reason.contains("is in use") && Instant::now() < end =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                deleted => return Ok(deleted.map(drop)?),
            }
        }
    }

    /// Attaches the terminal to a guest.
    pub fn attach(&mut self, guest: &str) -> Result<()> {
        self.command(&format!("attach {guest}")).map(drop)
    }

    /// Detaches it: what the guest has sent that nobody has looked at.
    pub fn detach(&mut self) -> Result<String> {
        Ok(self.qemu.console.detach()?)
    }

    /// Checks that Stasis still answers.
    pub fn is_alive(&mut self) -> Result<()> {
        self.command("guests").context("Stasis does not answer any more").map(drop)
    }

    /// Pulls the plug.
    pub fn kill(mut self) -> Result<()> {
        self.qemu.kill()
    }

    /// Switches the machine off as a person would.
    pub fn quit(mut self) -> Result<()> {
        self.qemu.console.send_line("quit")?;
        let status = self.qemu.wait(Duration::from_secs(20))?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }
}

impl Drop for Stasis {
    fn drop(&mut self) {
        // A transcript that can't be written is only missed when something else went wrong.
        let _ = std::fs::write(&self.transcript, self.qemu.console.transcript());
    }
}

/// Returns the number in `checkpoint 3 "name": ...`.
fn checkpoint_number(line: &str, name: &str) -> Option<u64> {
    let (number, rest) = line.strip_prefix("checkpoint ")?.split_once(' ')?;
    rest.strip_prefix(&format!("\"{name}\": "))?;
    number.parse().ok()
}
