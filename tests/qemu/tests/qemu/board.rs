//! The Raspberry Pi 4, and guests that cross from one board to another.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use stasis_guests::workload::Model;
use stasis_host::config::Configuration;
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use stasis_qemu_tests::tamper::{self, File};
use stasis_state::guest::Clock;
use stasis_store::Compression;
use xtask::board::Board;
use xtask::card::{self, boot, fat};
use xtask::content::Content;
use xtask::disk;
use xtask::initramfs::Loop;
use xtask::qemu::Machine;
use xtask::workspace::{read, write};

use crate::{linux, resume};

/// Bytes of a card: a power of two.
const CARD: u64 = 256 << 20;
/// Whatever a card that is slow under QEMU takes.
pub const PATIENCE: Duration = Duration::from_secs(2400);
/// What a resume from such a card is given, for a Linux that must not complain: one that waits for
/// its memory for half a minute tells of a stall.
pub const WHOLE: &str = " --whole";

fn raspi4() -> Result<Board> {
    Board::raspi4(&Built::get()?.workspace)
}

pub fn machine(lab: &Lab) -> Result<Setup<'_>> {
    Ok(lab.machine().raspi4()?.time_limit(PATIENCE))
}

/// Returns a card with an empty store, which compresses.
pub fn card(lab: &Lab) -> Result<PathBuf> {
    let path = lab.path("card.img");
    disk::create_with(&path, CARD, Compression::Lz4)?;
    Ok(path)
}

/// Moves a checkpoint as a person does: its number over there.
fn carry(from: &Path, number: u64, to: &Path) -> Result<u64> {
    tamper::put(to, "carried", &tamper::get(from, number)?)
}

pub fn raspi4_comes_up_with_all_its_cores(lab: &Lab) -> Result<()> {
    let mut wide = guest("ipi", 32);
    wide.vcpus = 3;
    let wide = machine(lab)?.configured(wide, Some(lab.guest("ipi")?));
    let mut stasis = wide.guest("counter")?.boot()?;
    stasis.complaint(&["4 cores"])?;
    stasis.complaint(&["Raspberry Pi 4"])?;
    for line in &stasis.greeting {
        ensure!(!line.contains("was not started") && !line.contains("did not arrive"), "{line}");
    }
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 5)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn raspi4_has_its_console_on_either_uart(lab: &Lab) -> Result<()> {
    // The first serial port is the PL011's. Typing arrives by an interrupt.
    let mini = machine(lab)?.argument("-serial").argument("null").cmdline("console=ttyS0,115200");
    let mut stasis = mini.guest("counter")?.boot()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 5)?;
    stasis.detach()?;
    stasis.quit()?;

    let stasis = machine(lab)?.no_archive().cmdline("console=serial9").boot()?;
    stasis.complaint(&["console", "serial9", "not there"])?;
    stasis.quit()
}

pub fn started_at_el1_it_says_so(_: &Lab) -> Result<()> {
    let mut qemu = Machine::plain(&Built::get()?.image, None).time_limit(PATIENCE).start()?;
    qemu.console.wait_for("error: Stasis was started at EL1", Duration::from_secs(60))?;
    qemu.kill()
}

/// Checks that Stasis says in one line why it can't run on a machine.
fn gives_up(machine: Machine, line: &str) -> Result<()> {
    let mut qemu = machine.time_limit(PATIENCE).start()?;
    let what = format!("error: Stasis can't run on this machine: {line}");
    qemu.console.wait_for(&what, Duration::from_secs(60))?;
    qemu.kill()
}

pub fn a_machine_without_a_gicv2_is_named(_: &Lab) -> Result<()> {
    let image = &Built::get()?.image;
    let other = Machine::stasis(image, None).arg("-machine").arg("gic-version=3");
    gives_up(other, "the machine has a GICv3 and no GICv2")
}

pub fn a_device_tree_without_a_console_is_told_of_all_the_same(lab: &Lab) -> Result<()> {
    let image = &Built::get()?.image;
    let path = lab.path("virt.dtb");
    let dump = format!("dumpdtb={}", path.display());
    let status = Machine::stasis(image, None).arg("-machine").arg(dump).command().status()?;
    ensure!(status.success(), "QEMU does not tell its device tree");
    let bytes = read(&path)?;
    let fdt = Fdt::new(&bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    tree.root.remove_child("pl011@9000000").context("QEMU's virt has another UART")?;
    write(&path, &tree.to_dtb())?;
    let silent = Machine::stasis(image, None).arg("-dtb").arg(&path);
    gives_up(silent, "the device tree has no PL011 or mini UART")
}

pub fn raspi4_gives_guests_memory_above_a_gigabyte(lab: &Lab) -> Result<()> {
    let Board::Raspi4 { device_tree } = raspi4()? else { unreachable!("it was asked for") };
    let bytes = read(&device_tree)?;
    let fdt = Fdt::new(&bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    // QEMU tells of the first 960 MiB alone, by replacing what is called memory. A board's firmware
    // tells of all.
    let mut upper = DeviceTreeNode::new_unchecked("upper@40000000");
    upper.add_property(DeviceTreeProperty::new_unchecked("device_type", "memory"));
    upper.add_property(DeviceTreeProperty::new_unchecked("reg", [0u32, 0x4000_0000, 0x4000_0000]));
    tree.root.add_child(upper);
    let path = lab.path("upper.dtb");
    write(&path, &tree.to_dtb())?;

    // Too large for what is below.
    let large = guest("counter", 1000);
    let setup = lab.machine().board(Board::Raspi4 { device_tree: path });
    let mut stasis = setup.configured(large, Some(lab.guest("counter")?)).boot()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 5)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn a_card_image_boots_and_keeps_checkpoints(lab: &Lab) -> Result<()> {
    let built = Built::get()?;
    let guests = Configuration { guests: vec![guest("idle", 4)], ..Default::default() };
    let archive = xtask::archive::pack(&guests, &[("idle", &lab.guest("idle")?)])?;
    let Board::Raspi4 { device_tree } = raspi4()? else { unreachable!("it was asked for") };
    let files = boot::files(Content::open(&built.image)?, archive.into(), Vec::new(), || {
        Content::open(&device_tree)
    })?;
    let path = lab.path("card.img");
    card::create(&path, CARD, &files, Compression::None)?;

    // What the firmware would load, from the card.
    let archive = fat::read(&path, boot::ARCHIVE)?;
    let (kernel, tree) = (lab.path(boot::KERNEL), lab.path("card.dtb"));
    write(&kernel, &fat::read(&path, boot::KERNEL)?)?;
    write(&tree, &fat::read(&path, "bcm2711-rpi-4-b.dtb")?)?;
    let setup = || {
        let board = Board::Raspi4 { device_tree: tree.clone() };
        lab.machine().board(board).image(&kernel).archive(archive.clone()).disk(&path)
    };
    let mut stasis = setup().boot()?;
    let number = stasis.checkpoint("idle", "on-the-card")?;
    stasis.kill()?;
    let mut stasis = setup().boot()?;
    stasis.resume(number)?;
    stasis.is_alive()?;
    stasis.quit()
}

/// Returns the date of a checkpoint, in seconds since 1970.
fn date(disk: &Path, number: u64) -> Result<u64> {
    let mut file = File::parse(&tamper::get(disk, number)?)?;
    Ok(u64::from_le_bytes(file.register::<Clock>(0, "wall_time")?.try_into()?))
}

pub fn a_counter_crosses_to_raspi4_and_back(lab: &Lab) -> Result<()> {
    let (disk, card, mut model) = (lab.disk()?, card(lab)?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = resume::watch(&mut stasis, &mut model, 5)?;
    let virt = stasis.checkpoint("counter", "virt")?;
    stasis.kill()?;

    let number = carry(&disk, virt, &card)?;
    let mut stasis = machine(lab)?.no_archive().disk(&card).boot()?;
    stasis.resume(number)?;
    let over_there = resume::watch(&mut stasis, &mut model, 5)?;
    resume::follows(&before, &over_there)?;
    let number = stasis.checkpoint("counter", "raspi4")?;
    stasis.kill()?;
    ensure!(date(&disk, virt)? > 1_000_000_000, "QEMU's virt has a clock");
    ensure!(date(&card, number)? == 0, "a board without a clock knows no date");

    // Another board of that kind, after the power was gone.
    let mut stasis = machine(lab)?.no_archive().disk(&card).boot()?;
    stasis.resume(number)?;
    resume::follows(&over_there, &resume::watch(&mut stasis, &mut model, 5)?)?;
    stasis.quit()?;

    let number = carry(&card, number, &disk)?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    resume::follows(&over_there, &resume::watch(&mut stasis, &mut Model::new(), 5)?)?;
    stasis.quit()
}

pub fn linux_crosses_to_virt_and_back(lab: &Lab) -> Result<()> {
    // One image is the card of the one and the disk of the other.
    let (card, mut hashes) = (card(lab)?, Loop::new());
    let setup = linux::machine(lab, 1)?.raspi4()?.time_limit(PATIENCE).disk(&card);
    let (number, last) = linux::store_in_its_loop(setup, &mut hashes, 10, "raspi4")?;

    let go_on =
        |setup: Setup<'_>, number: u64, last: u64, hashes: &mut Loop| -> Result<(Stasis, u64)> {
            let mut stasis = setup.no_archive().disk(&card).time_limit(PATIENCE).boot()?;
            stasis.resume(number)?;
            stasis.attach("linux")?;
            let last = linux::watch(&mut stasis, hashes, last, 10)?;
            Ok((stasis, last))
        };
    let (mut stasis, last) = go_on(lab.machine(), number, last, &mut hashes).context("on virt")?;
    stasis.detach()?;
    let number = stasis.checkpoint("linux", "virt")?;
    stasis.kill()?;
    let (mut stasis, _) = go_on(machine(lab)?, number, last, &mut hashes).context("on raspi4")?;
    linux::shell(&mut stasis, "kill %1; wait")?;
    linux::look_at_dmesg(&mut stasis)?;
    stasis.detach()?;
    stasis.quit()
}
