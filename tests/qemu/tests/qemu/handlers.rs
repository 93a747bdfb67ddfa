//! Checkpoints in the middle of interrupt handlers: active interrupts, raised priorities, and
//! others pending behind them.

use anyhow::{Result, ensure};
use stasis_qemu_tests::guests::{SILENCE, is_log, same, transcript, waits};
use stasis_qemu_tests::lab::Lab;
use std::path::Path;
use std::time::Duration;
use xtask::qemu::Machine;

/// Returns the byte that `handler` gets where it waits for one.
pub fn answer(line: &str) -> Option<Vec<u8>> {
    waits(line).then(|| b"x".to_vec())
}

pub fn undisturbed(lab: &Lab) -> Result<Vec<String>> {
    let mut stasis = lab.machine().guest("handler")?.boot()?;
    stasis.attach("handler")?;
    transcript(&mut stasis.qemu.console, answer)
}

pub fn a_transcript_is_that_of_plain_qemu(lab: &Lab) -> Result<()> {
    let kernel = stasis_qemu_tests::lab::Built::get()?.guests.join("handler");
    let mut plain = Machine::plain(kernel, None)
        .cpu("cortex-a72")
        .memory("32M")
        .time_limit(Duration::from_secs(120))
        .start()?;
    let expected = transcript(&mut plain.console, answer)?;
    same(&expected, &undisturbed(lab)?)
}

pub fn checkpoints_inside_handlers_change_nothing(lab: &Lab) -> Result<()> {
    let expected = undisturbed(lab)?;
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("handler")?.disk(&disk).boot()?;
    stasis.attach("handler")?;
    let mut lines = Vec::new();
    let mut points = 0;
    loop {
        let part = transcript_to_a_point(&mut stasis.qemu.console)?;
        let waiting = part.last().is_some_and(|line| waits(line));
        lines.extend(part);
        if !waiting {
            break;
        }
        points += 1;
        stasis.detach()?;
        let number = stasis.checkpoint("handler", &format!("point-{points}"))?;
        stasis.kill()?;
        stasis = lab.machine().no_archive().disk(&disk).boot()?;
        stasis.resume(number)?;
        stasis.attach("handler")?;
        stasis.qemu.console.send(b"x")?;
    }
    ensure!(points >= 15, "only {points} points");
    same(&expected, &lines)
}

pub fn a_guest_is_taken_back_out_of_a_handler(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("handler")?.disk(&lab.disk()?).boot()?;
    stasis.attach("handler")?;
    let mut lines = transcript_to_a_point(&mut stasis.qemu.console)?;
    stasis.detach()?;
    let number = stasis.checkpoint("handler", "first-point")?;
    stasis.attach("handler")?;
    // On to where seven interrupts are active.
    loop {
        stasis.qemu.console.send(b"x")?;
        let part = transcript_to_a_point(&mut stasis.qemu.console)?;
        let point = part.last().map(String::as_str);
        ensure!(point != Some("done"), "it never was seven deep");
        if point == Some("in handler seven deep") {
            break;
        }
    }
    stasis.detach()?;
    stasis.resume(number)?;
    stasis.attach("handler")?;
    stasis.qemu.console.send(b"x")?;
    lines.extend(transcript(&mut stasis.qemu.console, answer)?);
    same(&undisturbed(lab)?, &lines)
}

/// What `handler` prints, with a checkpoint of each of its points.
pub struct Stored {
    /// All that it prints.
    pub lines: Vec<String>,
    /// Of each point, the number of lines up to it, and that of its checkpoint.
    pub points: Vec<(usize, u64)>,
}

/// Runs `handler` in Stasis from one of its points to the next, and stores it at each of them on
/// `disk`.
pub fn stored_at_each_point(lab: &Lab, disk: &Path) -> Result<Stored> {
    let mut stasis = lab.machine().guest("handler")?.disk(disk).boot()?;
    let (mut lines, mut points) = (Vec::new(), Vec::new());
    loop {
        stasis.attach("handler")?;
        if !points.is_empty() {
            stasis.qemu.console.send(b"x")?;
        }
        lines.extend(transcript_to_a_point(&mut stasis.qemu.console)?);
        if lines.last().is_some_and(|line| line == "done") {
            break;
        }
        stasis.detach()?;
        let number = stasis.checkpoint("handler", &format!("point-{}", points.len()))?;
        points.push((lines.len(), number));
    }
    stasis.kill()?;
    ensure!(points.len() >= 15, "only {} points", points.len());
    Ok(Stored { lines, points })
}

pub fn transcript_to_a_point(console: &mut xtask::console::Console) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let line = console.next_line(SILENCE)?;
        if is_log(&line) {
            continue;
        }
        let stop = line == "done" || waits(&line);
        lines.push(line);
        if stop {
            return Ok(lines);
        }
    }
}
