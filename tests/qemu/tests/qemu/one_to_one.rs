//! Guests that have their memory at the machine's own addresses.

use anyhow::{Context, Result, ensure};
use stasis_devices::machine::RAM_BASE;
use stasis_host::config::{GuestConfig, MemoryMap};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};
use xtask::initramfs::{self, Loop};

use crate::linux;

/// Returns where Linux says that its memory begins.
pub fn ram_base(stasis: &mut Stasis) -> Result<u64> {
    let lines = linux::shell(stasis, "grep 'System RAM' /proc/iomem")?;
    let first = lines.iter().find_map(|line| line.split_once('-'));
    let (start, _) = first.with_context(|| format!("no memory in {lines:?}"))?;
    Ok(u64::from_str_radix(start.trim(), 16)?)
}

pub fn linux_is_resumed_where_others_have_its_addresses(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut hashes = Loop::new();
    let machine = linux::machine(lab, 1)?.disk(&disk);
    let machine = machine.change("linux", |config| config.memory_map = MemoryMap::Identity);
    let mut stasis = machine.boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    linux::look_at_dmesg(&mut stasis)?;
    let base = ram_base(&mut stasis)?;
    ensure!(base > RAM_BASE, "its memory is at {base:#x}, and there lies Stasis");
    stasis.qemu.console.send_line("loop &")?;
    let before = linux::watch(&mut stasis, &mut hashes, 0, 10)?;
    stasis.detach()?;
    stasis.checkpoint("linux", "one-to-one")?;
    // In its own place, too.
    stasis.resume("one-to-one")?;
    stasis.attach("linux")?;
    linux::watch(&mut stasis, &mut hashes, before, 5)?;
    stasis.detach()?;
    stasis.kill()?;

    let mut hashes = Loop::new();
    hashes.hash_at(before);
    let large = lab.machine().configured(guest("counter", 512), Some(lab.guest("counter")?));
    let mut stasis = large.disk(&disk).boot()?;
    stasis.resume("one-to-one")?;
    stasis.attach("linux")?;
    linux::watch(&mut stasis, &mut hashes, before, 10)?;
    linux::shell(&mut stasis, "kill %1; wait")?;
    let now = ram_base(&mut stasis)?;
    ensure!(now == base, "its memory was at {base:#x}, and is at {now:#x}");
    linux::dmesg_is_silent(&mut stasis)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn a_checkpoint_with_its_memory_elsewhere_is_not_put_in_a_guests_place(
    lab: &Lab,
) -> Result<()> {
    let disk = lab.disk()?;
    let machine = linux::machine(lab, 1)?.disk(&disk);
    let machine = machine.change("linux", |config| config.memory_map = MemoryMap::Identity);
    let mut stasis = machine.boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    let base = ram_base(&mut stasis)?;
    stasis.detach()?;
    stasis.checkpoint("linux", "one-to-one")?;
    stasis.kill()?;

    // This guest, as QEMU has it.
    let machine = linux::machine(lab, 1)?.disk(&disk);
    let mut stasis = machine.change("linux", |config| config.autostart = false).boot()?;
    let words = [&*format!("memory at {base:#x}"), "at 0x40000000", "remove \"linux\" first"];
    stasis.refused_for("resume one-to-one", &words)?;
    stasis.command("stop linux")?;
    stasis.command("remove linux")?;
    stasis.resume("one-to-one")?;
    stasis.attach("linux")?;
    ensure!(ram_base(&mut stasis)? == base, "it has moved");
    stasis.detach()?;
    // The guest can't be started again where it is, for the image would find its memory elsewhere.
    stasis.refused_for("restart linux", &["another guest of that name"])?;
    stasis.quit()
}

pub fn what_can_not_have_its_memory_there_is_named(lab: &Lab) -> Result<()> {
    let at_the_machines =
        |memory| GuestConfig { memory_map: MemoryMap::Identity, ..guest("counter", memory) };
    for (memory, words) in [
        // Linked at other addresses.
        (32, &["segment at 0x4", "outside the guest's RAM"][..]),
        (4096, &["it needs 4096 MiB", "in one piece at 0x40000000 or above"]),
    ] {
        let machine = lab.machine();
        let machine = machine.configured(at_the_machines(memory), Some(lab.guest("counter")?));
        let stasis = machine.guest("idle")?.boot()?;
        stasis.complaint(&[&["\"counter\""], words].concat())?;
        stasis.quit()?;
    }
    Ok(())
}
