//! Guests with virtio devices that go on while their memory is loaded: a device waits for what it
//! needs of it, and for no more, and the guest does not wait for its device.

use anyhow::{Result, ensure};
use stasis_host::config::DiskConfig;
use stasis_qemu_tests::guests::{SILENCE, sound};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use xtask::monitor::{Monitor, Socket};

use crate::on_demand::to_load;

/// Drives a disk, and answers each byte that is typed.
pub const GUEST: &str = "requests";
/// Bytes of the guest's disk, all of which it reads at once. The last MiB stays in its memory, and
/// it never looks at that again.
pub const DISK: usize = 4 << 20;
/// More bytes than there is room for in the FIFO of a PL011, so some wait until the guest has taken
/// others. The guest does nothing for them.
const TYPED: usize = 60;

/// Requests in a second that a disk takes which is all but still.
const SLOW: u32 = 1;

/// Limits the machine's disk to so many requests, and to so many bytes, in a second. 0 is no limit.
pub fn limit(monitor: &mut Monitor, requests: u32, bytes: u32) -> Result<()> {
    let rest = r#""iops_rd": 0, "iops_wr": 0, "bps_rd": 0, "bps_wr": 0"#;
    monitor
        .ask(&format!(
            r#"{{"execute": "block_set_io_throttle", "arguments": {{"device": "disk0", "iops": {requests}, "bps": {bytes}, {rest}}}}}"#
        ))
        .map(drop)
}

/// Returns a machine whose guest has a disk on which each page differs from the others.
pub fn machine(lab: &Lab) -> Result<Setup<'_>> {
    let image = (0..DISK as u64 / 8).flat_map(u64::to_le_bytes).collect();
    let mut config = guest(GUEST, 32);
    let from = Some("image".to_owned());
    config.disks = vec![DiskConfig { volume: "data".to_owned(), size: DISK as u64, from }];
    Ok(lab.machine().file("image", image).configured(config, Some(lab.guest(GUEST)?)))
}

/// Waits until the guest has answered this byte so many times.
pub fn answers(stasis: &mut Stasis, byte: char, times: usize) -> Result<()> {
    let answer = format!("requests {byte} done");
    for _ in 0..times {
        stasis.qemu.console.find_line("the guest's answer", SILENCE, |line| {
            sound(line).map(|()| (line == answer).then_some(())).transpose()
        })??;
    }
    Ok(())
}

/// Stores a guest that has read all of its disk, and resumes it on another machine, whose disk is
/// slow, and then slower: the guest has all that it needs for itself by then, and what it has read
/// takes a minute. A request that takes much longer is a disk that has failed.
fn resume_slowly(lab: &Lab) -> Result<(Stasis, Monitor)> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    stasis.attach(GUEST)?;
    stasis.qemu.console.wait_for("requests begin", SILENCE)?;
    stasis.qemu.console.send(b"b")?;
    answers(&mut stasis, 'b', 1)?;
    stasis.detach()?;
    let number = stasis.checkpoint(GUEST, "has-read")?;
    stasis.kill()?;

    let socket = Socket::new()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).monitor(&socket).boot()?;
    let mut monitor = socket.connect()?;
    stasis.resume(number)?;
    limit(&mut monitor, 8, 0)?;
    stasis.attach(GUEST)?;
    stasis.qemu.console.send(b"n")?;
    answers(&mut stasis, 'n', 1)?;
    limit(&mut monitor, SLOW, 0)?;
    Ok((stasis, monitor))
}

/// The guest asks its disk for what has no place yet, and hears of it when its place is there, of
/// which three times as much follows. What is typed meanwhile, it takes.
pub fn a_disk_is_read_and_what_is_typed_is_taken_before_all_memory_is_there(
    lab: &Lab,
) -> Result<()> {
    let (mut stasis, mut monitor) = resume_slowly(lab)?;
    stasis.qemu.console.send(b"p")?;
    answers(&mut stasis, 'p', 1)?;
    stasis.detach()?;
    stasis.command(&format!("pause {GUEST}"))?;
    stasis.attach(GUEST)?;
    stasis.qemu.console.send(&[b'x'; TYPED])?;
    stasis.detach()?;
    stasis.command(&format!("unpause {GUEST}"))?;
    stasis.attach(GUEST)?;
    // The guest takes this when it has taken all before.
    stasis.qemu.console.send(b"n")?;
    answers(&mut stasis, 'n', 1)?;

    limit(&mut monitor, 12, 0)?;
    stasis.qemu.console.send(b"q")?;
    answers(&mut stasis, 'q', 1)?;
    limit(&mut monitor, SLOW, 0)?;
    stasis.detach()?;
    let left = to_load(&mut stasis, GUEST)?;
    println!("{left} bytes are still to be loaded");
    ensure!(left > 0, "all of the guest's memory was loaded too early");
    stasis.kill()
}
