//! `cargo xtask demo`: stores a guest, ends QEMU, starts a new one, resumes the guest, and shows
//! that the guest goes on as if nothing had happened.
//!
//! A [`Workload`] prints steps, each with a hash that the host can compute beforehand: [`counter`],
//! [`linux`] and [`debian`].

mod counter;
mod debian;
mod linux;
mod shell;
mod summary;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

pub use self::summary::Summary;
use crate::board::{self, Board};
use crate::config::Config;
use crate::console::{Console, PROMPT};
use crate::qemu::{Machine, Qemu};
use crate::workspace::Workspace;
use crate::{archive, build, disk, initramfs, report, setup};

/// Time that a machine may take until its first prompt.
const BOOT_TIME: Duration = Duration::from_secs(60);
/// Time that a guest may take for one step.
const STEP_TIME: Duration = Duration::from_secs(60);
/// Time that a checkpoint or a resume may take; a card is slow under QEMU.
const CHECKPOINT_TIME: Duration = Duration::from_secs(600);
/// Time after which a machine of the demo is ended.
const TIME_LIMIT: Duration = Duration::from_secs(1800);

/// Number of steps that are checked before the checkpoint.
const STEPS_BEFORE: usize = 10;
/// Number of steps that are checked after it: of the guest that goes on, and of the resumed one.
const STEPS_AFTER: usize = 20;

/// The number and the hash of a step.
type Step = (u64, String);

/// What the summary says about something: names and values.
type Values = Vec<(&'static str, String)>;

/// What the guest of the demo does.
trait Workload {
    /// Starts the work of a guest that has just booted and whose terminal is attached.
    fn begin(&mut self, console: &mut Console) -> Result<()>;

    /// Returns the step that a line reports, if it does; by default, one of the loop in a guest's
    /// shell.
    fn step(&self, line: &str) -> Option<Step> {
        initramfs::parse(line).map(|(step, hash)| (step, hash.to_owned()))
    }

    /// Returns the difference between the numbers of two steps that follow each other; by default,
    /// that of the loop in a guest's shell.
    fn stride(&self) -> u64 {
        1
    }

    /// Returns the hash that a step must have. The step must be later than those that were asked
    /// for before.
    fn expected(&mut self, step: u64) -> String;

    /// Looks at the guest right before the checkpoint.
    fn before(&mut self, console: &mut Console) -> Result<()>;

    /// Looks at the guest after it was resumed. Returns what the summary says about it, as names
    /// and values.
    fn after(&mut self, console: &mut Console) -> Result<Values>;

    /// Returns the guest that is stored and resumed together with this one.
    fn neighbour(&self) -> Option<&'static str> {
        None
    }

    /// Makes the disk of the machine, and what must be on it.
    fn make_disk(&self, disk: &Path) -> Result<()> {
        disk::create(disk, disk::DEFAULT_SIZE)
    }

    /// Adds to the machine what the guest needs of it.
    fn equip(&self, machine: Machine) -> Machine {
        machine
    }

    /// Looks at the disk when the last machine has ended. Returns what the summary says about it.
    fn look_at_disk(&mut self, disk: &Path) -> Result<Values> {
        let _ = disk;
        Ok(Values::new())
    }
}

/// The text behind the command's help.
pub const DETAILS: &str = "\
Shows that the guest goes on as if nothing had happened, and what it took. Each guest prints numbered steps, each with
a hash over memory that they keep changing: counter with its timer's interrupts, linux in a shell loop.
debian is a whole Debian with systemd, made of apt's packages at the first time, which can take half an hour. It boots from a disk, gets an address by
DHCP, serves a page, writes its steps to the disk and sends them over a connection to a second guest, which is stored with it.
The board is QEMU's virt, or a Raspberry Pi 4 with an SD card, which debian does not run on.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// What is checkpointed
    #[arg(long, default_value = COUNTER, value_parser = [COUNTER, LINUX, DEBIAN])]
    guest: String,
    /// The board under QEMU
    #[arg(long, default_value = board::NAMES[0], value_parser = board::NAMES)]
    board: String,
}

const COUNTER: &str = "counter";
const LINUX: &str = "linux";
const DEBIAN: &str = "debian";

impl Arguments {
    /// Returns what stands for this guest, on the usual board.
    pub fn of(guest: &str) -> Self {
        Self { guest: guest.to_owned(), board: board::NAMES[0].to_owned() }
    }
}

/// Runs the command.
pub fn main(workspace: &Workspace, arguments: Arguments) -> Result<()> {
    let summary = run(workspace, arguments)?;
    report::step("done: the guest went on as if nothing had happened");
    report::print(|out| write!(out, "{summary}"))
}

/// Shows all of the demo. Returns the summary.
///
/// # Errors
///
/// Something is lacking and can't be made, or the guest does not go on as it must.
pub fn run(workspace: &Workspace, arguments: Arguments) -> Result<Summary> {
    let Arguments { guest, board } = arguments;
    let board = Board::find(workspace, Some(&board))?;
    setup::qemu::ensure(workspace)?;
    let mut workload: Box<dyn Workload> = match &guest[..] {
        LINUX => Box::new(linux::Linux::new(board.has_clock())),
        DEBIAN => Box::new(debian::Debian::new(workspace, &board)?),
        _ => Box::new(counter::Counter::new()),
    };
    Demo::prepare(workspace, board, &guest, &*workload)?.play(&mut *workload)
}

struct Demo {
    board: Board,
    guest: String,
    memory: u64,
    image: PathBuf,
    /// The archive whose guest starts by itself.
    first: PathBuf,
    /// The archive whose guest waits.
    second: PathBuf,
    disk: PathBuf,
}

impl Demo {
    fn prepare(
        workspace: &Workspace,
        board: Board,
        guest: &str,
        workload: &dyn Workload,
    ) -> Result<Self> {
        let image = build::hypervisor(workspace)?.image;
        let mut config = Config::read(workspace, &config_path(workspace, guest)?)?;
        let folder = workspace.folder("demo")?;
        let file = |name: &str| folder.join(format!("{guest}-{name}"));

        let (first, second) = (file("first.cpio"), file("second.cpio"));
        archive::from_config(workspace, &config)?.save(&first)?;
        for guest in &mut config.configuration.guests {
            guest.autostart = false;
        }
        archive::from_config(workspace, &config)?.save(&second)?;

        let disk = file("disk.img");
        let shown = workspace.show(&disk);
        report::step(format_args!("making a disk with a partition for checkpoints: {shown}"));
        workload.make_disk(&disk)?;
        let memory = config.configuration.guests.first().map_or(0, |guest| guest.memory);
        Ok(Self { board, guest: guest.to_owned(), memory, image, first, second, disk })
    }

    fn play(&self, workload: &mut dyn Workload) -> Result<Summary> {
        let mut summary = Summary::new(&self.guest, self.memory);
        let (last, reference) = self.store(workload, &mut summary)?;
        self.resume(workload, &mut summary, last, &reference)?;
        Ok(summary)
    }

    /// Starts a machine, checkpoints the guest at work, and ends the machine. Returns the last step
    /// before the checkpoint, and what the guest did next.
    fn store(
        &self,
        workload: &mut dyn Workload,
        summary: &mut Summary,
    ) -> Result<(u64, Vec<Step>)> {
        let guest = self.guest.as_str();
        report::step(format_args!("starting QEMU: Stasis at EL2, guest \"{guest}\" at EL1"));
        let mut machine = self.start(&self.first, workload)?;
        let console = &mut machine.console;
        console.command(&format!("attach {guest}"))?;
        workload.begin(console)?;
        report::step("the guest is at work");
        let seen = watch(console, workload, STEPS_BEFORE)?;
        check(workload, &seen, None)?;
        let (last, _) = *seen.last().context("the guest has done no step")?;
        workload.before(console)?;
        console.detach()?;

        report::step("checkpointing it, at whatever it does at the moment");
        let began = Instant::now();
        let stored = match workload.neighbour() {
            // The lines of the answer are in this order, and so are those in the store: the last is
            // the guest's.
            Some(other) => format!("checkpoint {other},{guest} demo"),
            None => format!("checkpoint {guest} demo"),
        };
        let answer = console.command_within(&stored, CHECKPOINT_TIME, show)?;
        let took = began.elapsed();

        report::step("it goes on; to compare, we look at what it does next");
        console.command(&format!("attach {guest}"))?;
        let reference = watch(console, workload, STEPS_AFTER)?;

        report::step("ending QEMU, as if the power had failed");
        machine.kill()?;
        drop(machine);
        summary.checkpointed(&answer, took, &self.disk)?;
        Ok((last, reference))
    }

    /// Starts a new machine with the same disk, resumes the guest, and compares what it does with
    /// what it did after the checkpoint, whose last step before was `last`.
    fn resume(
        &self,
        workload: &mut dyn Workload,
        summary: &mut Summary,
        last: u64,
        reference: &[Step],
    ) -> Result<()> {
        report::step("starting a new QEMU with the same disk; the guest's kernel is not started");
        let mut machine = self.start(&self.second, workload)?;
        let console = &mut machine.console;
        console.command_within("store", STEP_TIME, show)?;
        report::step("resuming the guest from its checkpoint");
        let began = Instant::now();
        let resume = if workload.neighbour().is_some() { "resume demo/" } else { "resume demo" };
        let answer = console.command_within(resume, CHECKPOINT_TIME, show)?;
        summary.resumed(&answer, began.elapsed());
        console.command(&format!("attach {}", self.guest))?;
        let resumed = watch(console, workload, STEPS_AFTER)?;

        let first = resumed.first().map_or(0, |(step, _)| *step);
        ensure!(
            first > last && first <= last + workload.stride() * (STEPS_AFTER as u64 * 10),
            "the guest was at step {last} before its checkpoint, and at {first} when it was resumed"
        );
        // The host computes the hashes in the order of the steps.
        let earlier = reference.iter().take_while(|(step, _)| *step < first).cloned();
        check(workload, &earlier.collect::<Vec<_>>(), None)?;
        let (from, to) = check(workload, &resumed, Some(reference))?;
        report::note(format_args!(
            "its steps {from} to {to} have no gap, and each has the hash that it must have"
        ));
        summary.compared(last, reference, &resumed);
        let values = workload.after(console)?;
        machine.kill()?;
        for (what, value) in values.into_iter().chain(workload.look_at_disk(&self.disk)?) {
            summary.add(what, value);
        }
        Ok(())
    }

    fn start(&self, archive: &Path, workload: &dyn Workload) -> Result<Qemu> {
        let machine = Machine::stasis(&self.image, Some(archive))
            .board(self.board.clone())
            .disk(&self.disk)
            .time_limit(TIME_LIMIT);
        let mut machine = workload.equip(machine).start()?;
        let began = Instant::now();
        let banner = machine.console.wait_for(PROMPT, BOOT_TIME)?;
        banner.lines().filter(|line| !line.is_empty() && *line != PROMPT).for_each(show);
        report::note(format_args!(
            "its console is there after {}",
            report::seconds(began.elapsed())
        ));
        Ok(machine)
    }
}

/// Returns the path of the configuration of a guest of the demo.
fn config_path(workspace: &Workspace, guest: &str) -> Result<PathBuf> {
    match guest {
        // Not an example: what an example needs is made in seconds.
        DEBIAN => Ok(workspace.root().join("xtask/src/demo/debian.toml")),
        _ => crate::run::config_path(workspace, guest),
    }
}

/// Shows a line of the machine.
fn show(line: &str) {
    report::note(format_args!("| {line}"));
}

/// Reads the guest's terminal until `count` steps were printed, shows some of them, and returns
/// all.
fn watch(console: &mut Console, workload: &dyn Workload, count: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    while steps.len() < count {
        let step = console.find_line("the guest's next step", STEP_TIME, |line| {
            if line.contains("FAULT") || line.contains("panic") {
                return Some(Err(line.to_owned()));
            }
            workload.step(line).map(Ok)
        })?;
        let (number, hash) = step.map_err(|line| anyhow::anyhow!("the guest complains: {line}"))?;
        if steps.len() < 3 || steps.len() + 3 > count {
            report::note(format_args!("| step {number}, hash {hash}"));
        } else if steps.len() == 3 {
            report::note("| ...");
        }
        steps.push((number, hash));
    }
    Ok(steps)
}

/// Checks that no step is missing, and that the hashes are those that the host computes and those
/// of `reference`.
fn check(
    workload: &mut dyn Workload,
    steps: &[Step],
    reference: Option<&[Step]>,
) -> Result<(u64, u64)> {
    let mut next = None;
    for (step, hash) in steps {
        if let Some(next) = next {
            ensure!(*step == next, "step {step} came where step {next} should have been");
        }
        next = Some(step + workload.stride());
        let expected = workload.expected(*step);
        ensure!(*hash == expected, "step {step} has the hash {hash}; it must be {expected}");
        let other = reference.into_iter().flatten().find(|(other, _)| other == step);
        if let Some((_, other)) = other {
            ensure!(
                hash == other,
                "step {step} has the hash {hash}; where the guest was not resumed, {other}"
            );
        }
    }
    let number = |step: Option<&Step>| step.map_or(0, |(number, _)| *number);
    Ok((number(steps.first()), number(steps.last())))
}
