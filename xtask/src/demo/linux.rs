//! The Linux guest of the demo, which runs a loop in its shell.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::shell::{ask, kernel_is_content};
use super::{STEP_TIME, Values, Workload};
use crate::console::Console;
use crate::initramfs::{self, Loop};
use crate::report;

/// Time that the kernel may take until its shell runs.
const BOOT_TIME: Duration = Duration::from_secs(180);
pub struct Linux {
    steps: Loop,
    before: Option<Clocks>,
    /// Whether the board has a clock with the wall time.
    board_has_clock: bool,
}

impl Linux {
    pub fn new(board_has_clock: bool) -> Self {
        Self { steps: Loop::new(), before: None, board_has_clock }
    }
}

/// The guest's clocks, in seconds.
#[derive(Clone, Copy)]
struct Clocks {
    date: u64,
    uptime: f64,
}

impl Workload for Linux {
    fn begin(&mut self, console: &mut Console) -> Result<()> {
        report::step("Linux boots");
        console.wait_for("guest: ", BOOT_TIME)?;
        report::note(format_args!("| {}", console.next_line(STEP_TIME)?));
        console.wait_for(initramfs::PROMPT, STEP_TIME)?;
        Ok(console.send_line("loop &")?)
    }

    fn expected(&mut self, step: u64) -> String {
        self.steps.hash_at(step).unwrap_or_default()
    }

    fn before(&mut self, console: &mut Console) -> Result<()> {
        self.before = Some(clocks(console)?);
        Ok(())
    }

    fn after(&mut self, console: &mut Console) -> Result<Values> {
        let before = self.before.context("the clocks were not looked at")?;
        let after = clocks(console)?;
        let (went_on, ran) = (after.date - before.date, after.uptime - before.uptime);
        ensure!(
            (went_on as f64 - ran).abs() < 2.0,
            "the guest ran for {ran:.1} s, and its date went on by {went_on} s"
        );
        let date = if self.board_has_clock {
            let behind = now() as i64 - after.date as i64;
            ask(console, "hwclock -s -u", "set", "ok")?;
            let late = now() as i64 - clocks(console)?.date as i64;
            ensure!(late.abs() <= 3, "after `hwclock -s` the guest's date is {late} s behind");
            format!("went on from the checkpoint ({behind} s behind), `hwclock -s` set it right")
        } else {
            "went on from the checkpoint; the board has no clock".to_owned()
        };

        kernel_is_content(console)?;
        Ok(vec![("dmesg", "no complaint".to_owned()), ("date", date)])
    }
}

fn clocks(console: &mut Console) -> Result<Clocks> {
    let answer = ask(console, "", "clocks", "$(date +%s) $(cut -d' ' -f1 /proc/uptime)")?;
    let clocks = answer.split_once(' ').and_then(|(date, uptime)| {
        Some(Clocks { date: date.parse().ok()?, uptime: uptime.parse().ok()? })
    });
    clocks.with_context(|| format!("the guest's clocks are unreadable: {answer}"))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}
