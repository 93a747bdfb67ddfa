//! Devices of the machine that guests are given.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_host::config::{GuestConfig, MemoryMap, Policy};
use stasis_qemu_tests::guests::{SILENCE, sound, ticks};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use xtask::initramfs;
use xtask::monitor::Socket;
use xtask::workspace::{read, write};

use crate::linux;

/// The machine's PL031, whose alarm interrupts.
const CLOCK: &str = "/pl031@9010000";

/// An alarm goes off in it, by the host's clock.
const A_WHILE: Duration = Duration::from_millis(2500);

/// Returns the guest that drives a device, on core 1.
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
    // The first line may come in the midst of the attaching.
    for number in 2..5 {
        wait_for(&mut stasis, &format!("alarm {number}"))?;
    }
    stasis.detach()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    // The device's state is not ours to store; that of its guest's neighbour is.
    let why = ["\"alarm\"", CLOCK, "can't be stored"];
    stasis.refused_for("checkpoint alarm", &why)?;
    stasis.refused_for("checkpoint all", &why)?;
    stasis.checkpoint("counter", "neighbour")?;
    // The guest crashes with the interrupt active, and is born again.
    stasis.attach("alarm")?;
    stasis.qemu.console.send(b"c")?;
    for line in ["crashing", "born", "alarm 1", "alarm 2"] {
        wait_for(&mut stasis, line)?;
    }
    stasis.detach()?;
    for command in ["stop alarm", "start alarm", "restart alarm"] {
        stasis.command(command)?;
    }
    // The guest's alarm goes off while it is paused: the interrupt waits for it, and ends with it.
    stasis.command("pause alarm")?;
    std::thread::sleep(A_WHILE);
    for command in ["stop alarm", "start alarm"] {
        stasis.command(command)?;
    }
    stasis.attach("alarm")?;
    for line in ["born", "alarm 1", "alarm 2"] {
        wait_for(&mut stasis, line)?;
    }
    stasis.detach()?;
    // Nor does it come when nobody has the device any more.
    stasis.command("stop alarm")?;
    stasis.command("remove alarm")?;
    std::thread::sleep(A_WHILE);
    stasis.command("start alarm")?;
    stasis.attach("alarm")?;
    for line in ["born", "alarm 1", "alarm 2"] {
        wait_for(&mut stasis, line)?;
    }
    stasis.detach()?;
    let said = stasis.qemu.console.transcript();
    ensure!(!said.contains("was not expected"), "an interrupt has come that is nobody's:\n{said}");
    stasis.quit()
}

/// The guest shares core 0 with a command that computes for some seconds, and waits for nothing. A
/// second there is as many instructions.
pub fn a_devices_interrupt_comes_in_the_midst_of_a_command(lab: &Lab) -> Result<()> {
    let alarm = GuestConfig { cores: vec![0], ..alarm(CLOCK) };
    let machine = lab.machine().cpus(1).configured(alarm, Some(lab.guest("alarm")?));
    // With a virtio device, all of its memory is cleared before it starts.
    let large = GuestConfig { entropy: true, ..guest("idle", 512) };
    let machine = machine.configured(large, Some(lab.guest("idle")?));
    let machine = machine.counting_instructions(9).argument("-rtc").argument("clock=vm");
    let mut stasis = machine.boot()?;
    stasis.attach("alarm")?;
    stasis.qemu.console.send(b"q")?;
    wait_for(&mut stasis, "quiet")?;
    stasis.detach()?;
    for command in ["stop idle", "remove idle", "start idle"] {
        stasis.command(command)?;
    }
    stasis.attach("alarm")?;
    stasis.qemu.console.send(b"l")?;
    let late = |line: &str| line.strip_suffix(" late")?.parse::<u32>().ok();
    let late = stasis.qemu.console.find_line("how many were late", SILENCE, late)?;
    ensure!(late == 0, "{late} interrupts have come when the command was done");
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

/// Returns how many interrupts a CPU of Linux's has had of its first device of the machine's, by
/// how they are triggered.
fn interrupts(stasis: &mut Stasis, trigger: &str, cpu: usize) -> Result<u64> {
    let lines = linux::shell(stasis, &format!("grep -E ' 144 +{trigger} ' /proc/interrupts"))?;
    lines.iter().try_for_each(|line| sound(line))?;
    let count = lines.iter().find_map(|line| {
        let rest = line.split_once(':')?.1;
        rest.split_ascii_whitespace().nth(cpu)?.parse().ok()
    });
    count.with_context(|| format!("it has no such interrupt: {lines:?}"))
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
    let count = interrupts(&mut stasis, "Level", 0)?;
    ensure!(count > 0, "no interrupt has come");
    stasis.detach()?;
    stasis.quit()
}

/// Returns the virtio-mmio slots that have a page of registers in common with `first`.
fn page_of_slots(first: u32) -> Vec<String> {
    (first..first + 8).map(|slot| format!("/virtio_mmio@{:x}", 0xa00_0000 + slot * 0x200)).collect()
}

/// The slot of the guest's disk.
const SLOT: u32 = 8;
/// The disk's Status register (virtio 1.2, 4.2.2), and its value while a driver uses the disk.
const STATUS: u64 = 0x0a00_0000 + 0x200 * SLOT as u64 + 0x70;
const DRIVER_OK: u32 = 4;

/// Trusts a guest with the disk in [`SLOT`].
fn trust_with_disk(config: &mut GuestConfig) {
    config.devices = page_of_slots(SLOT);
    config.memory_map = MemoryMap::Identity;
    config.dma_trusted = true;
}

/// Returns a machine whose Linux has two CPUs, and drivers for disks.
fn linux_for_disks(lab: &Lab) -> Result<Setup<'_>> {
    let drivers = initramfs::make_with_virtio(&Built::get()?.workspace)?;
    let machine = linux::machine(lab, 2)?.file("with-drivers", drivers);
    Ok(machine.change("linux", |config| config.initrd = Some("with-drivers".to_owned())))
}

/// The bytes that the host has written to the guest's disk.
const GREETING: &[u8] = b"from the host";
const GREETING_AT: usize = 12 << 20;
/// What the guest writes to its start: this line, again and again.
const PATTERN: &[u8] = b"written by the guest\n";
const PATTERN_BYTES: usize = 256 << 10;

pub fn linux_reads_and_writes_a_disk_of_the_machines(lab: &Lab) -> Result<()> {
    let data = lab.path("data.img");
    let mut contents = vec![0; 16 << 20];
    contents[GREETING_AT..][..GREETING.len()].copy_from_slice(GREETING);
    write(&data, &contents)?;
    // Stasis finds its own, though the other one comes first.
    let machine = linux_for_disks(lab)?.change("linux", trust_with_disk);
    let machine = machine.disk_in_slot(&data, SLOT).disk_in_slot(&lab.disk()?, 16);
    let socket = Socket::new()?;
    let mut stasis = machine.guest("counter")?.monitor(&socket).boot()?;
    let mut monitor = socket.connect()?;
    let slot = page_of_slots(SLOT)[0].clone();
    stasis.complaint(&["\"linux\" is trusted", "all of the machine's memory", &slot])?;

    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    linux::look_at_dmesg(&mut stasis)?;
    let has = |lines: Vec<String>, what: &str| {
        ensure!(lines.iter().any(|line| line.contains(what)), "no {what:?} in {lines:?}");
        Ok(())
    };
    let greeting = "dd if=/dev/vda bs=1M skip=12 count=1 2>/dev/null | head -c 13; echo";
    has(linux::shell(&mut stasis, greeting)?, "from the host")?;
    linux::shell(&mut stasis, "yes 'written by the guest' | head -c 262144 > /tmp/pattern")?;
    linux::shell(&mut stasis, "dd if=/tmp/pattern of=/dev/vda bs=64k conv=fsync 2>/dev/null")?;
    // The next command is one that the kernel tells of.
    linux::dmesg_is_silent(&mut stasis)?;
    let compare = "echo 3 > /proc/sys/vm/drop_caches; head -c 262144 /dev/vda | cmp - /tmp/pattern && echo as it was";
    has(linux::shell(&mut stasis, compare)?, "as it was")?;
    let count = interrupts(&mut stasis, "Edge", 0)?;
    ensure!(count > 3, "there were {count} interrupts");
    // The physical one still comes to the core of CPU 0.
    let elsewhere = "irq=$(grep -E ' 144 +Edge ' /proc/interrupts | cut -d: -f1); echo 2 > /proc/irq/$((irq))/smp_affinity";
    linux::shell(&mut stasis, elsewhere)?;
    has(linux::shell(&mut stasis, compare)?, "as it was")?;
    let count = interrupts(&mut stasis, "Edge", 1)?;
    ensure!(count > 3, "there were {count} interrupts of CPU 1");
    stasis.detach()?;

    stasis.refused_for("checkpoint linux", &["\"linux\"", &slot, "can't be stored"])?;
    stasis.checkpoint("counter", "neighbour")?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;

    // The disk accesses no memory any more when that may become another guest's.
    ensure!(monitor.word(STATUS)? & DRIVER_OK != 0, "Linux does not drive the disk");
    stasis.command("stop linux")?;
    ensure!(monitor.word(STATUS)? == 0, "the disk was not reset");

    // A new Linux finds the disk as the old one has left it.
    stasis.command("start linux")?;
    stasis.attach("linux")?;
    // Not the prompt of the old one.
    stasis.qemu.console.wait_for("guest: type", linux::BOOT_TIME)?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    has(linux::shell(&mut stasis, "head -c 20 /dev/vda; echo")?, "written by the guest")?;
    stasis.detach()?;
    stasis.quit()?;

    let after = read(&data)?;
    let expected = PATTERN.iter().copied().cycle().take(PATTERN_BYTES);
    ensure!(after.iter().copied().take(PATTERN_BYTES).eq(expected), "the disk has something else");
    ensure!(after[GREETING_AT..].starts_with(GREETING), "the greeting is gone");
    Ok(())
}

pub fn a_disk_without_trust_or_of_stasiss_own_is_refused(lab: &Lab) -> Result<()> {
    let (data, store) = (lab.path("data.img"), lab.disk()?);
    write(&data, &[0; 1 << 20])?;
    type Change = fn(&mut GuestConfig);
    let cases: [(Change, &[&str]); 4] = [
        (|config| config.memory_map = MemoryMap::Virt, &["by itself", "memory-map = \"identity\""]),
        (|_| {}, &["by itself", "dma = \"trusted\""]),
        (
            |config| (config.devices, config.dma_trusted) = (page_of_slots(16), true),
            &["/virtio_mmio@a002000", "Stasis itself"],
        ),
        (
            |config| {
                (config.devices, config.dma_trusted) = (page_of_slots(SLOT)[..7].to_vec(), true)
            },
            &["/virtio_mmio@a001000", "shares a page", "/virtio_mmio@a001e00"],
        ),
    ];
    for (change, words) in cases {
        let mut config = guest("disks", 4);
        trust_with_disk(&mut config);
        config.dma_trusted = false;
        change(&mut config);
        let machine = lab.machine().configured(config, Some(lab.guest("idle")?));
        let machine = machine.disk_in_slot(&data, SLOT).disk_in_slot(&store, 16);
        let mut stasis = machine.guest("idle")?.boot()?;
        stasis.complaint(&[&["\"disks\""], words].concat())?;
        stasis.checkpoint("idle", "one")?;
        stasis.quit()?;
    }
    Ok(())
}
