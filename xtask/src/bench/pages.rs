//! Checkpoint and resume: what each page of a guest's memory costs, by its content.
//!
//! From one checkpoint to the next, the guest `pages` writes pages of one kind beside another page,
//! or that one alone: the difference is their cost. Each checkpoint but the first shares with the
//! one before it, so that it looks at what was written alone. Each is resumed as a whole on one
//! machine, and on demand, until all is there, on another: the same function fills the memory. A
//! check without a load is made only where there is no room for both. QEMU logs every instruction
//! of Stasis meanwhile. An instruction counts if it is in one of the [`STEPS`] and in none of the
//! [`PAUSES`].

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use stasis_host::config::{Configuration, GuestConfig};

use super::meter::counting;
use super::profile::Profile;
use super::profile::functions::Functions;
use super::profile::log::{Event, Events};
use super::profile::switched::Switched;
use super::profile::trace::Calls;
use super::timed;
use crate::console::Console;
use crate::monitor::Socket;
use crate::qemu::Machine;
use crate::workspace::{Workspace, read, write};
use crate::{archive, disk};

/// The core of the console's commands and of the guest.
const CORE: usize = 0;
/// Number of pages that the guest writes from one phase to the next. The guest has the same
/// constant.
const WRITTEN_PAGES: u64 = 128;
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;
/// Pages in a MiB.
const MIB_PAGES: u64 = 256;
/// Time that a command may take. With the log, QEMU needs seconds for one.
const PATIENCE: Duration = Duration::from_secs(120);

/// The steps of all commands: the name of each, and its function. The look is a step within the
/// next one.
const STEPS: [(&str, &str); 4] = [
    ("look", "stasis_state::capture::pages::look"),
    ("store", "stasis_state::capture::Capture::write_indexed"),
    ("check", "stasis_state::reader::read_if"),
    ("load", "stasis_host::loading::fill"),
];
/// What stands behind the [`STEPS`]: the last of them, of a resume on demand.
const ON_DEMAND: &str = "on demand";
/// The places of the last two of the [`STEPS`].
const CHECK: usize = STEPS.len() - 2;
const LOAD: usize = STEPS.len() - 1;
/// The function with which a step begins or ends, outside of the step's own function.
const MAINTENANCE: &str = "stasis_arch::cache::clean_and_invalidate_to_poc";
/// The functions that give the disk a request, wait for it, or let others have the core. How often
/// they run depends on the host's disk.
const PAUSES: [&str; 3] = [
    "stasis_hw::virtio_blk::VirtioBlk<T>::submit",
    "stasis_hw::virtio_blk::VirtioBlk<T>::end_one",
    "stasis_run::turns::Task::yield_now",
];

/// The name by which all of a checkpoint can be profiled whose guest has written next to nothing
/// since the one before.
const CHECKPOINT: &str = "checkpoint";
/// The names by which what a page with content takes can be profiled like an operation.
const STORED: &str = "page-store";
const LOADED: &str = "page-load";
const FETCHED: &str = "page-on-demand";
/// The names by which a resume on demand of a guest that has stopped can be profiled, from the
/// command to the guest's first entry, and the guest's memory.
const RESUMES: [(&str, u64); 2] = [("resume", 64 * MIB), ("resume-1g", 1024 * MIB)];
/// The function that enters a guest.
const ENTRY: &str = "stasis_enter_guest";

/// Returns whether this is the name of something that can be profiled here.
pub fn is_one(name: &str) -> bool {
    [CHECKPOINT, STORED, LOADED, FETCHED].contains(&name)
        || RESUMES.iter().any(|(resume, _)| *resume == name)
}

/// The guest's phases, in their order.
const PHASES: [&str; 5] = ["first", "untouched", "zero", "alike", "random"];

/// What was logged while something was done.
type Log = Events<BufReader<File>>;

/// How a checkpoint is resumed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// As a whole.
    Whole,
    /// On demand, until all is there.
    OnDemand,
    /// On demand, when the guest was stopped.
    Stopped,
}

/// Number of instructions of each of the [`STEPS`].
type Steps = [u64; STEPS.len()];

/// The cost of a page of some kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// What the page holds.
    pub name: String,
    /// Instructions for a MiB of such pages, in the order of [`step_names`]. In a file of an
    /// earlier version the last ones are missing.
    pub mib: Vec<u64>,
}

impl Page {
    /// Returns whether each step takes as much as the other page's, or at most one instruction more
    /// or less.
    fn is_nearly(&self, other: &Self) -> bool {
        self.one().zip(other.one()).all(|(one, other)| one.abs_diff(other) <= 1)
    }

    /// Returns the instructions for one page, rounded.
    pub fn one(&self) -> impl Iterator<Item = u64> {
        self.mib.iter().map(|mib| (mib + MIB_PAGES / 2) / MIB_PAGES)
    }
}

/// Returns the names of the steps.
pub fn step_names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|(name, _)| *name).chain([ON_DEMAND])
}

/// The measurement on a machine with the guest.
pub struct Pages<'a> {
    workspace: &'a Workspace,
    image: PathBuf,
    guest: PathBuf,
    functions: Functions<'a>,
}

impl<'a> Pages<'a> {
    /// Returns the measurement with the hypervisor's files and the folder of the guests.
    pub fn new(
        workspace: &'a Workspace,
        image: &Path,
        elf: &'a [u8],
        folder: &Path,
    ) -> Result<Self> {
        let functions = Functions::new(elf)?;
        Ok(Self { workspace, image: image.to_owned(), guest: folder.join("pages"), functions })
    }

    /// Measures twice, and returns the first result. Both times a page must take the same, but for
    /// one instruction: how often the task gives way depends on the host's disk. So resumes on
    /// demand, of which each unit is a turn of its own, are measured once.
    pub fn measure(&self) -> Result<Vec<Page>> {
        let run = || timed("checkpoints and resumes", || self.run(How::Whole));
        let (mut pages, again) = (run()?, run()?);
        let is_same = pages.iter().zip(&again).all(|(one, other)| one.is_nearly(other));
        ensure!(is_same, "pages are not the same twice: {pages:?}, then {again:?}");
        for (page, on_demand) in pages.iter_mut().zip(self.run(How::OnDemand)?) {
            page.mib.push(on_demand.mib[LOAD]);
        }
        Ok(pages)
    }

    fn run(&self, how: How) -> Result<Vec<Page>> {
        let small = self.steps(32 * MIB, &PHASES, how)?;
        let large = self.steps(64 * MIB, &PHASES[..1], how)?;
        let [first, untouched, zero, alike, random] = small[..] else { unreachable!("one each") };
        let written = |with| per_mib(&untouched, with, WRITTEN_PAGES);
        let kinds = [
            ("never written", per_mib(&first, &large[0], 32 * MIB_PAGES)),
            ("zeros", written(&zero)),
            ("one byte over and over", written(&alike)),
            ("incompressible", written(&random)),
        ];
        let page = |(name, steps): (&str, [i64; STEPS.len()])| Page {
            name: name.to_owned(),
            mib: steps.map(|step| step.max(0) as u64).into(),
        };
        Ok(kinds.map(page).into())
    }

    /// Returns the profile of what this name stands for, and how often it was done.
    pub fn profile(&self, name: &str) -> Result<(Profile, u64)> {
        if let Some((_, memory)) = RESUMES.iter().find(|(resume, _)| *resume == name) {
            return Ok((self.until_entry(*memory)?, 1));
        }
        let how = if name == FETCHED { How::OnDemand } else { How::Whole };
        let profile = &|log: Log| Ok(self.profile_of(log, None)?.unwrap_or_default());
        // The first one has written all that it has.
        let phases = if name == CHECKPOINT { &PHASES[..2] } else { &PHASES[..] };
        let mut found = self.phases(32 * MIB, phases, how, profile)?;
        let (stored, resumed) = found.pop().unwrap_or_default();
        if name == CHECKPOINT {
            return Ok((stored, 1));
        }
        let (stored_before, resumed_before) = found.swap_remove(1);
        let more = match name {
            STORED => stored.beyond(&stored_before),
            _ => resumed.beyond(&resumed_before),
        };
        Ok((more, WRITTEN_PAGES))
    }

    /// Returns the profile of a resume on demand of a guest with this memory, until its first entry.
    fn until_entry(&self, memory: u64) -> Result<Profile> {
        let entry = Some(self.functions.entry(ENTRY)?);
        let profile = &|log: Log| self.profile_of(log, entry);
        let mut found = self.phases(memory, &PHASES[..1], How::Stopped, profile)?;
        let resumed = found.pop().and_then(|(_, resumed)| resumed);
        resumed.context("the guest was not entered")
    }

    /// Returns the profile of what was logged, until the instruction at `end` if that is given; None
    /// if that one is not there.
    fn profile_of(&self, log: Log, end: Option<u64>) -> Result<Option<Profile>> {
        let mut calls = Calls::new(&self.functions);
        for event in log {
            if let Event::Instruction(core, pc) = event? {
                if Some(pc) == end {
                    return Ok(Some(calls.profile()));
                }
                calls.step(core, pc);
            }
        }
        Ok(end.is_none().then(|| calls.profile()))
    }

    /// Returns the instructions of the steps of both commands in each phase of the guest.
    fn steps(&self, memory: u64, phases: &[&str], how: How) -> Result<Vec<Steps>> {
        let count = &|log: Log| {
            let mut counter = StepCounter::new(&self.functions)?;
            for event in log {
                if let Event::Instruction(CORE, pc) = event? {
                    counter.step(pc, self.functions.instruction(pc).is_some_and(is_call));
                }
            }
            counter.finish()
        };
        let both = self.phases(memory, phases, how, count)?.into_iter();
        let found: Vec<Steps> = both
            .map(|(stored, resumed)| std::array::from_fn(|step| stored[step] + resumed[step]))
            .collect();
        for ((name, function), step) in STEPS.iter().zip(0..).filter(|(_, step)| *step != CHECK) {
            let some = found.iter().any(|steps: &Steps| steps[step] > 0);
            ensure!(some, "no instruction of the step \"{name}\", {function}, was seen");
        }
        Ok(found)
    }

    /// Returns what `count` finds in the log of a checkpoint, and in that of its resume, in each
    /// phase of the guest.
    fn phases<T>(
        &self,
        memory: u64,
        phases: &[&str],
        how: How,
        count: &dyn Fn(Log) -> Result<T>,
    ) -> Result<Vec<(T, T)>> {
        let config =
            GuestConfig { cores: vec![CORE as u32], ..GuestConfig::new("pages", "pages", memory) };
        let configuration = Configuration { guests: vec![config], ..Default::default() };
        let room = tempfile::tempdir()?;
        let (image, log) = (room.path().join("disk.img"), room.path().join("log"));
        disk::create(&image, 128 << 20)?;
        let archive = self.workspace.folder("stasis")?.join("pages.cpio");
        write(&archive, &archive::pack(&configuration, &[("pages", &read(&self.guest)?)])?)?;
        let socket = Socket::new()?;
        let machine = counting(Machine::stasis(&self.image, Some(&archive)).disk(&image));
        // The machine has only one core. QEMU executes several cores in long turns, and a command
        // waits for the guest's core.
        let machine = Switched::prepare(machine, &self.functions.range(), &log, &socket);
        let ram = if memory < 512 * MIB { "1G" } else { "3G" };
        let mut machine = machine.cpus(1).memory(ram).time_limit(PATIENCE * 8).start()?;
        let console = &mut machine.console;
        console.wait_for("stasis> ", PATIENCE)?;
        let mut log = Switched::connect(&socket, log)?;
        let mut found = Vec::new();
        for (n, phase) in phases.iter().enumerate() {
            console.command("attach pages")?;
            if n > 0 {
                console.send(b"x")?;
            }
            console.wait_for(&format!("pages {phase}"), PATIENCE)?;
            console.detach()?;
            let mut command = |command: &str, until: fn(&mut Console) -> Result<()>| {
                log.during(|| {
                    console.command_within(command, PATIENCE, |_| ())?;
                    until(console)
                })
            };
            let stored = count(command(&format!("checkpoint pages {phase}"), |_| Ok(()))?)?;
            if how == How::Stopped {
                command("stop pages", |_| Ok(()))?;
            }
            let resumed = match how {
                How::Whole => command(&format!("resume {phase} --whole"), |_| Ok(()))?,
                How::OnDemand => command(&format!("resume {phase}"), wait_until_loaded)?,
                // The guest has been entered when another command is answered.
                How::Stopped => command(&format!("resume {phase}"), |console| {
                    console.command_within("guests", PATIENCE, |_| ())?;
                    Ok(())
                })?,
            };
            found.push((stored, count(resumed)?));
        }
        machine.kill()?;
        Ok(found)
    }
}

/// Waits until all of the guest's memory is there.
fn wait_until_loaded(console: &mut Console) -> Result<()> {
    for _ in 0..1000 {
        let lines = console.command_within("guests --json", PATIENCE, |_| ())?;
        if lines.iter().any(|line| line.contains("\"to_load\":0,")) {
            return Ok(());
        }
    }
    bail!("the guest's memory is not loaded after a thousand looks");
}

/// Counts the instructions between the first one of a step's function and its return: those of a
/// step within another for the inner one alone. [`MAINTENANCE`] outside of all steps counts for the
/// step before it, or for the first step if there is none before it.
struct StepCounter {
    entries: Steps,
    /// The addresses of [`MAINTENANCE`], which calls nothing.
    maintenance: Range<u64>,
    pauses: [u64; PAUSES.len()],
    /// The last step that has begun.
    latest: usize,
    /// The steps that are under way, the inner one last, and the address to which each returns.
    steps: Vec<(usize, u64)>,
    /// The address to which the pause returns, and the calls that were under way before.
    pause: Option<(u64, Vec<u64>)>,
    last: u64,
    /// The addresses to which the calls under way return. A function that is reached by a jump, at
    /// the end of another one, returns where that does.
    calls: Vec<u64>,
    /// Whether the last instruction was a call.
    called: bool,
    counts: Steps,
}

/// Returns whether an instruction is BL or BLR (DDI 0487, C6.2).
fn is_call(instruction: u32) -> bool {
    instruction >> 26 == 0b100101 || instruction & 0xffff_fc1f == 0xd63f_0000
}

impl StepCounter {
    fn new(functions: &Functions) -> Result<Self> {
        let mut entries = Steps::default();
        for (entry, (_, function)) in entries.iter_mut().zip(STEPS) {
            *entry = functions.entry(function)?;
        }
        let mut pauses = [0; PAUSES.len()];
        for (entry, function) in pauses.iter_mut().zip(PAUSES) {
            *entry = functions.entry(function)?;
        }
        let maintenance = functions.body(MAINTENANCE)?;
        Ok(Self::of(entries, maintenance, pauses))
    }

    /// Returns a counter for functions with these first instructions, and with the maintenance at
    /// these addresses.
    fn of(entries: Steps, maintenance: Range<u64>, pauses: [u64; PAUSES.len()]) -> Self {
        Self {
            entries,
            maintenance,
            pauses,
            latest: 0,
            steps: Vec::new(),
            pause: None,
            last: 0,
            calls: Vec::new(),
            called: false,
            counts: Steps::default(),
        }
    }

    /// Counts the next instruction, which is at `pc`.
    fn step(&mut self, pc: u64, is_call: bool) {
        if self.called {
            self.calls.push(self.last.wrapping_add(4));
        }
        self.leave(pc);
        // Others that have had the core meanwhile have calls of their own under way.
        if let Some((_, calls)) = self.pause.take_if(|(end, _)| *end == pc) {
            self.calls = calls;
        }
        (self.last, self.called) = (pc, is_call);
        self.steps.pop_if(|(_, end)| *end == pc);
        // What was called before the log began returns at an address that nobody knows.
        if let Some(returns_to) = self.calls.last().copied() {
            self.enter(pc, returns_to);
        }
        let under_way = self.steps.last().map(|(step, _)| *step);
        let outside = self.maintenance.contains(&pc).then_some(self.latest);
        if let (Some(step), None) = (under_way.or(outside), &self.pause) {
            self.counts[step] += 1;
        }
    }

    /// Notes that a call returns at `pc`, if one does. What was called within it is over, too: it
    /// has returned, or was in a task that does not go on.
    fn leave(&mut self, pc: u64) {
        let Some(at) = self.calls.iter().rposition(|end| *end == pc) else { return };
        let over = self.calls.split_off(at);
        while self.steps.pop_if(|(_, end)| over.contains(end)).is_some() {}
    }

    /// Notes the step or the pause that begins at `pc`, if one does.
    fn enter(&mut self, pc: u64, returns_to: u64) {
        if let Some(step) = self.entries.iter().position(|entry| *entry == pc) {
            self.latest = step;
            // A pause in which a step begins is another task's.
            self.pause.take_if(|_| self.steps.is_empty());
            self.steps.push((step, returns_to));
        }
        if self.pause.is_none() && self.pauses.contains(&pc) {
            let before = self.calls.split_last().map_or(&[][..], |(_, before)| before);
            self.pause = Some((returns_to, before.to_vec()));
        }
    }

    fn finish(self) -> Result<Steps> {
        let name = self.steps.last().map(|(step, _)| STEPS[*step].1);
        ensure!(name.is_none(), "{} was not seen to return", name.unwrap_or_default());
        Ok(self.counts)
    }
}

/// Returns the instructions per MiB of the `pages` that the second measurement has more than the
/// first.
fn per_mib(with_less: &Steps, with_more: &Steps, pages: u64) -> [i64; STEPS.len()] {
    std::array::from_fn(|step| {
        let more = with_more[step] as i64 - with_less[step] as i64;
        more * MIB_PAGES as i64 / pages as i64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted of these instructions, with the first step at 0x1000 and the first pause at
    /// 0x9000.
    fn counted(pcs: &[u64]) -> Result<Steps> {
        // All that is entered is called, but for what 0x2f00 jumps to.
        let entries = [0x1000, 0x2000, 0x3000, 0x4000];
        let mut counter = StepCounter::of(entries, 0x8000..0x8008, [0x9000, 0xa000, 0xc000]);
        let calls =
            |pc: u64, next: u64| next != pc + 4 && next.is_multiple_of(0x1000) && pc != 0x2f00;
        for (n, pc) in pcs.iter().enumerate() {
            counter.step(*pc, pcs.get(n + 1).is_some_and(|next| calls(*pc, *next)));
        }
        counter.finish()
    }

    #[test]
    fn a_step_ends_where_it_was_called_and_pauses_are_none() {
        let call_and_return = [0x100, 0x1000, 0x1004, 0x500, 0x1008, 0x104, 0x108];
        assert_eq!(counted(&call_and_return).unwrap(), [4, 0, 0, 0]);
        for pause in [0x9000, 0xa000, 0xc000] {
            let step = [0x100, 0x2000, pause, pause + 4, 0x2004, 0x104, pause, pause + 4];
            assert_eq!(counted(&step).unwrap(), [0, 2, 0, 0]);
        }
        assert_eq!(counted(&[0x9000, 0x100]).unwrap(), Steps::default());
        // 0x2000 calls 0xb000, which calls what ends with a jump to the pause.
        let jump = [0x100, 0x2000, 0xb000, 0x2f00, 0xa000, 0xa004, 0x2004, 0x104];
        assert_eq!(counted(&jump).unwrap(), [0, 4, 0, 0]);
        let maintenance = [0x8000, 0x8004, 0x104];
        assert_eq!(counted(&[&[0x100], &maintenance[..]].concat()).unwrap(), [2, 0, 0, 0]);
        let after_a_step = [0x100, 0x2000, 0x104, 0x8000, 0x8004, 0x108];
        assert_eq!(counted(&after_a_step).unwrap(), [0, 3, 0, 0]);
        // 0x2000 calls the step 0x1000, and goes on.
        let within = [0x100, 0x2000, 0x1000, 0x1004, 0x2004, 0x2008, 0x104];
        assert_eq!(counted(&within).unwrap(), [2, 3, 0, 0]);
        // 0xb000 pauses. Another task goes on, which calls 0xd000. Back in 0xb000, that ends with a
        // jump to the maintenance.
        let others = [0x100, 0xb000, 0x9000, 0x700, 0xd000, 0xb004, 0x2f00, 0x8000, 0x8004, 0x104];
        assert_eq!(counted(&[&others[..], &[0x108]].concat()).unwrap(), [2, 0, 0, 0]);
        // The log begins in 0x2f00, which jumps to a pause. Another task calls a step meanwhile.
        let begun = [0x2f00, 0x9000, 0x100, 0x1000, 0x1004, 0x104];
        assert_eq!(counted(&begun).unwrap(), [2, 0, 0, 0]);
        let in_pause = [0x700, 0x9000, 0x100, 0x1000, 0x1004, 0x104, 0x704];
        assert_eq!(counted(&in_pause).unwrap(), [2, 0, 0, 0]);
        // Nobody knows where the maintenance returns that was on its way when the log began.
        assert_eq!(counted(&[0x2f00, 0x8000, 0x8004, 0x104]).unwrap(), [2, 0, 0, 0]);
        // 0xb000 calls 0xd000, which never returns, and ends with a jump to the maintenance.
        let lost = [0x100, 0xb000, 0xb004, 0xd000, 0x2f00, 0x8000, 0x8004, 0x104, 0x108];
        assert_eq!(counted(&lost).unwrap(), [2, 0, 0, 0]);
        let error = counted(&[0x100, 0x1000]).unwrap_err().to_string();
        assert_eq!(error, "stasis_state::capture::pages::look was not seen to return");
    }

    #[test]
    fn what_a_page_takes_is_what_more_of_them_take() {
        let (less, more) = ([1000, 0, 50, 7], [1000 + 512 * 362, 0, 50, 7]);
        let mib = per_mib(&less, &more, 512);
        assert_eq!(mib, [256 * 362, 0, 0, 0]);
        assert_eq!(per_mib(&more, &less, 512), [-256 * 362, 0, 0, 0]);
        let page = Page { name: String::new(), mib: vec![256 * 362, 127, 128, 0] };
        assert_eq!(page.one().collect::<Vec<_>>(), [362, 0, 1, 0]);
    }
}
