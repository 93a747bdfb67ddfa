//! Counts world switches: the instructions from the last one of a guest to the first one of the
//! next guest on the same core.
//!
//! The guests `switch` and `rival` have core 1 in turns, by windows; and `sharer` and `rival`s, by
//! weights. QEMU logs every instruction of Stasis there, and its accesses to GICH. What Stasis
//! executes from an exit to the next entry is a switch if it loads FP registers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use stasis_host::config::{Configuration, CoreConfig, GuestConfig, WindowConfig};

use super::accesses::Accesses;
use super::meter::counting;
use super::profile::Profile;
use super::profile::debugger;
use super::profile::functions::{self, Functions, LOADED_AT};
use super::profile::log::Event;
use super::profile::trace::Calls;
use super::{Cost, twice};
use crate::archive;
use crate::qemu::Machine;
use crate::workspace::{Workspace, read, write};

/// The name by which a world switch can be profiled like an operation.
pub const NAME: &str = "switch";

/// The core that the two guests share. The console has the other one.
const CORE: usize = 1;
/// Microseconds of each guest's window.
const WINDOW_US: u64 = 100;
/// The numbers of interrupts that are pending in the guest `switch`, one after the other. The guest
/// has the same constant.
const PENDING: [u32; 6] = [0, 1, 2, 3, 4, 8];

/// Numbers of guests that share the core by weights.
const SHARERS: [usize; 3] = [2, 4, 8];

/// The parts of a switch, with names of functions that are in them. The first part that fits
/// counts.
const PARTS: [(&str, &[&str]); 5] = [
    ("FP", &["stasis_fp_save", "stasis_fp_load"]),
    ("registers", &["stasis_arch::world::", "interrupt_look", "stasis_enter_guest"]),
    ("vGIC", &["stasis_vgic::", "stasis_hw::gic::"]),
    ("decision", &["stasis_run::roster::", "stasis_host::sched::"]),
    ("rest", &[""]),
];

/// The cost of a switch from or to a guest with some number of pending interrupts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The name of the switch, such as `from the guest with 4 pending`.
    pub name: String,
    /// Number of instructions.
    pub cost: Cost,
    /// Number of accesses to GICH.
    pub gich: Accesses,
    /// Instructions of each part in the fastest switch, in the order of [`part_names`].
    pub parts: Vec<u64>,
}

/// Returns the names of a switch's parts.
pub fn part_names() -> impl Iterator<Item = &'static str> {
    PARTS.iter().map(|(name, _)| *name)
}

/// The measurement of all switches.
pub struct Switches {
    elf: Vec<u8>,
    windows: Machines,
    /// The machines whose guests share the core by weights, each with the number of guests.
    weights: Vec<(usize, Machines)>,
}

/// Machines with one archive.
struct Machines {
    image: PathBuf,
    archive: PathBuf,
    /// The address at which the guest that is watched reports that it is ready.
    mark: u64,
}

/// Returns the configuration of a guest on [`CORE`].
fn guest(name: &str, image: &str) -> GuestConfig {
    GuestConfig { cores: vec![CORE as u32], ..GuestConfig::new(name, image, 32 << 20) }
}

impl Machines {
    /// Packs the guests in `folder` for the hypervisor: `watched` and `rival`.
    fn new(
        workspace: &Workspace,
        (image, folder): (&Path, &Path),
        watched: &str,
        configuration: &Configuration,
    ) -> Result<Self> {
        let name = format!("{watched}-{}.cpio", configuration.guests.len());
        let archive = workspace.folder("stasis")?.join(name);
        let images = [read(&folder.join(watched))?, read(&folder.join("rival"))?];
        let files = [(watched, &images[0][..]), ("rival", &images[1][..])];
        write(&archive, &archive::pack(configuration, &files)?)?;
        let mark = functions::address_of(&images[0], "bench_mark")?;
        Ok(Self { image: image.to_owned(), archive, mark })
    }

    /// Returns the machines whose guests share the core by windows.
    fn by_windows(workspace: &Workspace, files: (&Path, &Path)) -> Result<Self> {
        let guests = ["switch", "rival"];
        let window = |(number, guest): (usize, &str)| WindowConfig {
            guest: guest.to_owned(),
            at_us: number as u64 * WINDOW_US,
            length_us: WINDOW_US,
        };
        let plan = CoreConfig {
            number: CORE as u32,
            frame_us: WINDOW_US * guests.len() as u64,
            windows: guests.into_iter().enumerate().map(window).collect(),
        };
        let configuration = Configuration {
            guests: guests.map(|name| guest(name, name)).into(),
            cores: vec![plan],
            ..Default::default()
        };
        Self::new(workspace, files, guests[0], &configuration)
    }

    /// Returns the machines with `count` guests that share the core by weights.
    fn by_weights(workspace: &Workspace, files: (&Path, &Path), count: usize) -> Result<Self> {
        let rivals = (1..count).map(|number| guest(&format!("rival-{number}"), "rival"));
        let guests = std::iter::once(guest("sharer", "sharer")).chain(rivals).collect();
        let configuration = Configuration { guests, ..Default::default() };
        Self::new(workspace, files, "sharer", &configuration)
    }
}

impl Switches {
    /// Packs the guests in `folder` for the hypervisor.
    pub fn new(workspace: &Workspace, image: &Path, elf: &Path, folder: &Path) -> Result<Self> {
        let files = (image, folder);
        let windows = Machines::by_windows(workspace, files)?;
        let weights = SHARERS.map(|count| -> Result<_> {
            Ok((count, Machines::by_weights(workspace, files, count)?))
        });
        Ok(Self { elf: read(elf)?, windows, weights: weights.into_iter().collect::<Result<_>>()? })
    }

    /// Measures twice, and returns the result, which must be the same both times.
    pub fn measure(&self) -> Result<Vec<Switch>> {
        let functions = Functions::new(&self.elf)?;
        twice("switches", || self.run(&functions))
    }

    /// Returns the profile of the fastest switch from the guest `switch`, with nothing pending in
    /// it.
    pub fn profile(&self) -> Result<Profile> {
        let functions = Functions::new(&self.elf)?;
        let phases = self.windows.phases(&self.elf, &functions, PENDING.len())?;
        let stays = phases.first().into_iter().flatten().step_by(2);
        let fastest = stays.min_by_key(|stay: &&Stay| stay.instructions.len());
        Ok(fastest.context("there was no switch")?.profile(&functions))
    }

    fn run(&self, functions: &Functions) -> Result<Vec<Switch>> {
        let mut switches = Vec::new();
        let phases = self.windows.phases(&self.elf, functions, PENDING.len())?;
        for (pending, phase) in PENDING.iter().zip(&phases) {
            // The guest was running when it reported that it was ready, so the first switch is one
            // from it.
            for (first, direction) in ["from", "to"].into_iter().enumerate() {
                let stays: Vec<&Stay> = phase.iter().skip(first).step_by(2).collect();
                let name = format!("{direction} a guest with {pending} pending");
                switches.push(summary(name, &stays, functions)?);
            }
        }
        for (count, machines) in &self.weights {
            let phases = machines.phases(&self.elf, functions, 1)?;
            let stays: Vec<&Stay> = phases.iter().flatten().collect();
            switches.push(summary(format!("by weights of {count} guests"), &stays, functions)?);
        }
        Ok(switches)
    }
}

impl Machines {
    /// Returns the switches in each of the `count` phases of the guest that is watched.
    fn phases(&self, elf: &[u8], functions: &Functions, count: usize) -> Result<Vec<Vec<Stay>>> {
        let text = functions.range();
        // Of the guests, only the mark is logged.
        let ranges = format!("{:#x}..{:#x},{:#x}+4", text.start, text.end - 1, self.mark);
        let machine = counting(Machine::stasis(&self.image, Some(&self.archive)));
        let machine = machine.arg("-dfilter").arg(ranges);
        let mut splitter = Splitter {
            mark: self.mark,
            exits: LOADED_AT + functions::address_of(elf, "stasis_vectors")? + 0x400,
            load: LOADED_AT + functions::address_of(elf, "stasis_fp_load")?,
            phases: Vec::new(),
            stay: None,
        };
        debugger::trace(machine, self.mark, 0, count, |event| splitter.step(event))?;
        ensure!(
            splitter.phases.len() == count,
            "the guest has called itself ready {} times",
            splitter.phases.len()
        );
        Ok(splitter.phases)
    }
}

/// What Stasis has executed from an exit to the next entry.
#[derive(Clone, Debug, Default)]
struct Stay {
    instructions: Vec<u64>,
    reads: u64,
    writes: u64,
}

impl Stay {
    fn profile(&self, functions: &Functions) -> Profile {
        let mut calls = Calls::new(functions);
        self.instructions.iter().for_each(|pc| calls.step(CORE, *pc));
        calls.profile()
    }
}

/// Splits the log into phases and switches.
struct Splitter {
    mark: u64,
    /// Address of the first entry of the vector table for exceptions of guests.
    exits: u64,
    /// Address of an instruction that only a switch executes.
    load: u64,
    /// The switches of each phase, which goes from one call of the mark to the next.
    phases: Vec<Vec<Stay>>,
    /// The stay that is under way; `None` before the first exit behind a mark.
    stay: Option<Stay>,
}

impl Splitter {
    /// Bytes of one entry of the vector table. The next constant is the bytes of all entries for
    /// exceptions of guests.
    const VECTOR: u64 = 0x80;
    const VECTORS: u64 = 0x400;

    fn step(&mut self, event: Event) {
        match event {
            Event::Instruction(CORE, pc) if pc == self.mark => {
                self.end_stay();
                self.phases.push(Vec::new());
            }
            Event::Instruction(CORE, pc) => {
                let vector = pc.wrapping_sub(self.exits);
                if vector < Self::VECTORS && vector.is_multiple_of(Self::VECTOR) {
                    self.end_stay();
                    self.stay = Some(Stay::default());
                }
                if let Some(stay) = &mut self.stay {
                    stay.instructions.push(pc);
                }
            }
            Event::Instruction(..) => {}
            Event::Read => self.stay.iter_mut().for_each(|stay| stay.reads += 1),
            Event::Write => self.stay.iter_mut().for_each(|stay| stay.writes += 1),
        }
    }

    fn end_stay(&mut self) {
        if let Some(stay) = self.stay.take()
            && stay.instructions.contains(&self.load)
            && let Some(phase) = self.phases.last_mut()
        {
            phase.push(stay);
        }
    }
}

fn summary(name: String, stays: &[&Stay], functions: &Functions) -> Result<Switch> {
    let length = |stay: &&Stay| stay.instructions.len() as u64;
    let fastest = stays.iter().copied().min_by_key(length);
    let fastest = fastest.with_context(|| format!("there was no switch {name}"))?;
    let profile = fastest.profile(functions);
    // A function that was renamed must not be counted for the rest without anybody noticing.
    for name in PARTS.iter().flat_map(|(_, names)| *names) {
        let is_there = profile.stacks().any(|(stack, _)| contains(stack, name));
        ensure!(
            is_there,
            "no instruction of a world switch is in `{name}`, which is one of its parts"
        );
    }
    let mut parts = BTreeMap::new();
    for (stack, count) in profile.stacks() {
        *parts.entry(part_of(stack)).or_default() += count;
    }
    Ok(Switch {
        name,
        cost: Cost::of(stays.iter().map(length)),
        gich: Accesses {
            reads: Cost::of(stays.iter().map(|stay| stay.reads)),
            writes: Cost::of(stays.iter().map(|stay| stay.writes)),
        },
        parts: (0..PARTS.len()).map(|part| parts.get(&part).copied().unwrap_or(0)).collect(),
    })
}

fn contains(stack: &[String], name: &str) -> bool {
    stack.iter().any(|function| function.contains(name))
}

fn part_of(stack: &[String]) -> usize {
    let fits = |names: &[&str]| names.iter().any(|name| contains(stack, name));
    PARTS.iter().position(|(_, names)| fits(names)).unwrap_or(PARTS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stay_at_el2_that_loads_no_fp_registers_is_no_switch() {
        let (mark, exits, load) = (1, 0x1400, 0x3000);
        let mut splitter = Splitter { mark, exits, load, phases: Vec::new(), stay: None };
        let on = |core, pc| Event::Instruction(core, pc);
        for event in [
            on(CORE, mark),
            // The end of one that began before.
            on(CORE, load),
            on(CORE, exits + 0x80),
            on(CORE, load),
            Event::Read,
            on(0, load),
            on(CORE, exits),
            Event::Write,
            on(CORE, mark),
        ] {
            splitter.step(event);
        }
        let [first, second] = &splitter.phases[..] else { panic!("{:?}", splitter.phases) };
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].instructions, [exits + 0x80, load]);
        assert_eq!((first[0].reads, first[0].writes), (1, 0));
        assert!(second.is_empty());
    }

    #[test]
    fn a_part_is_told_by_whatever_calls() {
        let stack = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let name = |names: &[&str]| PARTS[part_of(&stack(names))].0;
        assert_eq!(
            name(&["stasis_run::domain::run", "stasis_arch::world::load", "stasis_fp_load"]),
            "FP"
        );
        assert_eq!(name(&["stasis_vgic::fill::<impl Vgic>::load", "core::cmp::min"]), "vGIC");
        assert_eq!(
            name(&["stasis_run::roster::<impl Roster>::keep", "core::cmp::min"]),
            "decision"
        );
        // Whoever loops over the turns calls everything.
        assert_eq!(name(&["stasis_run::turns::run_vcpus", "stasis_run::domain::run"]), "rest");
    }
}
