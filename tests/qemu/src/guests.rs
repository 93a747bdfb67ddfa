//! What the guests print, and whether it is right.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use stasis_guests::workload::{Model, parse};
use xtask::console::Console;

/// The longest silence of a guest that is alive.
pub const SILENCE: Duration = Duration::from_secs(30);

/// What `counter` prints with a hash: tick and hash.
pub type Ticks = Vec<(u64, u64)>;

/// What `counter` says of Linux before 6.4, which does not keep a physical timer that is off, and
/// may show that its time has come (docs/stasis-kvm.md).
pub const NO_PHYSICAL_TIMER: [&str; 3] = [
    "CNTP_CVAL_EL0 is 0x0, was 0xfffffffffff0000",
    "CNTP_CTL_EL0 is 0x0, was 0x2",
    "CNTP_CTL_EL0 is 0x4, was 0x2",
];
/// What `counter` says if it began on a KVM, where a guest with one vCPU can write GICD_ITARGETSR
/// (docs/stasis-kvm.md).
pub const TARGETS_ARE_ZERO: &str = "the SPI's target is 0x0, was 0x1";

/// Returns the next `count` of `counter`'s lines with hashes. Each must be right, they must be in
/// order, and none may say that anything is wrong.
pub fn ticks(console: &mut Console, model: &mut Model, count: usize) -> Result<Ticks> {
    ticks_but(console, model, count, &[])
}

/// Returns what [`ticks`] does of a guest that may find that these things have changed, each as
/// `counter` says it.
pub fn ticks_but(
    console: &mut Console,
    model: &mut Model,
    count: usize,
    told: &[&str],
) -> Result<Ticks> {
    let mut ticks = Ticks::new();
    while ticks.len() < count {
        let line = console.next_line(SILENCE)?;
        if line.strip_prefix("FAULT ").is_some_and(|change| told.contains(&change)) {
            continue;
        }
        sound(&line)?;
        let Some((tick, hash)) = parse(&line) else { continue };
        ensure!(
            model.hash_at(tick) == hash,
            "the hash of tick {tick} should be {:016x}: \"{line}\"",
            model.hash_at(tick)
        );
        ensure!(
            ticks.last().is_none_or(|(last, _)| *last < tick),
            "tick {tick} comes after {ticks:?}"
        );
        ticks.push((tick, hash));
    }
    Ok(ticks)
}

/// Returns the numbers in a line.
pub fn numbers(line: &str) -> Vec<u64> {
    let words = line.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Checks that a guest is content with its machine.
pub fn sound(line: &str) -> Result<()> {
    for word in ["FAULT", "PANIC", "EXCEPTION"] {
        ensure!(!line.contains(word), "the guest says \"{line}\"");
    }
    Ok(())
}

/// Returns a guest's lines up to `done`; `answer` says what to type when a line has come.
pub fn transcript(
    console: &mut Console,
    mut answer: impl FnMut(&str) -> Option<Vec<u8>>,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let end = Instant::now() + Duration::from_secs(300);
    while Instant::now() < end {
        let line = console.next_line(SILENCE)?;
        if is_log(&line) {
            continue;
        }
        sound(&line)?;
        if let Some(bytes) = answer(&line) {
            console.send(&bytes)?;
        }
        let done = line == "done";
        lines.push(line);
        if done {
            return Ok(lines);
        }
    }
    bail!("the guest goes on and on")
}

/// Returns whether a line is one of Stasis's own, or a kernel's: `[ 1.234567] warning: ...`. A
/// shell's `[1]+ Terminated` is not.
pub fn is_log(line: &str) -> bool {
    let time = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    time.is_some_and(|(time, _)| time.contains('.') && time.trim().parse::<f64>().is_ok())
}

/// Returns whether `handler` waits for a byte.
pub fn waits(line: &str) -> bool {
    line.starts_with("in handler ") || line.starts_with("in main ")
}

/// Compares two transcripts line by line, but for those that begin with `~`; a difference is told
/// with its neighbours.
pub fn same(expected: &[String], found: &[String]) -> Result<()> {
    let keep = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| !line.starts_with('~') && !line.is_empty()).cloned().collect()
    };
    let (expected, found) = (keep(expected), keep(found));
    let mut differences = Vec::new();
    for (number, line) in expected.iter().enumerate() {
        match found.get(number) {
            Some(other) if other == line => {}
            Some(other) => differences
                .push(format!("line {number}: expected \"{line}\"\n         found \"{other}\"")),
            None => differences
                .push(format!("line {number}: expected \"{line}\"\n         found the end")),
        }
    }
    if found.len() > expected.len() {
        differences.push(format!("{} lines more than expected", found.len() - expected.len()));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    differences.truncate(40);
    bail!("{count} differences:\n{}", differences.join("\n"))
}
