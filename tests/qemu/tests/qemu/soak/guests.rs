//! The guests of the soak run, and what was seen of each.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_host::config::{CoreConfig, GuestConfig, WindowConfig};
use stasis_qemu_tests::beats::Beats;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::sequence::Sequence;
use stasis_qemu_tests::stasis::{Stasis, TURN_US, guest};
use stasis_qemu_tests::steps::Steps;
use xtask::workspace::read;
use xtask::{build, initramfs, setup};

use super::Time;
use crate::linux::{BOOT_TIME, look_at_dmesg, shell};

const CORES: u32 = 2;
/// The core with the windows. The console is on the other core.
const RT_CORE: u32 = 1;
/// An instruction takes 4 ns, where instructions are counted.
const NS_SHIFT: u32 = 2;
/// Microseconds of the frame of that core.
const FRAME_US: u64 = 5000;
/// Microseconds of each of the two windows.
const WINDOW_US: u64 = 1000;
/// Microseconds from the beginning of a window to the guest's look at the counter: two switches, at
/// most, and QEMU's turns.
const SWITCH_US: u64 = 2 * TURN_US;
/// A guest that was stopped while it waited for its window waits for another one when it goes on.
const PULSE_LATE_US: u64 = 2 * (FRAME_US - WINDOW_US + SWITCH_US);
/// A deadline of ArceOS is met when its kernel's tick, each millisecond, has found it over, and its
/// other threads have had their turns.
const ARCEOS_LATE_US: u64 = 3 * FRAME_US;

/// What a guest says.
enum Witness {
    Steps(Box<Steps>),
    Beats(Box<Beats>),
}

/// A guest of the soak run.
pub struct Soaked {
    pub name: &'static str,
    witness: Witness,
    /// The line that the guest is in the midst of.
    begun: String,
    /// The last number that the guest had said when it was last seen to go on.
    before: u64,
}

impl Soaked {
    fn new(name: &'static str, witness: Witness) -> Self {
        Self { name, witness, begun: String::new(), before: 0 }
    }

    /// Returns the numbers that the guest counts up.
    pub fn sequence(&mut self) -> &mut Sequence {
        match &mut self.witness {
            Witness::Steps(steps) => steps.sequence(),
            Witness::Beats(beats) => beats.sequence(),
        }
    }

    /// Looks at all that the guest has said.
    pub fn look(&mut self, stasis: &mut Stasis) -> Result<()> {
        stasis.attach(self.name)?;
        let text = stasis.detach()?;
        let (text, _) = text.rsplit_once("\r\n[detached").context("we were not attached")?;
        self.begun.push_str(text);
        while let Some((line, rest)) = self.begun.split_once('\n') {
            let line = line.trim();
            ensure!(!line.contains("bytes are lost"), "{}: {line}", self.name);
            match &mut self.witness {
                Witness::Steps(steps) => steps.look_at(line),
                Witness::Beats(beats) => beats.look_at(line),
            }
            .with_context(|| format!("guest \"{}\"", self.name))?;
            self.begun = rest.to_owned();
        }
        Ok(())
    }

    /// Notes that the guest goes on from a checkpoint that was made after it had said `number`.
    pub fn resumed_behind(&mut self, number: u64) {
        self.begun.clear();
        self.sequence().resumed_behind(number);
        self.before = number;
    }

    /// Returns whether the guest has said more than when this function last returned `true`.
    pub fn has_gone_on(&mut self, stasis: &mut Stasis) -> Result<bool> {
        self.look(stasis)?;
        let last = self.sequence().last();
        let on = last > self.before && !self.sequence().is_to_go_back();
        if on {
            self.before = last;
        }
        Ok(on)
    }

    /// Returns whether the guest has deadlines, some of which it would miss if it waited for its
    /// memory.
    pub fn has_deadlines(&self) -> bool {
        matches!(self.witness, Witness::Beats(_))
    }

    /// Returns a copy of the guest, without windows, as `name`.
    pub fn copy(&self, name: &'static str) -> Self {
        let witness = match &self.witness {
            Witness::Steps(steps) => Witness::Steps(steps.clone()),
            Witness::Beats(beats) => {
                Witness::Beats(Box::new(beats.as_ref().clone().now_and_then()))
            }
        };
        Self { name, witness, begun: self.begun.clone(), before: self.before }
    }
}

impl fmt::Display for Soaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.witness {
            Witness::Steps(steps) => write!(f, "{} at step {}", self.name, steps.last()),
            Witness::Beats(beats) => {
                let (number, lost) = beats.last().map_or((0, 0), |beat| (beat.number, beat.lost));
                write!(
                    f,
                    "{} at beat {number}, {lost} lost, latest {} us",
                    self.name,
                    beats.latest_us()
                )
            }
        }
    }
}

fn linux(name: &str, cores: &[u32]) -> GuestConfig {
    GuestConfig {
        image: "linux".to_owned(),
        initrd: Some("initramfs".to_owned()),
        // Linux would set 64 MiB aside for devices that want their memory in one piece.
        cmdline: "console=ttyAMA0 cma=0".to_owned(),
        vcpus: cores.len() as u8,
        cores: cores.to_vec(),
        ..guest(name, 80)
    }
}

/// Returns a machine with all guests, each at work.
pub fn boot(lab: &Lab, time: Time, limit: Duration) -> Result<(Stasis, Vec<Soaked>)> {
    let workspace = &Built::get()?.workspace;
    let disk = lab.disk_of(512 << 20)?;
    let window =
        |guest: &str, at_us| WindowConfig { guest: guest.to_owned(), at_us, length_us: WINDOW_US };
    let plan = CoreConfig {
        number: RT_CORE,
        frame_us: FRAME_US,
        windows: vec![window("pulse", 0), window("arceos", 2000)],
    };
    // What they say while the others start would be too much to be kept.
    let windowed = |name, memory| GuestConfig {
        cores: vec![RT_CORE],
        autostart: false,
        ..guest(name, memory)
    };
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    let mut setup = lab
        .machine()
        .cpus(CORES)
        .disk(&disk)
        .time_limit(limit + BOOT_TIME * 4)
        .file("initramfs", initramfs::make(workspace)?)
        .core(plan)
        .configured(linux("first", &[0, RT_CORE]), Some(kernel))
        .configured(linux("second", &[RT_CORE]), None)
        .configured(windowed("pulse", 4), Some(lab.guest("pulse")?))
        .configured(windowed("arceos", 16), Some(build::arceos(workspace)?));
    if time == Time::Instructions {
        setup = setup.counting_instructions(NS_SHIFT).in_short_turns();
    }
    let mut stasis = setup.boot()?;
    for name in ["first", "second"] {
        stasis.attach(name)?;
        stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME * 4)?;
        look_at_dmesg(&mut stasis)?;
        if name == "first" {
            // The guest never waits, so that there is always one that wants its neighbours' time.
            shell(&mut stasis, "for n in 1; do while :; do :; done & done")?;
        }
        stasis.qemu.console.send_line("loop &")?;
        stasis.detach()?;
    }
    for name in ["pulse", "arceos"] {
        stasis.command(&format!("unpause {name}"))?;
    }
    let strict = |beats: Beats, late_us| match time {
        Time::Instructions => beats.within(late_us),
        Time::Wall => beats.now_and_then(),
    };
    let pulse = strict(Beats::of_pulse(), PULSE_LATE_US);
    let arceos = strict(Beats::of_arceos(), ARCEOS_LATE_US);
    let guests = vec![
        Soaked::new("first", Witness::Steps(Box::default())),
        Soaked::new("second", Witness::Steps(Box::default())),
        Soaked::new("pulse", Witness::Beats(Box::new(pulse))),
        Soaked::new("arceos", Witness::Beats(Box::new(arceos))),
    ];
    Ok((stasis, guests))
}
