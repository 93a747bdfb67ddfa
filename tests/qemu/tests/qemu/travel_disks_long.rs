//! Guests with virtio devices that travel: a Linux with a disk and a network card, whose files must be there wherever it goes.
//! These tests run only by their name: `cargo xtask test travel`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Image, Nested};
use stasis_qemu_tests::plain::Plain;
use stasis_qemu_tests::stasis::{Conversation, Stasis};
use xtask::qemu::Machine;
use xtask::workspace::{read, write};

use crate::linux::{look_at_dmesg, shell};
use crate::travel_qemu::{CPU, arrive, tool, word};
use crate::volumes::{self, log_in};

/// The longest time that the Linux runs without Stasis.
const LIFE_TIME: Duration = Duration::from_secs(600);

/// Returns the hash of the first 8 MiB of the guest's disk, as the disk has them.
fn hash(guest: &mut impl Conversation) -> Result<String> {
    shell(guest, "echo 3 > /proc/sys/vm/drop_caches")?;
    let read = "dd if=/dev/vda bs=1M count=8 2> /dev/null";
    let lines = shell(guest, &format!("{read} | sha256sum | head -c 64; echo"))?;
    let hash = lines.iter().map(|line| line.trim()).find(|line| line.len() == 64);
    hash.map(str::to_owned).with_context(|| format!("no hash, but {lines:?}"))
}

/// Writes 2 MiB of random bytes at `at` MiB of the guest's disk, and returns the disk's hash.
fn write_random(guest: &mut impl Conversation, at: u32) -> Result<String> {
    let dd = format!("dd if=/dev/urandom of=/dev/vda bs=1M count=2 seek={at} conv=fsync");
    shell(guest, &format!("{dd} 2> /dev/null"))?;
    hash(guest)
}

/// Boots a Linux with a disk and a card, which writes to its disk, stores it, and ends the machine. Returns the checkpoint's number, and the hash of the guest's disk.
fn stored(lab: &Lab, disk: &Path) -> Result<(u64, String)> {
    let edit = |config: &mut stasis_host::config::GuestConfig| {
        config.networks = vec!["lan".to_owned()];
    };
    let mut stasis = volumes::machine_with(lab, edit)?.cpus(3).disk(disk).boot()?;
    log_in(&mut stasis)?;
    shell(&mut stasis, "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up")?;
    look_at_dmesg(&mut stasis)?;
    let hash = write_random(&mut stasis, 2)?;
    stasis.detach()?;
    let number = stasis.checkpoint("linux", "with-a-disk")?;
    stasis.kill()?;
    Ok((number, hash))
}

/// Checks that the guest's disk has this hash elsewhere, and has the guest write to it. Returns the disk's hash then.
fn changed_there(there: &mut impl Conversation, before: &str) -> Result<String> {
    let found = hash(there)?;
    ensure!(found == before, "the disk is {found}, and was {before}");
    write_random(there, 5)
}

/// Puts a checkpoint with its disks on `disk`, where it is number `number`, and resumes it. Checks that the guest's disk has this hash, and can be written.
fn comes_back(lab: &Lab, disk: &Path, file: &Path, number: u64, changed: &str) -> Result<Stasis> {
    tool(&["checkpoint", "put", word(disk)?, word(file)?, "back", "--disks"])?;
    let mut stasis = arrive(lab, disk, number)?;
    stasis.attach("linux")?;
    let found = hash(&mut stasis)?;
    ensure!(found == changed, "the disk is {found}, and was {changed}");
    write_random(&mut stasis, 1)?;
    Ok(stasis)
}

/// Runs the command that `stasis convert qemu` prints.
fn run_printed(lab: &Lab, disk: &Path, number: u64, stream: &Path) -> Result<Plain> {
    let words = ["convert", "qemu", word(disk)?, &number.to_string(), "--out", word(stream)?];
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.env(crate::AS_TOOL, "1").args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    let (_, options) = said.split_once(" -nic none ").context("it prints no command")?;
    let (options, _) = options.split_once(" -nographic").context("it prints no command")?;
    let machine = Machine::incoming(stream).cpu(CPU).cpus(2).memory("256M");
    let machine = options.split(' ').fold(machine, |machine, option| machine.arg(option));
    lab.plain(machine.time_limit(LIFE_TIME))
}

pub fn linux_with_a_disk_and_a_card_goes_on_in_qemu_and_comes_back(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let (number, before) = stored(lab, &disk)?;

    let (stream, back) = (lab.path("there.qemu"), lab.path("back.qemu"));
    let mut plain = run_printed(lab, &disk, number, &stream)?;
    let changed = changed_there(&mut plain, &before)?;
    // QEMU's own network answers at this address.
    let ping = shell(&mut plain, "ping -c 3 10.0.2.2")?;
    ensure!(ping.iter().any(|line| line.contains(" 0% packet loss")), "{ping:?}");
    look_at_dmesg(&mut plain)?;
    plain.leave(&back)?;

    let file = lab.path("back.stasis");
    let image = format!("root={}.root.img", word(&stream)?);
    tool(&[
        "convert",
        "from-qemu",
        word(&back)?,
        "--name",
        "linux",
        "--disk",
        &image,
        "--network",
        "lan",
        "--out",
        word(&file)?,
    ])?;
    let mut stasis = comes_back(lab, &disk, &file, number + 1, &changed)?;
    let carrier = shell(&mut stasis, "cat /sys/class/net/eth0/carrier")?;
    ensure!(carrier.iter().any(|line| line.trim() == "1"), "{carrier:?}");
    look_at_dmesg(&mut stasis)?;
    stasis.kill()
}

pub fn linux_with_a_disk_goes_on_on_a_kvm_and_comes_back(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let (number, before) = stored(lab, &disk)?;
    let file = lab.path("there.stasis");
    tool(&["checkpoint", "get", word(&disk)?, &number.to_string(), word(&file)?, "--disks"])?;
    let image = format!("{}.root.img", word(&file)?);

    let volume = "root".to_owned();
    let brought = Image { volume, bytes: read(Path::new(&image))? };
    let mut nested = Nested::boot_with(lab, Host::Backports, &[read(&file)?], Some(brought))?;
    nested.run(0)?;
    let changed = changed_there(&mut nested, &before)?;
    look_at_dmesg(&mut nested)?;
    let bytes = nested.leave(0)?;
    write(&file, &bytes)?;
    write(Path::new(&image), &nested.image()?)?;
    drop(nested);

    let mut stasis = comes_back(lab, &disk, &file, number + 1, &changed)?;
    look_at_dmesg(&mut stasis)?;
    stasis.kill()
}
