//! Guests that others have made.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_guest::image::Kind;
use stasis_qemu_tests::beats::Beats;
use stasis_qemu_tests::guests::{SILENCE, is_log};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Stasis, guest};
use xtask::build;
use xtask::console::Console;
use xtask::qemu::Machine;
use xtask::setup::debian::Debian;
use xtask::workspace::{read, write};

/// Debian's U-Boot for `virt`.
pub fn u_boot() -> Result<Vec<u8>> {
    let workspace = &Built::get()?.workspace;
    let path = workspace.folder("guests")?.join("u-boot.bin");
    if !path.exists() {
        let debian = Debian::find(workspace)?;
        let unpacked = workspace.folder("setup/u-boot")?;
        debian
            .packages(workspace, &debian.codename, "arm64")?
            .unpack("u-boot-qemu", &unpacked)
            .context("Debian's package u-boot-qemu is lacking")?;
        write(&path, &read(&unpacked.join("usr/lib/u-boot/qemu_arm64/u-boot.bin"))?)?;
    }
    read(&path)
}

pub fn u_boot_reaches_its_prompt(lab: &Lab) -> Result<()> {
    let mut config = guest("u-boot", 128);
    config.kind = Some(Kind::Raw);
    let mut stasis = lab.machine().configured(config, Some(u_boot()?)).boot()?;
    stasis.attach("u-boot")?;
    let console = &mut stasis.qemu.console;
    console.wait_for("U-Boot 20", SILENCE)?;
    console.wait_for("Hit any key to stop autoboot", SILENCE)?;
    console.send(b" ")?;
    console.wait_for("=> ", SILENCE)?;
    console.send_line("version")?;
    console.wait_for("U-Boot 20", SILENCE)?;
    console.wait_for("=> ", SILENCE)?;
    // U-Boot polls its UART, whose FIFO is too small for what is pasted while U-Boot computes.
    let pasted = "0123456789abcdef".repeat(3);
    console.send(format!("crc32 0x40000000 0x4000000\recho {pasted}\r").as_bytes())?;
    console.find_line("what was pasted", SILENCE, |line| (line == pasted).then_some(()))?;
    console.wait_for("=> ", SILENCE)?;
    // The guest reads what is there, and is told of what is not.
    console.send_line("md.l 0x40000000 4")?;
    console.wait_for("40000000:", SILENCE)?;
    stasis.detach()?;
    stasis.is_alive()?;
    stasis.quit()
}

/// Reads the next lines of ArceOS, up to the `count`th that tells of a beat. Returns those that
/// stand before the first.
fn arceos_beats(console: &mut Console, beats: &mut Beats, count: usize) -> Result<Vec<String>> {
    let (mut before, mut seen) = (Vec::new(), 0);
    while seen < count {
        let line = console.next_line(SILENCE)?;
        let last = beats.last().ok();
        beats.look_at(&line)?;
        if beats.last().ok() != last {
            seen += 1;
        } else if seen == 0 && !is_log(&line) {
            before.push(line);
        }
    }
    Ok(before)
}

/// Looks at what ArceOS has said and nobody has looked at.
fn unseen(stasis: &mut Stasis, beats: &mut Beats) -> Result<()> {
    stasis.attach("arceos")?;
    stasis.detach()?.lines().try_for_each(|line| beats.look_at(line))
}

pub fn arceos_sees_what_it_sees_on_plain_qemu(lab: &Lab) -> Result<()> {
    let image = build::arceos(&Built::get()?.workspace)?;
    let kernel = lab.path("arceos");
    write(&kernel, &image)?;
    let mut plain = Machine::plain(kernel, None)
        .cpu("cortex-a72")
        .memory("32M")
        .time_limit(Duration::from_secs(120))
        .start()?;
    let expected = arceos_beats(&mut plain.console, &mut Beats::of_arceos(), 5)?;
    drop(plain);
    ensure!(expected.iter().any(|line| line.starts_with("arceos: ")), "it says {expected:?}");

    let mut stasis = lab.machine().configured(guest("arceos", 32), Some(image)).boot()?;
    stasis.attach("arceos")?;
    let found = arceos_beats(&mut stasis.qemu.console, &mut Beats::of_arceos(), 5)?;
    ensure!(found == expected, "it says {found:#?}, and on plain QEMU {expected:#?}");
    stasis.detach()?;
    stasis.quit()
}

pub fn arceos_goes_on_in_another_machine(lab: &Lab) -> Result<()> {
    let (disk, mut beats) = (lab.disk()?, Beats::of_arceos());
    let image = build::arceos(&Built::get()?.workspace)?;
    let mut stasis =
        lab.machine().configured(guest("arceos", 32), Some(image)).disk(&disk).boot()?;
    stasis.attach("arceos")?;
    arceos_beats(&mut stasis.qemu.console, &mut beats, 5)?;
    stasis.detach()?;
    stasis.command("pause arceos")?;
    unseen(&mut stasis, &mut beats)?;
    let number = stasis.checkpoint("arceos", "between-beats")?;
    stasis.kill()?;

    // Long enough for a clock that ran on to show it.
    std::thread::sleep(Duration::from_secs(10));
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    stasis.attach("arceos")?;
    arceos_beats(&mut stasis.qemu.console, &mut beats, 10)?;
    stasis.detach()?;
    stasis.quit()
}
