//! Virtio devices of guests: what Stasis executes for a request of a disk and for a frame, and how
//! long Linux takes for the same.
//!
//! The guest `requests` does as many requests of one kind as a phase has, told by a byte that is
//! typed. QEMU logs every instruction of Stasis meanwhile; those of a phase without requests, in
//! which all that is typed and printed is the same, are taken off. [`linux`] measures time, beside
//! plain QEMU.

pub mod linux;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use stasis_host::config::{Configuration, DiskConfig, GuestConfig};

use super::meter::counting;
use super::profile::Profile;
use super::profile::functions::Functions;
use super::profile::log::Event;
use super::profile::switched::Switched;
use super::profile::trace::Calls;
use crate::console::Console;
use crate::monitor::Socket;
use crate::qemu::{Machine, Qemu};
use crate::workspace::{read, write};
use crate::{archive, disk};

/// Time that a phase may take. With the log, QEMU needs seconds for one.
const PATIENCE: Duration = Duration::from_secs(300);
/// The guest, its name in the archive too; and the one that gets its frames.
const GUEST: &str = "requests";
const LISTENER: &str = "listener";
/// The phase without requests.
const NOTHING: char = 'n';
/// The phase of the frames.
const FRAMES: Phase = Phase { name: "frame-1500", key: 's', count: 64, bytes: 1500 };
/// The phases of the disk, in their order: the first one writes what the others read.
const PHASES: [Phase; 5] = [
    Phase { name: "write-1m", key: 'W', count: 4, bytes: 1 << 20 },
    Phase { name: "write-4k", key: 'w', count: 64, bytes: 4096 },
    Phase { name: "read-1m", key: 'R', count: 4, bytes: 1 << 20 },
    Phase { name: "read-4k", key: 'r', count: 64, bytes: 4096 },
    Phase { name: "read-4k-apart", key: 'a', count: 64, bytes: 4096 },
];
/// The function that copies, and who calls it to move a request's data between the guest and
/// Stasis: of what was read ahead, too, and of late writes.
const COPY: [&str; 2] = ["stasis_copy", "memcpy"];
const COPIED_FOR: [&str; 3] = ["DiskTransfer", "chain::Bytes::write", "Slots>::write_late"];

/// Requests of one kind. The guest has the same numbers.
#[derive(Clone, Copy, Debug)]
struct Phase {
    name: &'static str,
    /// The byte that is typed.
    key: char,
    count: u64,
    bytes: u64,
}

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name.
    pub name: &'static str,
    /// Instructions of Stasis.
    pub all: u64,
    /// Instructions of these that copy the data from the guest or to it.
    pub copy: u64,
}

/// Returns whether this is the name of a request that can be profiled.
pub fn is_one(name: &str) -> bool {
    name == FRAMES.name || PHASES.iter().any(|phase| phase.name == name)
}

/// The measurement.
pub struct Devices<'a> {
    image: PathBuf,
    guest: PathBuf,
    functions: Functions<'a>,
}

impl<'a> Devices<'a> {
    /// Returns the measurement with the hypervisor's files and the folder of the guests.
    pub fn new(image: &Path, elf: &'a [u8], folder: &Path) -> Result<Self> {
        let functions = Functions::new(elf)?;
        Ok(Self { image: image.to_owned(), guest: folder.join(GUEST), functions })
    }

    /// Returns what a request of each kind takes.
    pub fn measure(&self) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        let mut with_disk = self.with_disk()?;
        let nothing = Sum::of(&with_disk.phase(NOTHING, &self.functions)?);
        for phase in PHASES {
            let sum = Sum::of(&with_disk.phase(phase.key, &self.functions)?);
            requests.push(phase.of(sum, nothing)?);
        }
        with_disk.machine.kill()?;
        let mut with_card = self.with_cards()?;
        let nothing = Sum::of(&with_card.phase(NOTHING, &self.functions)?);
        let sum = Sum::of(&with_card.phase(FRAMES.key, &self.functions)?);
        requests.push(FRAMES.of(sum, nothing)?);
        with_card.machine.kill()?;
        Ok(requests)
    }

    /// Returns the profile of the requests of this name, and their number.
    pub fn profile(&self, name: &str) -> Result<(Profile, u64)> {
        if name == FRAMES.name {
            let profile = self.with_cards()?.phase(FRAMES.key, &self.functions)?;
            return Ok((profile, FRAMES.count));
        }
        let mut machine = self.with_disk()?;
        for phase in PHASES {
            let profile = machine.phase(phase.key, &self.functions)?;
            if phase.name == name {
                return Ok((profile, phase.count));
            }
        }
        anyhow::bail!("there are no requests of the name {name}")
    }

    /// Boots a machine with one core, on which the guest has a disk. QEMU executes several cores in
    /// long turns, and a request waits for that of the console.
    fn with_disk(&self) -> Result<Logged> {
        let disk = DiskConfig { volume: "data".to_owned(), size: 64 << 20, from: None };
        let config = GuestConfig { disks: vec![disk], cores: vec![0], ..guest(GUEST) };
        self.boot(vec![config], 1)
    }

    /// Boots a machine on which two guests have a core each, and cards in one network. One of them
    /// listens.
    fn with_cards(&self) -> Result<Logged> {
        let networks = vec!["lan".to_owned()];
        let on = |name, core| GuestConfig {
            networks: networks.clone(),
            cores: vec![core],
            ..guest(name)
        };
        let mut logged = self.boot(vec![on(GUEST, 1), on(LISTENER, 2)], 3)?;
        logged.ask(LISTENER, 'l')?;
        Ok(logged)
    }

    fn boot(&self, guests: Vec<GuestConfig>, cores: u32) -> Result<Logged> {
        let names: Vec<String> = guests.iter().map(|guest| guest.name.clone()).collect();
        let configuration = Configuration { guests, ..Default::default() };
        let room = tempfile::tempdir()?;
        let (image, log) = (room.path().join("disk.img"), room.path().join("log"));
        disk::create(&image, 256 << 20)?;
        let archive = room.path().join("requests.cpio");
        write(&archive, &archive::pack(&configuration, &[(GUEST, &read(&self.guest)?)])?)?;
        let socket = Socket::new()?;
        let machine = counting(Machine::stasis(&self.image, Some(&archive)).disk(&image));
        let machine = Switched::prepare(machine, &self.functions.range(), &log, &socket);
        let mut machine = machine.cpus(cores).time_limit(PATIENCE * 8).start()?;
        machine.console.wait_for("stasis> ", PATIENCE)?;
        let log = Switched::connect(&socket, log)?;
        let mut logged = Logged { machine, log, _room: room };
        for name in names {
            logged.attach(&name)?;
            logged.machine.console.wait_for("requests begin", PATIENCE)?;
            logged.machine.console.detach()?;
        }
        Ok(logged)
    }
}

fn guest(name: &str) -> GuestConfig {
    GuestConfig::new(name, GUEST, 32 << 20)
}

/// A machine whose log is switched on and off.
struct Logged {
    machine: Qemu,
    log: Switched,
    _room: tempfile::TempDir,
}

impl Logged {
    fn attach(&mut self, guest: &str) -> Result<()> {
        let attach = format!("attach {guest}");
        self.machine.console.command_within(&attach, PATIENCE, |_| ())?;
        Ok(())
    }

    /// Makes a guest do a phase.
    fn ask(&mut self, guest: &str, key: char) -> Result<()> {
        self.attach(guest)?;
        type_in(&mut self.machine.console, key)?;
        self.machine.console.detach()?;
        Ok(())
    }

    /// Makes the guest do a phase, and returns what Stasis executes meanwhile.
    fn phase(&mut self, key: char, functions: &Functions) -> Result<Profile> {
        self.attach(GUEST)?;
        let Self { machine, log, .. } = self;
        let events = log.during(|| type_in(&mut machine.console, key))?;
        machine.console.detach()?;
        let mut calls = Calls::new(functions);
        for event in events {
            if let Event::Instruction(core, pc) = event? {
                calls.step(core, pc);
            }
        }
        Ok(calls.profile())
    }
}

/// Types the key of a phase for the attached guest, and waits until it has done that.
fn type_in(console: &mut Console, key: char) -> Result<()> {
    console.send(key.to_string().as_bytes())?;
    console.wait_for(&format!("requests {key} done"), PATIENCE)?;
    Ok(())
}

/// Instructions of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    all: u64,
    copy: u64,
}

impl Sum {
    fn of(profile: &Profile) -> Self {
        let mut sum = Self::default();
        for (stack, count) in profile.stacks() {
            sum.all += count;
            let is_copy = stack.last().is_some_and(|name| COPY.contains(&name.as_str()));
            let is_of_data = |name: &String| COPIED_FOR.iter().any(|caller| name.contains(caller));
            if is_copy && stack.iter().any(is_of_data) {
                sum.copy += count;
            }
        }
        sum
    }
}

impl Phase {
    /// Returns what a request takes, of a phase with these instructions, of which `nothing` are
    /// those of one without requests.
    fn of(&self, sum: Sum, nothing: Sum) -> Result<Request> {
        let per = |with: u64, without: u64| with.saturating_sub(without).div_ceil(self.count);
        let (all, copy) = (per(sum.all, nothing.all), per(sum.copy, nothing.copy));
        ensure!(all > copy, "{}: all instructions are those of the copy", self.name);
        // A function that was renamed must not be counted for the rest without anybody noticing.
        let least = if self.key == FRAMES.key { 0 } else { self.bytes / 128 };
        ensure!(copy >= least, "{}: no instruction copies data", self.name);
        Ok(Request { name: self.name, all, copy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_takes_is_what_a_phase_has_more_than_one_without_requests() {
        let phase = Phase { name: "x", key: 'x', count: 4, bytes: 4096 };
        let (all, nothing) = (Sum { all: 9000, copy: 400 }, Sum { all: 1000, copy: 0 });
        let request = Request { name: "x", all: 2000, copy: 100 };
        assert_eq!(phase.of(all, nothing).unwrap(), request);
        let renamed = phase.of(Sum { copy: 0, ..all }, nothing).unwrap_err().to_string();
        assert_eq!(renamed, "x: no instruction copies data");
    }
}
