//! A guest with a virtio device that goes on while its memory is loaded: its devices wait for all
//! of it, and the guest does not.

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

/// Limits the machine's disk to so many requests, and to so many bytes, in a second. 0 is no limit.
fn limit(monitor: &mut Monitor, requests: u32, bytes: u32) -> Result<()> {
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

pub fn a_guest_takes_what_is_typed_while_its_devices_wait_for_its_memory(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    stasis.attach(GUEST)?;
    stasis.qemu.console.wait_for("requests begin", SILENCE)?;
    stasis.qemu.console.send(b"R")?;
    answers(&mut stasis, 'R', 1)?;
    stasis.detach()?;
    let number = stasis.checkpoint(GUEST, "has-read")?;
    stasis.kill()?;

    let socket = Socket::new()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).monitor(&socket).boot()?;
    let mut monitor = socket.connect()?;
    stasis.resume(number)?;
    limit(&mut monitor, 4, 0)?;
    stasis.attach(GUEST)?;
    stasis.qemu.console.send(b"n")?;
    answers(&mut stasis, 'n', 1)?;
    // The guest has all that it needs. What it lacks does not come for hours.
    limit(&mut monitor, 0, 1)?;
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
    stasis.detach()?;
    ensure!(to_load(&mut stasis, GUEST)? > 0, "all of the guest's memory was loaded too early");
    stasis.kill()
}
