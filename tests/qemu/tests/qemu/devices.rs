//! Devices of the machine that guests are given.

use anyhow::{Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{SILENCE, sound, ticks};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};
use stasis_vm::config::{GuestConfig, Policy};
use xtask::initramfs;

use crate::linux;

/// The machine's PL031, whose alarm interrupts.
const CLOCK: &str = "/pl031@9010000";

/// The guest that drives it, on core 1.
fn alarm(device: &str) -> GuestConfig {
    let devices = vec![device.to_owned()];
    let on_crash = Policy::Restart;
    GuestConfig { devices, on_crash, cores: vec![1], ..guest("alarm", 4) }
}

/// Waits for a line of the attached guest.
fn wait_for(stasis: &mut Stasis, expected: &str) -> Result<()> {
    let found = |line: &str| (line == expected).then_some(());
    Ok(stasis.qemu.console.find_line(expected, SILENCE, found)?)
}

pub fn a_devices_interrupts_reach_its_guest_while_others_have_its_core(lab: &Lab) -> Result<()> {
    let mut counter = guest("counter", 32);
    counter.cores = vec![1];
    let machine = lab.machine().configured(alarm(CLOCK), Some(lab.guest("alarm")?));
    let machine = machine.configured(counter, Some(lab.guest("counter")?));
    let mut stasis = machine.disk(&lab.disk()?).boot()?;
    stasis.attach("alarm")?;
    for number in 1..4 {
        wait_for(&mut stasis, &format!("alarm {number}"))?;
    }
    stasis.detach()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    // Its state is not ours to store; that of its neighbour is.
    let why = ["\"alarm\"", CLOCK, "can't be stored"];
    stasis.refused_for("checkpoint alarm", &why)?;
    stasis.refused_for("checkpoint all", &why)?;
    stasis.checkpoint("counter", "neighbour")?;
    // It crashes with the interrupt active, and is born again.
    stasis.attach("alarm")?;
    stasis.qemu.console.send(b"c")?;
    for line in ["crashing", "born", "alarm 1", "alarm 2"] {
        wait_for(&mut stasis, line)?;
    }
    stasis.detach()?;
    for command in ["stop alarm", "start alarm", "restart alarm", "pause alarm", "unpause alarm"] {
        stasis.command(command)?;
    }
    stasis.command("stop alarm")?;
    stasis.command("remove alarm")?;
    stasis.command("start alarm")?;
    stasis.attach("alarm")?;
    for line in ["born", "alarm 1", "alarm 2"] {
        wait_for(&mut stasis, line)?;
    }
    stasis.detach()?;
    stasis.quit()
}

pub fn a_device_that_cannot_be_given_is_named(lab: &Lab) -> Result<()> {
    for (device, words) in [
        ("/pl031@9999999", &["no device", "/pl031@9999999"][..]),
        ("rtc7", &["no device", "rtc7"]),
        ("/pl011@9000000", &["/pl011@9000000", "Stasis itself"]),
        ("serial0", &["/pl011@9000000", "Stasis itself"]),
        ("/memory@40000000", &["/memory@40000000", "Stasis itself"]),
        ("/intc@8000000", &["/intc@8000000", "Stasis itself"]),
        ("/virtio_mmio@a000000", &["/virtio_mmio@a000000", "accesses memory by itself"]),
        ("/psci", &["/psci", "no registers"]),
    ] {
        let machine = lab.machine().configured(alarm(device), Some(lab.guest("alarm")?));
        let mut stasis = machine.guest("idle")?.boot()?;
        stasis.complaint(&[&["\"alarm\""], words].concat())?;
        ensure!(stasis.command("guests")?.join("\n").contains("idle"), "idle is not there");
        stasis.quit()?;
    }
    Ok(())
}

pub fn linux_drives_the_machines_clock(lab: &Lab) -> Result<()> {
    let mut machine = linux::machine(lab, 1)?;
    machine = machine.change("linux", |config| config.devices = vec![CLOCK.to_owned()]);
    let mut stasis = machine.boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    linux::look_at_dmesg(&mut stasis)?;
    // The emulated one is the other.
    let find = "for rtc in /sys/class/rtc/rtc*; do case $(readlink $rtc) in *c000000*) echo $rtc;; esac; done";
    let found = linux::shell(&mut stasis, find)?;
    let rtc = found.iter().find(|line| line.starts_with("/sys/")).cloned();
    let rtc = rtc.ok_or_else(|| anyhow::anyhow!("no clock of the machine's in {found:?}"))?;
    linux::shell(&mut stasis, &format!("echo +2 > {rtc}/wakealarm; sleep 4"))?;
    let lines = linux::shell(&mut stasis, "grep -E ' 144 +Level ' /proc/interrupts")?;
    lines.iter().try_for_each(|line| sound(line))?;
    let count = lines.iter().find_map(|line| {
        let rest = line.split_once(':')?.1;
        rest.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    ensure!(count.is_some_and(|count| count > 0), "no interrupt has come: {lines:?}");
    stasis.detach()?;
    stasis.quit()
}
