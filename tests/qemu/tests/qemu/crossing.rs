//! Guests that go from board to board: other CPUs, and counters of other frequencies.

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::{SILENCE, sound, ticks};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use xtask::initramfs::{self, Loop};

use crate::linux;

/// QEMU's counter.
const FAST: u64 = 62_500_000;
/// A Raspberry Pi 4's.
const SLOW: u64 = 54_000_000;

/// Returns a machine with that CPU, whose counter has that frequency.
fn board<'l>(lab: &'l Lab, cpu: &str, cntfrq: u64) -> Setup<'l> {
    lab.machine().cpu(&format!("{cpu},cntfrq={cntfrq}"))
}

/// `traveller`, which may be made with a frequency of its own.
fn traveller<'l>(lab: &Lab, board: Setup<'l>, frequency: Option<u32>) -> Result<Setup<'l>> {
    let mut config = guest("traveller", 32);
    config.vcpus = 2;
    config.counter_frequency = frequency;
    Ok(board.configured(config, Some(lab.guest("traveller")?)))
}

/// Returns the next second that the guest tells, by its real-time clock, and its count. Nothing may
/// be wrong meanwhile.
fn second(stasis: &mut Stasis) -> Result<(u64, u64)> {
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        sound(&line)?;
        let Some((second, count)) =
            line.strip_prefix("second ").and_then(|rest| rest.split_once(" count "))
        else {
            continue;
        };
        return Ok((second.parse()?, count.parse()?));
    }
}

/// Makes sure that the guest's counter runs at `hz`, by its real-time clock. Where the host is
/// busy, a second may be noticed late; so one good span of several will do, and no span of a wrong
/// clock is good.
fn runs_at(stasis: &mut Stasis, hz: u64) -> Result<u64> {
    const SPAN: usize = 4;
    let mut found = Vec::new();
    stasis.attach("traveller")?;
    // What was said before is of another time.
    stasis.qemu.console.skip();
    second(stasis)?;
    let mut from = second(stasis)?;
    for _ in 0..8 {
        let mut to = from;
        for _ in 0..SPAN {
            let next = second(stasis)?;
            ensure!(next.1 > to.1, "the count goes from {} to {}", to.1, next.1);
            to = next;
        }
        let measured = (to.1 - from.1) / (to.0 - from.0);
        if measured.abs_diff(hz) < hz / 50 {
            stasis.detach()?;
            return Ok(to.1);
        }
        found.push(measured);
        from = to;
    }
    anyhow::bail!("the counter should run at {hz} Hz, and ran at {found:?}")
}

/// Checkpoints the guest, pulls the plug, and returns the number of the checkpoint.
fn leave(mut stasis: Stasis, name: &str) -> Result<u64> {
    let number = stasis.checkpoint("traveller", name)?;
    stasis.kill()?;
    Ok(number)
}

/// Checks that a count follows that of the machine before, after no more than some seconds.
fn follows(before: u64, after: u64) -> Result<()> {
    ensure!(after > before && after - before < 100 * FAST, "count {after} follows {before}");
    Ok(())
}

pub fn a_guests_seconds_stay_as_long_on_a_slower_board_and_back(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let fast = || board(lab, "cortex-a72", FAST).disk(&disk).cpus(3);
    let slow = || board(lab, "cortex-a72", SLOW).disk(&disk).cpus(3).no_archive();
    let mut stasis = traveller(lab, fast(), None)?.boot()?;
    let before = runs_at(&mut stasis, FAST)?;
    let number = leave(stasis, "made")?;

    let mut stasis = slow().boot()?;
    stasis.resume(number)?;
    let there = runs_at(&mut stasis, FAST)?;
    follows(before, there)?;
    // A pause takes no time, and no time is lost by it.
    stasis.command("pause traveller")?;
    stasis.command("unpause traveller")?;
    follows(there, runs_at(&mut stasis, FAST)?)?;
    let number = leave(stasis, "on-the-board")?;

    let mut stasis = fast().no_archive().boot()?;
    stasis.resume(number)?;
    follows(there, runs_at(&mut stasis, FAST)?)?;
    stasis.quit()
}

pub fn a_faster_board_is_refused_unless_any_speed_will_do(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let slow = board(lab, "cortex-a72", SLOW).disk(&disk).cpus(3);
    let mut stasis = traveller(lab, slow, None)?.boot()?;
    let before = runs_at(&mut stasis, SLOW)?;
    let number = leave(stasis, "made")?;

    let mut stasis = board(lab, "cortex-a72", FAST).disk(&disk).cpus(3).no_archive().boot()?;
    let words = ["54000000 Hz", "62500000 Hz", "--any-speed", "15.7 %", "counter-frequency"];
    stasis.refused_for(&format!("resume {number}"), &words)?;
    stasis.is_alive()?;
    stasis.resume(format!("{number} --any-speed"))?;
    follows(before, runs_at(&mut stasis, FAST)?)?;
    stasis.quit()
}

pub fn a_configured_frequency_crosses_both_ways(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let slow = || board(lab, "cortex-a72", SLOW).disk(&disk).cpus(3);
    let fast = || board(lab, "cortex-a72", FAST).disk(&disk).cpus(3);
    let mut stasis = traveller(lab, slow(), Some(FAST as u32))?.boot()?;
    let before = runs_at(&mut stasis, FAST)?;
    let number = leave(stasis, "made")?;

    let mut stasis = fast().no_archive().boot()?;
    stasis.resume(number)?;
    follows(before, runs_at(&mut stasis, FAST)?)?;
    stasis.quit()?;

    // The board is faster than what is asked for.
    let stasis = traveller(lab, fast(), Some(SLOW as u32))?.boot()?;
    stasis.complaint(&["traveller", "counter-frequency", "54000000 Hz", "62500000 Hz"])?;
    stasis.quit()
}

pub fn a_counter_goes_on_on_a_slower_board(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = board(lab, "cortex-a72", FAST).guest("counter")?.disk(&disk).boot()?;
    stasis.attach("counter")?;
    let before = ticks(&mut stasis.qemu.console, &mut model, 5)?;
    stasis.detach()?;
    let number = stasis.checkpoint("counter", "made")?;
    stasis.kill()?;

    let mut stasis = board(lab, "cortex-a72", SLOW).disk(&disk).no_archive().boot()?;
    stasis.resume(number)?;
    stasis.attach("counter")?;
    let after = ticks(&mut stasis.qemu.console, &mut model, 30)?;
    ensure!(after.first() > before.last(), "{after:x?} should be behind {before:x?}");
    stasis.detach()?;
    stasis.quit()
}

pub fn linux_goes_on_on_a_slower_board_with_another_cpu(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut hashes = Loop::new();
    let cpu = |cpu: &str, hz: u64| format!("{cpu},cntfrq={hz}");
    let mut stasis =
        linux::machine(lab, 2)?.cpu(&cpu("cortex-a53", FAST)).cpus(3).disk(&disk).boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    linux::look_at_dmesg(&mut stasis)?;
    stasis.qemu.console.send_line("loop &")?;
    let mut last = linux::watch(&mut stasis, &mut hashes, 0, 10)?;
    stasis.detach()?;
    let mut number = stasis.checkpoint("linux", "made")?;
    stasis.kill()?;

    for (name, hz) in [("cortex-a72", SLOW), ("cortex-a57", FAST)] {
        let mut stasis =
            lab.machine().no_archive().disk(&disk).cpu(&cpu(name, hz)).cpus(3).boot()?;
        stasis.resume(number)?;
        stasis.attach("linux")?;
        last = linux::watch(&mut stasis, &mut hashes, last, 20)
            .with_context(|| format!("on {name} at {hz} Hz"))?;
        linux::dmesg_is_silent(&mut stasis).with_context(|| format!("on {name}"))?;
        stasis.detach()?;
        number = stasis.checkpoint("linux", name)?;
        stasis.quit()?;
    }
    Ok(())
}

pub fn linux_goes_between_a_cortex_a72_and_an_a76(lab: &Lab) -> Result<()> {
    for (made, other) in [("cortex-a72", "cortex-a76"), ("cortex-a76", "cortex-a72")] {
        let disk = lab.disk()?;
        let mut hashes = Loop::new();
        let mut stasis = linux::machine(lab, 2)?.cpu(made).cpus(3).disk(&disk).boot()?;
        stasis.attach("linux")?;
        stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
        linux::look_at_dmesg(&mut stasis)?;
        stasis.qemu.console.send_line("loop &")?;
        let mut last = linux::watch(&mut stasis, &mut hashes, 0, 10)?;
        stasis.detach()?;
        let mut number = stasis.checkpoint("linux", made)?;
        stasis.kill()?;
        for cpu in [other, made] {
            let mut stasis = lab.machine().no_archive().disk(&disk).cpu(cpu).cpus(3).boot()?;
            stasis.resume(number)?;
            stasis.attach("linux")?;
            let there = linux::watch(&mut stasis, &mut hashes, last, 20);
            last = there.with_context(|| format!("made on {made}, on {cpu}"))?;
            linux::dmesg_is_silent(&mut stasis)
                .with_context(|| format!("made on {made}, on {cpu}"))?;
            stasis.detach()?;
            number = stasis.checkpoint("linux", cpu)?;
            stasis.quit()?;
        }
    }
    Ok(())
}

pub fn a_guest_goes_on_on_every_cpu(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let machine = |cpu: &str| lab.machine().cpu(cpu).cpus(3).disk(&disk);
    const CPUS: [&str; 3] = ["cortex-a53", "cortex-a57", "cortex-a72"];
    for (n, made) in CPUS.into_iter().enumerate() {
        let mut stasis = traveller(lab, machine(made), None)?.boot()?;
        let mut last = runs_at(&mut stasis, FAST)?;
        let mut number = leave(stasis, made)?;
        for cpu in [CPUS[(n + 1) % 3], CPUS[(n + 2) % 3]] {
            let mut stasis = machine(cpu).no_archive().boot()?;
            stasis.resume(number)?;
            let there =
                runs_at(&mut stasis, FAST).with_context(|| format!("made on {made}, on {cpu}"))?;
            follows(last, there)?;
            (last, number) = (there, leave(stasis, cpu)?);
        }
    }
    Ok(())
}

pub fn a_guest_that_is_not_portable_goes_on_where_caches_need_no_more(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let machine = |cpu: &str| lab.machine().cpu(cpu).cpus(3).disk(&disk);
    let config = GuestConfig { vcpus: 2, portable: false, ..guest("traveller", 32) };
    let made = machine("cortex-a72").configured(config, Some(lab.guest("traveller")?));
    let mut stasis = made.boot()?;
    runs_at(&mut stasis, FAST)?;
    let number = leave(stasis, "made")?;
    let resume = format!("resume {number}");

    let mut stasis = machine("cortex-a53").no_archive().boot()?;
    stasis.refused_for(&resume, &["CTR_EL0.L1Ip is 3, and this machine's is 2"])?;
    stasis.quit()?;

    let mut stasis = machine("cortex-a57").no_archive().boot()?;
    stasis.resume(number)?;
    runs_at(&mut stasis, FAST)?;
    stasis.quit()
}
