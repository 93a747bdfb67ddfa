//! Guests that travel between Stasis and plain QEMU. `travel_qemu_long` has the longer ways.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{Ticks, ticks};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::plain::Plain;
use stasis_qemu_tests::round_trip::{self, Abroad};
use stasis_qemu_tests::stasis::{Conversation, Stasis};
use stasis_qemu_tests::tamper;
use xtask::qemu::Machine;
use xtask::workspace::{read, write};

use crate::resume::{follows, watch};

/// The longest time that a machine without Stasis runs.
pub const LIFE_TIME: Duration = Duration::from_secs(300);

/// The CPU of the machines without Stasis: `stasis convert qemu` prints this, too.
pub const CPU: &str = "cortex-a72,pmu=off";

/// Runs `stasis` with these words. Returns its status, and what it says.
pub fn run(words: &[&str]) -> Result<Output> {
    let output =
        Command::new(std::env::current_exe()?).env(crate::AS_TOOL, "1").args(words).output();
    output.context("cannot start the tool")
}

/// Runs `stasis` with these words, and returns what it prints.
pub fn tool(words: &[&str]) -> Result<String> {
    let output = run(words)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "stasis {}: {errors}", words.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `stasis` with these words, which it refuses, and returns the only line that it says.
pub fn refused(words: &[&str]) -> Result<String> {
    let output = run(words)?;
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(1), "stasis {}: {}", words.join(" "), output.status);
    ensure!(said.is_empty() && errors.lines().count() == 1, "it says {said}, and {errors}");
    Ok(errors.trim_end().to_owned())
}

/// Returns a path as a word of a command.
pub fn word(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// Starts QEMU without Stasis on a checkpoint of a disk.
pub fn to_plain(lab: &Lab, disk: &Path, number: u64, cpus: u32, memory: &str) -> Result<Plain> {
    let stream = lab.path(&format!("{number}.qemu"));
    tool(&["convert", "qemu", word(disk)?, &number.to_string(), "--out", word(&stream)?])?;
    let machine = Machine::incoming(&stream).cpu(CPU).cpus(cpus).memory(memory);
    lab.plain(machine.time_limit(LIFE_TIME))
}

/// Ends a machine without Stasis, and puts its guest on a disk. Returns the number of the
/// checkpoint.
pub fn to_stasis(lab: &Lab, plain: Plain, name: &str, disk: &Path) -> Result<u64> {
    let (stream, file) = (lab.path("plain.qemu"), lab.path("plain.stasis"));
    plain.leave(&stream)?;
    tool(&["convert", "from-qemu", word(&stream)?, "--name", name, "--out", word(&file)?])?;
    tamper::put(disk, "travelled", &read(&file)?)
}

/// Resumes a checkpoint in a new machine.
pub fn arrive(lab: &Lab, disk: &Path, number: u64) -> Result<Stasis> {
    let mut stasis = lab.machine().no_archive().disk(disk).cpus(3).boot()?;
    stasis.resume(number)?;
    Ok(stasis)
}

/// Returns what `counter` prints without Stasis.
fn seen(plain: &mut Plain, model: &mut Model, count: usize) -> Result<Ticks> {
    ticks(plain.console(), model, count)
}

pub fn a_counter_goes_on_in_qemu_and_comes_back(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = watch(&mut stasis, &mut model, 5)?;
    let number = stasis.checkpoint("counter", "stasis")?;
    stasis.kill()?;

    let mut plain = to_plain(lab, &disk, number, 1, "32M")?;
    let over_there = seen(&mut plain, &mut model, 20)?;
    follows(&before, &over_there)?;
    let number = to_stasis(lab, plain, "counter", &disk)?;

    let mut stasis = arrive(lab, &disk, number)?;
    follows(&over_there, &watch(&mut stasis, &mut model, 20)?)?;
    stasis.quit()
}

pub fn a_counter_that_began_in_qemu_goes_on_in_stasis(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let machine = Machine::plain(Built::get()?.guests.join("counter"), None);
    let mut plain = lab.plain(machine.memory("32M").time_limit(LIFE_TIME))?;
    let before = seen(&mut plain, &mut model, 5)?;
    let number = to_stasis(lab, plain, "counter", &disk)?;
    let mut stasis = arrive(lab, &disk, number)?;
    follows(&before, &watch(&mut stasis, &mut model, 20)?)?;
    stasis.quit()
}

/// Takes a guest to a QEMU where it never runs, and back, and checks that it came back as it went.
pub fn is_as_it_went_through_qemu(
    lab: &Lab,
    disk: &Path,
    number: u64,
    cpus: u32,
    memory: &str,
) -> Result<()> {
    let (stream, came) = (lab.path("there.qemu"), lab.path("came.stasis"));
    let there = ["convert", "qemu", word(disk)?, &number.to_string(), "--out", word(&stream)?];
    let told = tool(&there)?;
    // A machine that is loaded and never runs, so that nothing else changes it.
    let halted = lab.path("halted.qemu");
    let mut bytes = read(&stream)?;
    let at = bytes.windows(8).rposition(|bytes| bytes == b"running\0");
    let at = at.context("the stream says no run state")?;
    bytes[at - 4..at + 7].copy_from_slice(b"\0\0\0\x07paused\0");
    write(&halted, &bytes)?;
    let machine = Machine::incoming(&halted).cpu(CPU).cpus(cpus).memory(memory);
    let saved = lab.path("saved.qemu");
    lab.plain(machine.time_limit(LIFE_TIME))?.leave(&saved)?;
    let went = tamper::get(disk, number)?;
    let state = tamper::state(&went)?;
    let name = state.guest.name_text();
    tool(&["convert", "from-qemu", word(&saved)?, "--name", name, "--out", word(&came)?])?;
    round_trip::is_as_it_went(&went, &read(&came)?, Abroad::Qemu)
        .with_context(|| format!("told was\n{told}"))
}

pub fn a_round_trip_through_qemu_changes_nothing_but_what_is_told(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    watch(&mut stasis, &mut Model::new(), 3)?;
    let number = stasis.checkpoint("counter", "stasis")?;
    stasis.kill()?;
    is_as_it_went_through_qemu(lab, &disk, number, 1, "32M")
}
