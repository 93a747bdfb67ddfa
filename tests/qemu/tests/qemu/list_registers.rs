//! The real list registers, out of QEMU's migration stream of a machine that runs, are those that
//! Stasis believes it has programmed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_convert::qemu::locate;
use stasis_qemu_tests::guests::{SILENCE, waits};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;
use xtask::monitor::Socket;

/// `handler` has one vCPU, on the first core but the console's.
const CORE: usize = 1;
const LIST_REGISTERS: usize = 4;

/// A core's virtual interface.
#[derive(Debug, PartialEq, Eq)]
struct Gich {
    hcr: u32,
    lr: Vec<u32>,
    apr: u32,
}

impl Gich {
    /// Returns the virtual interface that QEMU's migration stream has.
    fn real(stream: &[u8]) -> Result<Self> {
        let virt = locate(stream)?.virt_state(stream).context("there is no GICH")?;
        Ok(Self {
            hcr: virt.h_hcr[CORE].get(),
            lr: (0..LIST_REGISTERS).map(|n| significant(virt.h_lr[n][CORE].get())).collect(),
            apr: virt.h_apr[CORE].get(),
        })
    }

    /// Returns the virtual interface as Stasis has it. The guest stands still meanwhile, so that
    /// its records are complete.
    fn believed(stasis: &mut Stasis) -> Result<Self> {
        stasis.command("pause handler")?;
        let lines = stasis.command("gic handler")?;
        stasis.command("unpause handler")?;
        let after = |mark: &str| -> Result<String> {
            let rest = lines.iter().find_map(|line| line.split_once(mark).map(|(_, rest)| rest));
            Ok(rest.with_context(|| format!("no \"{mark}\" in {lines:#?}"))?.to_owned())
        };
        let hex = |text: &str| -> Result<u32> {
            let digits = text.trim_start_matches("0x");
            u32::from_str_radix(digits, 16).with_context(|| format!("{text} is no number"))
        };
        let hcr = after("entered with GICH_HCR ")?;
        let (hcr, lr) = hcr.split_once(", LR ").context("no list registers")?;
        // 128 levels: the last is the first. GICH has every fourth.
        let apr: Vec<u32> = after(" APR ")?.split('_').rev().map(hex).collect::<Result<_>>()?;
        let level = |n: usize| apr[n / 32] >> (n % 32) & 1;
        Ok(Self {
            hcr: hex(hcr)?,
            lr: lr.split_whitespace().map(hex).collect::<Result<_>>()?,
            apr: (0..32).map(|bit| level(bit * 4) << bit).sum(),
        })
    }
}

/// Returns a list register; 0 if its state is invalid and it asks for no maintenance: then nothing
/// else in it counts.
fn significant(lr: u32) -> u32 {
    const STATE: u32 = 3 << 28;
    const HW: u32 = 1 << 31;
    const EOI: u32 = 1 << 19;
    if lr & STATE == 0 && lr & (HW | EOI) != EOI { 0 } else { lr }
}

pub fn the_real_list_registers_are_what_stasis_has_programmed(lab: &Lab) -> Result<()> {
    let socket = Socket::new()?;
    let mut stasis = lab.machine().guest("handler")?.memory("256M").monitor(&socket).boot()?;
    let mut monitor = socket.connect()?;
    stasis.attach("handler")?;
    let (mut points, mut active, mut pending, mut linked, mut full) = (0, 0, 0, 0, 0);
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        if line == "done" {
            break;
        }
        if !waits(&line) {
            continue;
        }
        // Behind the line, the guest looks at its UART and at nothing else: its list registers stay
        // as they are.
        std::thread::sleep(Duration::from_millis(100));
        let real = Gich::real(&monitor.snapshot(&lab.path("stream"))?)?;
        stasis.detach()?;
        let believed = Gich::believed(&mut stasis)?;
        ensure!(
            real == believed,
            "{line}: GICH is {real:x?}, and Stasis believes in {believed:x?}"
        );
        points += 1;
        let count = |mask: u32| real.lr.iter().filter(|lr| *lr & mask == mask).count();
        pending += count(1 << 28);
        active += count(1 << 29);
        linked += count(1 << 31);
        full += usize::from(count(0x3ff & real.lr[3]) == LIST_REGISTERS || real.hcr > 1);
        stasis.attach("handler")?;
        stasis.qemu.console.send(b"x")?;
    }
    ensure!(
        points >= 15 && active > 0 && pending > 0 && linked > 0 && full > 0,
        "{points} points, {active} active, {pending} pending, {linked} linked, {full} with more behind them"
    );
    Ok(())
}
