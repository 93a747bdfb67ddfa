//! The images that a guest can have, and those that it can't: one line each, and Stasis lives on.

use anyhow::{Result, ensure};
use stasis_guest::image::Kind;
use stasis_guests::workload::Model;
use stasis_host::config::Configuration;
use stasis_qemu_tests::guests::{SILENCE, same, ticks, transcript};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use stasis_qemu_tests::tamper;
use std::time::Duration;
use xtask::qemu::Machine;
use xtask::workspace::{read, write};
use xtask::{elf, setup};

pub fn elf_raw_and_linux_images_are_told_apart(lab: &Lab) -> Result<()> {
    let idle = lab.guest("idle")?;
    let raw = elf::flatten(&idle)?;
    for (kind, image) in [(None, &idle), (Some(Kind::Elf), &idle), (Some(Kind::Raw), &raw)] {
        let mut config = guest("idle", 4);
        config.kind = kind;
        let mut stasis = lab.machine().configured(config, Some(image.clone())).boot()?;
        stasis.attach("idle")?;
        stasis.qemu.console.wait_for("idle\r\n", SILENCE)?;
        stasis.detach()?;
        stasis.quit()?;
    }
    let kernel = read(&setup::guests::ensure(&Built::get()?.workspace)?.kernel)?;
    let mut config = guest("linux", 128);
    config.cmdline = "earlycon".to_owned();
    let mut stasis = lab.machine().configured(config, Some(kernel)).boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for("Booting Linux on physical CPU", SILENCE)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn bare_code_finds_its_device_tree_where_qemu_puts_it(lab: &Lab) -> Result<()> {
    let raw = elf::flatten(&lab.guest("tree")?)?;
    let kernel = lab.path("tree");
    write(&kernel, &raw)?;
    let mut plain = Machine::plain(kernel, None)
        .cpu("cortex-a72")
        .memory("256M")
        .time_limit(Duration::from_secs(60))
        .start()?;
    let expected = transcript(&mut plain.console, |_| None)?;
    drop(plain);
    let mut config = guest("tree", 256);
    config.kind = Some(Kind::Raw);
    let mut stasis = lab.machine().configured(config, Some(raw)).boot()?;
    stasis.attach("tree")?;
    let found = transcript(&mut stasis.qemu.console, |_| None)?;
    same(&expected, &found)?;
    let copy = "~ one at the start of RAM: true".to_owned();
    ensure!(found.contains(&copy), "U-Boot would not find its device tree: {found:?}");
    Ok(())
}

/// Boots a guest that can't be, beside one that can: there is a line with these words, and the
/// other guest runs.
fn refused_beside_a_good_one(setup: Setup<'_>, words: &[&str]) -> Result<Stasis> {
    let mut stasis = setup.guest("counter")?.boot()?;
    stasis.complaint(words)?;
    stasis.is_alive()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    stasis
        .refused("attach bad")
        .or_else(|_| stasis.command("attach bad").map(|_| String::new()))?;
    Ok(stasis)
}

pub fn an_image_that_is_none_is_named(lab: &Lab) -> Result<()> {
    let text = b"This is a letter, and no operating system. ".repeat(100);
    for (kind, image) in [
        (Some(Kind::Linux), text.clone()),
        (Some(Kind::Elf), text),
        (Some(Kind::Linux), Vec::new()),
        (None, Vec::new()),
        (Some(Kind::Elf), lab.guest("idle")?[..100].to_vec()),
    ] {
        let mut config = guest("bad", 32);
        config.kind = kind;
        refused_beside_a_good_one(lab.machine().configured(config, Some(image)), &["bad"])?
            .quit()?;
    }
    Ok(())
}

pub fn bare_code_must_be_said_to_be_that(lab: &Lab) -> Result<()> {
    let raw = elf::flatten(&lab.guest("idle")?)?;
    refused_beside_a_good_one(
        lab.machine().configured(guest("bad", 32), Some(raw)),
        &["bad", "kind = \"raw\""],
    )?
    .quit()
}

pub fn an_elf_file_for_another_machine_is_named(lab: &Lab) -> Result<()> {
    const E_MACHINE: usize = 18;
    const X86_64: u8 = 62;
    let mut image = lab.guest("idle")?;
    image[E_MACHINE] = X86_64;
    refused_beside_a_good_one(
        lab.machine().configured(guest("bad", 32), Some(image)),
        &["bad", "aarch64"],
    )?
    .quit()
}

pub fn memory_that_does_not_fit_is_named(lab: &Lab) -> Result<()> {
    let idle = lab.guest("idle")?;
    let huge = lab.machine().configured(guest("bad", 64 << 10), Some(idle));
    refused_beside_a_good_one(huge, &["bad", "65536 mib of ram"])?.quit()
}

pub fn an_image_that_does_not_fit_its_memory_is_named(lab: &Lab) -> Result<()> {
    // The .bss of the guest alone has 8 MiB.
    let counter = lab.guest("counter")?;
    let mut small = guest("bad", 4);
    small.image = "large".to_owned();
    refused_beside_a_good_one(
        lab.machine().configured(small, Some(counter)),
        &["bad", "outside the guest's ram"],
    )?
    .quit()
}

/// Returns an arm64 `Image` that says it has pages of 16 KiB, and does nothing.
fn kernel_with_pages_of_16_kib() -> Vec<u8> {
    let mut image = vec![0; 4096];
    // b .
    image[..4].copy_from_slice(&0x1400_0000_u32.to_le_bytes());
    image[16..24].copy_from_slice(&4096_u64.to_le_bytes());
    image[24..32].copy_from_slice(&0xc_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

pub fn a_kernel_whose_pages_the_cpu_has_not_is_named(lab: &Lab) -> Result<()> {
    let setup = lab.machine().configured(guest("bad", 32), Some(kernel_with_pages_of_16_kib()));
    let words = ["bad", "pages of 16 kib", "take one with pages of 4 kib or 64 kib"];
    refused_beside_a_good_one(setup, &words)?.quit()
}

pub fn a_kernel_with_pages_of_16_kib_finds_them_and_goes_nowhere_without(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let config = guest("large-pages", 32);
    let mut stasis = lab
        .machine()
        .cpu("cortex-a76")
        .configured(config, Some(kernel_with_pages_of_16_kib()))
        .guest("counter")?
        .disk(&disk)
        .boot()?;
    let large = stasis.checkpoint("large-pages", "large")?;
    let usual = stasis.checkpoint("counter", "usual")?;
    stasis.quit()?;
    for (number, shown) in [(large, 1), (usual, 0)] {
        let state = tamper::state(&tamper::get(&disk, number)?)?;
        let mmfr0 = *state.vcpus[0].identity.id_aa64mmfr0_el1;
        ensure!(mmfr0 >> 20 & 0xf == shown, "checkpoint {number} has {mmfr0:#x}");
    }
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.refused_for(&format!("resume {large}"), &["TGran16 is 1", "machine's is 0"])?;
    stasis.resume(usual)?;
    stasis.quit()
}

pub fn a_missing_image_or_initrd_is_named(lab: &Lab) -> Result<()> {
    let mut config = guest("bad", 32);
    config.image = "vanished.bin".to_owned();
    refused_beside_a_good_one(lab.machine().configured(config, None), &["bad", "vanished.bin"])?
        .quit()?;
    let mut config = guest("bad", 64);
    config.initrd = Some("vanished.cpio".to_owned());
    let kernel = read(&setup::guests::ensure(&Built::get()?.workspace)?.kernel)?;
    refused_beside_a_good_one(
        lab.machine().configured(config, Some(kernel)),
        &["bad", "vanished.cpio"],
    )?
    .quit()
}

/// Boots with something for an archive; Stasis says so, and lives.
fn says(setup: Setup<'_>, words: &[&str]) -> Result<()> {
    let mut stasis = setup.boot()?;
    stasis.complaint(words)?;
    stasis.is_alive()?;
    stasis.command("help")?;
    stasis.refused("attach counter")?;
    stasis.quit()
}

pub fn an_archive_that_is_none_is_named(lab: &Lab) -> Result<()> {
    says(lab.machine().archive(b"no archive at all".repeat(40)), &["archive"])?;
    let idle = Configuration { guests: vec![guest("idle", 4)], ..Default::default() };
    let good = xtask::archive::pack(&idle, &[("idle", &lab.guest("idle")?)])?;
    says(lab.machine().archive(good[..good.len() / 2].to_vec()), &["archive"])?;
    says(lab.machine().compiled(b"no device tree".to_vec()), &["stasis.dtb"])?;
    let mut nothing = xtask::cpio::Cpio::new();
    nothing.file("readme", 0o644, "nothing else")?;
    let nothing = nothing.finish().to_bytes()?;
    ensure!(!nothing.is_empty());
    says(lab.machine().archive(nothing), &["stasis.dtb"])
}

pub fn no_archive_is_named(lab: &Lab) -> Result<()> {
    says(lab.machine().no_archive(), &["initrd"])
}
