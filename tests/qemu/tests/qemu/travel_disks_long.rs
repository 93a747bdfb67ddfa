//! Guests with virtio devices that travel: a Linux with a disk and a network card, whose files must
//! be there wherever it goes. These tests run only by their name: `cargo xtask test travel`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::accelerated::Accelerated;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Image, Nested};
use stasis_qemu_tests::plain::Plain;
use stasis_qemu_tests::stasis::{Conversation, Stasis};
use xtask::monitor::Socket;
use xtask::qemu::Machine;
use xtask::workspace::{read, write};

use crate::linux::{look_at_dmesg, shell};
use crate::travel_accelerated_long::Going;
use crate::travel_qemu::{CPU, arrive, tool, word};
use crate::volumes::{self, log_in};

/// The longest time that the Linux runs without Stasis.
const LIFE_TIME: Duration = Duration::from_secs(600);

/// Returns the hash of the first 8 MiB of the guest's disk, as the disk has them.
fn hash(guest: &mut impl Conversation) -> Result<String> {
    shell(guest, "echo 3 > /proc/sys/vm/drop_caches")?;
    let read = "dd if=/dev/vda bs=1M count=8 2> /dev/null";
    line_of_hash(&shell(guest, &format!("{read} | sha256sum | head -c 64; echo"))?)
}

/// Returns the hash among lines.
fn line_of_hash(lines: &[String]) -> Result<String> {
    let hash = lines.iter().map(|line| line.trim()).find(|line| line.len() == 64);
    hash.map(str::to_owned).with_context(|| format!("no hash, but {lines:?}"))
}

/// Writes 2 MiB of random bytes at `at` MiB of the guest's disk, and returns the disk's hash.
fn write_random(guest: &mut impl Conversation, at: u32) -> Result<String> {
    let dd = format!("dd if=/dev/urandom of=/dev/vda bs=1M count=2 seek={at} conv=fsync");
    shell(guest, &format!("{dd} 2> /dev/null"))?;
    hash(guest)
}

/// Boots a Linux with a disk and a card, which writes to its disk, stores it, and ends the machine.
/// Returns the checkpoint's number, and the hash of the guest's disk.
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

/// Checks that the guest's disk has this hash elsewhere, and has the guest write to it. Returns the
/// disk's hash then.
fn changed_there(there: &mut impl Conversation, before: &str) -> Result<String> {
    let found = hash(there)?;
    ensure!(found == before, "the disk is {found}, and was {before}");
    write_random(there, 5)
}

/// Puts a checkpoint with its disks on `disk`, where it is number `number`, and resumes it. Checks
/// that the guest's disk has this hash, and can be written.
fn comes_back(lab: &Lab, disk: &Path, file: &Path, number: u64, changed: &str) -> Result<Stasis> {
    tool(&["checkpoint", "put", word(disk)?, word(file)?, "back", "--disks"])?;
    let mut stasis = arrive(lab, disk, number)?;
    stasis.attach("linux")?;
    let found = hash(&mut stasis)?;
    ensure!(found == changed, "the disk is {found}, and was {changed}");
    write_random(&mut stasis, 1)?;
    Ok(stasis)
}

/// Converts a checkpoint. Returns what `stasis convert qemu` tells of it, and what it says besides,
/// which ends with a command.
fn convert(disk: &Path, number: u64, stream: &Path) -> Result<(String, String)> {
    let words = ["convert", "qemu", word(disk)?, &number.to_string(), "--out", word(stream)?];
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.env(crate::AS_TOOL, "1").args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), said))
}

/// Runs the command that `stasis convert qemu` has printed for a stream.
fn run_printed(lab: &Lab, said: &str, stream: &Path) -> Result<Plain> {
    let (_, options) = said.split_once(" -nic none ").context("it prints no command")?;
    let (options, _) = options.split_once(" -nographic").context("it prints no command")?;
    let machine = Machine::incoming(stream).cpu(CPU).cpus(2).memory("256M");
    let machine = options.split(' ').fold(machine, |machine, option| machine.arg(option));
    lab.plain(machine.time_limit(LIFE_TIME))
}

/// Makes a checkpoint in `file` of a machine that was written to `back`. It has run on the image
/// beside `stream`.
fn from_qemu(stream: &Path, back: &Path, file: &Path, options: &[&str]) -> Result<()> {
    let image = format!("root={}.root.img", word(stream)?);
    let words = ["convert", "from-qemu", word(back)?, "--name", "linux", "--disk", &image];
    tool(&[&words[..], options, &["--out", word(file)?]].concat()).map(drop)
}

pub fn linux_with_a_disk_and_a_card_goes_on_in_qemu_and_comes_back(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let (number, before) = stored(lab, &disk)?;

    let (stream, back) = (lab.path("there.qemu"), lab.path("back.qemu"));
    let (_, said) = convert(&disk, number, &stream)?;
    let mut plain = run_printed(lab, &said, &stream)?;
    let changed = changed_there(&mut plain, &before)?;
    // QEMU's own network answers at this address.
    let ping = shell(&mut plain, "ping -c 3 10.0.2.2")?;
    ensure!(ping.iter().any(|line| line.contains(" 0% packet loss")), "{ping:?}");
    look_at_dmesg(&mut plain)?;
    plain.leave(&back)?;

    let file = lab.path("back.stasis");
    from_qemu(&stream, &back, &file, &["--network", "lan"])?;
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

pub fn linux_with_a_disk_and_a_card_goes_on_in_qemu_with_kvm_and_comes_back(
    lab: &Lab,
) -> Result<()> {
    let disk = lab.disk()?;
    let (number, before) = stored(lab, &disk)?;

    let going = Going { lab, disk, number };
    let mut there = Accelerated::boot(lab, Host::Backports)?;
    going.go(&mut there)?;
    let changed = changed_there(&mut there, &before)?;
    let ping = shell(&mut there, "ping -c 3 10.0.2.2")?;
    ensure!(ping.iter().any(|line| line.contains(" 0% packet loss")), "{ping:?}");
    look_at_dmesg(&mut there)?;
    going.come_back_with_disk_and_card(&mut there, "linux")?;
    drop(there);

    let file = lab.path("back.stasis");
    let mut stasis = comes_back(lab, &going.disk, &file, number + 1, &changed)?;
    look_at_dmesg(&mut stasis)?;
    stasis.kill()
}

/// MiB that the guest writes at once.
const MUCH: u32 = 4;
/// Looks at the requests until there are enough.
const LOOKS: u32 = 200;
/// Makes QEMU's disk so slow that requests wait for it.
const SLOWLY: &str = r#"{"execute": "block_set_io_throttle", "arguments": {"device": "disk0", "iops": 50, "iops_rd": 0, "iops_wr": 0, "bps": 0, "bps_rd": 0, "bps_wr": 0}}"#;

/// Makes a file of random bytes in the guest's memory, and returns their hash.
fn much(guest: &mut impl Conversation, name: &str) -> Result<String> {
    shell(
        guest,
        &format!(
            "mkdir -p /tmp; dd if=/dev/urandom of=/tmp/{name} bs=1M count={MUCH} 2> /dev/null"
        ),
    )?;
    line_of_hash(&shell(guest, &format!("sha256sum < /tmp/{name} | head -c 64; echo"))?)
}

/// Begins to write a file to the guest's disk, at `at` MiB, by requests of 4 KiB.
fn begin_to_write(guest: &mut impl Conversation, name: &str, at: u32) -> Result<()> {
    shell(guest, "echo 4 > /sys/block/vda/queue/max_sectors_kb")?;
    let dd = format!("dd if=/tmp/{name} of=/dev/vda bs=1M seek={at} conv=fsync");
    shell(guest, &format!("{{ ({dd} 2> /dev/null || echo failed > /tmp/failed) & }}")).map(drop)
}

/// Waits until Linux waits for so many requests.
fn waits_for(guest: &mut impl Conversation, requests: u32) -> Result<()> {
    for _ in 0..LOOKS {
        // Reads, and writes.
        let lines = shell(guest, "cat /sys/block/vda/inflight")?;
        let counts = lines.iter().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
        if counts.max().is_some_and(|count: u32| count >= requests) {
            return Ok(());
        }
    }
    anyhow::bail!("Linux never waits for {requests} requests")
}

/// Waits until all is written, and checks that the disk has it at `at` MiB.
fn has_written(guest: &mut impl Conversation, hash: &str, at: u32) -> Result<()> {
    let failed = shell(guest, "wait; cat /tmp/failed 2> /dev/null")?;
    ensure!(failed.iter().all(|line| !line.contains("failed")), "{failed:?}");
    shell(guest, "echo 3 > /proc/sys/vm/drop_caches")?;
    let read = format!("dd if=/dev/vda bs=1M skip={at} count={MUCH} 2> /dev/null");
    let found = line_of_hash(&shell(guest, &format!("{read} | sha256sum | head -c 64; echo"))?)?;
    ensure!(found == hash, "the disk has {found} at {at} MiB, and should have {hash}");
    Ok(())
}

/// Boots a Linux, and stores it while it writes to a disk that is slow. Returns the checkpoint's
/// number, and the hash of what is written.
fn stored_amid_requests(lab: &Lab, disk: &Path) -> Result<(u64, String)> {
    let socket = Socket::new()?;
    let mut stasis = volumes::machine(lab)?.cpus(3).disk(disk).monitor(&socket).boot()?;
    log_in(&mut stasis)?;
    look_at_dmesg(&mut stasis)?;
    let hash = much(&mut stasis, "one")?;
    socket.connect()?.ask(SLOWLY)?;
    begin_to_write(&mut stasis, "one", 0)?;
    waits_for(&mut stasis, 4)?;
    stasis.detach()?;
    let number = stasis.checkpoint("linux", "amid-requests")?;
    stasis.kill()?;
    Ok((number, hash))
}

pub fn linux_that_writes_goes_on_in_qemu_and_comes_back(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let (number, one) = stored_amid_requests(lab, &disk)?;
    let (stream, back, file) =
        (lab.path("there.qemu"), lab.path("back.qemu"), lab.path("back.stasis"));
    let (told, said) = convert(&disk, number, &stream)?;
    let waits = told.contains(" requests of the disk \"root\"");
    ensure!(waits, "there is no request that is not done, but: {told}");
    let mut plain = run_printed(lab, &said, &stream)?;
    has_written(&mut plain, &one, 0)?;
    look_at_dmesg(&mut plain)?;
    // Amid requests again: QEMU finishes those that it has begun.
    let two = much(&mut plain, "two")?;
    begin_to_write(&mut plain, "two", MUCH)?;
    plain.leave(&back)?;

    from_qemu(&stream, &back, &file, &[])?;
    tool(&["checkpoint", "put", word(&disk)?, word(&file)?, "back", "--disks"])?;
    let mut stasis = arrive(lab, &disk, number + 1)?;
    stasis.attach("linux")?;
    has_written(&mut stasis, &two, MUCH)?;
    has_written(&mut stasis, &one, 0)?;
    look_at_dmesg(&mut stasis)?;
    stasis.kill()
}
