//! The longer ways between Stasis and plain QEMU: inside of interrupt handlers, with SGIs in
//! flight, with Linux, and by another board. These tests run only by their name: `cargo xtask test
//! travel`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{same, ticks, transcript};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Conversation, Stasis};
use xtask::initramfs::{self, Loop};
use xtask::qemu::Machine;
use xtask::setup;
use xtask::workspace::write;

use crate::handlers::{Stored, answer};
use crate::travel_qemu::{CPU, arrive, is_as_it_went_through_qemu, to_plain, to_stasis};
use crate::{board, handlers, linux, resume, sgis};

/// The longest time that a Linux runs without Stasis.
const LINUX_TIME: Duration = Duration::from_secs(900);

pub fn every_point_of_handler_prints_in_qemu_what_it_prints_in_stasis(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let Stored { lines, points } = handlers::stored_at_each_point(lab, &disk)?;
    let mut compared = 0;
    for (printed, number) in points {
        let mut plain = to_plain(lab, &disk, number, 1, "32M")?;
        plain.console().send(b"x")?;
        let found = transcript(plain.console(), answer).with_context(|| format!("{number}"))?;
        compared += found.len();
        let what = || format!("from the point behind \"{}\"", lines[printed - 1]);
        same(&lines[printed..], &found).with_context(what)?;
    }
    ensure!(compared > 1000, "only {compared} lines");
    Ok(())
}

pub fn every_point_of_handler_comes_back_from_qemu_as_it_went(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    for (printed, number) in handlers::stored_at_each_point(lab, &disk)?.points {
        is_as_it_went_through_qemu(lab, &disk, number, 1, "32M")
            .with_context(|| format!("behind line {printed}"))?;
    }
    Ok(())
}

pub fn two_vcpus_come_back_from_qemu_as_they_went(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = sgis::machine(lab)?.disk(&disk).boot()?;
    stasis.attach("ipi")?;
    let (mut taken, mut numbers) = (0, Vec::new());
    for n in 0..5 {
        taken = sgis::some(&mut stasis.qemu.console, taken, 1)?;
        stasis.detach()?;
        numbers.push(stasis.checkpoint("ipi", &format!("amid-sgis-{n}"))?);
        stasis.attach("ipi")?;
    }
    stasis.kill()?;
    for number in numbers {
        is_as_it_went_through_qemu(lab, &disk, number, 2, "32M")?;
    }
    let setup = linux::machine(lab, 2)?.cpus(3).disk(&disk);
    let (number, _) = linux::store_in_its_loop(setup, &mut Loop::new(), 5, "in-the-loop")?;
    is_as_it_went_through_qemu(lab, &disk, number, 2, "256M")
}

pub fn two_vcpus_amid_their_sgis_go_on_in_qemu_to_their_end(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = sgis::machine(lab)?.disk(&disk).boot()?;
    stasis.attach("ipi")?;
    sgis::some(&mut stasis.qemu.console, 0, 3)?;
    stasis.detach()?;
    let number = stasis.checkpoint("ipi", "amid-sgis")?;
    stasis.kill()?;
    let mut plain = to_plain(lab, &disk, number, 2, "32M")?;
    sgis::all_are_taken(plain.console())
}

pub fn a_counter_goes_from_raspi4_to_qemu_and_back(lab: &Lab) -> Result<()> {
    let (card, mut model) = (board::card(lab)?, Model::new());
    let mut stasis = board::machine(lab)?.guest("counter")?.disk(&card).boot()?;
    let before = resume::watch(&mut stasis, &mut model, 5)?;
    let number = stasis.checkpoint("counter", "raspi4")?;
    stasis.kill()?;
    let mut plain = to_plain(lab, &card, number, 1, "32M")?;
    let over_there = ticks(plain.console(), &mut model, 20)?;
    resume::follows(&before, &over_there)?;
    let number = to_stasis(lab, plain, "counter", &card)?;
    let mut stasis = board::machine(lab)?.no_archive().disk(&card).boot()?;
    stasis.resume(format!("{number}{}", board::WHOLE))?;
    resume::follows(&over_there, &resume::watch(&mut stasis, &mut model, 10)?)?;
    stasis.quit()
}

/// Brings a Linux whose loop runs to Stasis, and looks at it there. `last` is the last step that
/// was seen.
pub fn linux_in_stasis(
    lab: &Lab,
    disk: &Path,
    number: u64,
    hashes: &mut Loop,
    last: u64,
) -> Result<Stasis> {
    let mut stasis = arrive(lab, disk, number)?;
    linux_is_well(&mut stasis, hashes, last)?;
    Ok(stasis)
}

/// Looks at a Linux that has come to Stasis, and ends its loop. `last` is the last step that was
/// seen.
fn linux_is_well(stasis: &mut Stasis, hashes: &mut Loop, last: u64) -> Result<()> {
    stasis.attach("linux")?;
    linux::watch(stasis, hashes, last, 10)?;
    linux::shell(stasis, "kill %1; wait")?;
    linux::dmesg_is_silent(stasis)
}

pub fn linux_with_two_vcpus_goes_on_in_qemu_and_comes_back(lab: &Lab) -> Result<()> {
    let (disk, mut hashes) = (lab.disk()?, Loop::new());
    let setup = linux::machine(lab, 2)?.cpus(3).disk(&disk);
    let (number, last) = linux::store_in_its_loop(setup, &mut hashes, 5, "in-the-loop")?;

    let mut plain = to_plain(lab, &disk, number, 2, "256M")?;
    let last = linux::watch(&mut plain, &mut hashes, last, 10)?;
    let seen = linux::shell(&mut plain, "grep -c ^processor /proc/cpuinfo")?;
    ensure!(seen.iter().any(|line| line.trim() == "2"), "it has {seen:?} CPUs");
    linux::dmesg_is_silent(&mut plain)?;
    let number = to_stasis(lab, plain, "linux", &disk)?;
    linux_in_stasis(lab, &disk, number, &mut hashes, last)?.kill()
}

pub fn linux_with_two_vcpus_goes_from_raspi4_to_qemu_and_back(lab: &Lab) -> Result<()> {
    let (card, mut hashes) = (board::card(lab)?, Loop::new());
    let setup = linux::machine(lab, 2)?.raspi4()?.time_limit(board::PATIENCE).disk(&card);
    let (number, last) = linux::store_in_its_loop(setup, &mut hashes, 5, "raspi4")?;
    let mut plain = to_plain(lab, &card, number, 2, "256M")?;
    let last = linux::watch(&mut plain, &mut hashes, last, 10)?;
    linux::dmesg_is_silent(&mut plain)?;
    let number = to_stasis(lab, plain, "linux", &card)?;
    let mut stasis = board::machine(lab)?.no_archive().disk(&card).boot()?;
    stasis.resume(format!("{number}{}", board::WHOLE))?;
    linux_is_well(&mut stasis, &mut hashes, last)?;
    stasis.kill()
}

pub fn linux_that_began_in_qemu_goes_on_in_stasis(lab: &Lab) -> Result<()> {
    let (disk, mut hashes) = (lab.disk()?, Loop::new());
    let workspace = &Built::get()?.workspace;
    let initrd = lab.path("initramfs");
    write(&initrd, &initramfs::make(workspace)?)?;
    let machine = Machine::plain(setup::guests::ensure(workspace)?.kernel, Some(&initrd));
    let machine = machine.cpu(CPU).cpus(2).memory("256M").cmdline("console=ttyAMA0");
    let mut plain = lab.plain(machine.time_limit(LINUX_TIME))?;
    plain.console().wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    linux::shell(&mut plain, "dmesg -c > /dev/null")?;
    plain.console().send_line("loop &")?;
    let last = linux::watch(&mut plain, &mut hashes, 0, 5)?;
    let number = to_stasis(lab, plain, "linux", &disk)?;
    linux_in_stasis(lab, &disk, number, &mut hashes, last)?.kill()
}
