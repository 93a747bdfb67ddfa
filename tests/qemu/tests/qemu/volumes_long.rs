//! What takes minutes with disks of guests. Run by name: `cargo xtask test volumes_long`.

use anyhow::{Result, ensure};
use stasis_host::config::Policy;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;

use crate::linux::{BOOT_TIME, shell};
use crate::virtio::line;
use crate::volumes::{log_in, machine, no_request_has_failed, write};

/// Both read as much of their disks as the machine has memory for one.
pub fn a_clone_that_has_no_memory_for_what_its_disk_reads_waits_and_goes_on(
    lab: &Lab,
) -> Result<()> {
    // Not by `head`, nor from `yes`: as applets that busybox's shell runs in itself, both write
    // each line by itself, as to the terminal, and Linux reads each page of a disk before it writes
    // a part of it. 96 MiB took more than eight minutes so, here and on plain QEMU.
    const READ: &str = "dd if=/dev/vda bs=64k count=1536 2> /dev/null | md5sum";
    let disk = lab.disk_of(1 << 30)?;
    let setup = machine(lab)?.change("linux", |guest| guest.disks[0].size = 256 << 20);
    let mut stasis = setup.memory("424M").disk(&disk).boot()?;
    log_in(&mut stasis)?;
    write(&mut stasis, 96, 0, "conv=fsync")?;
    let expected = line(&mut stasis, READ)?;
    shell(&mut stasis, "echo 3 > /proc/sys/vm/drop_caches")?;
    stasis.detach()?;
    stasis.command("clone linux as twin")?;
    for name in ["linux", "twin"] {
        stasis.attach(name)?;
        let read = format!("(sleep 1; {READ} > /tmp/read) & echo begun");
        ensure!(line(&mut stasis, &read)? == "begun", "the shell does not answer");
        stasis.detach()?;
    }
    stasis.qemu.console.wait_for("waits: no memory is free for what it writes", BOOT_TIME)?;
    let waits = |stasis: &mut Stasis, name: &str| -> Result<bool> {
        let lines = stasis.command("guests")?;
        Ok(lines.iter().any(|line| line.contains(name) && line.contains("waiting")))
    };
    let (ends, stays) = match waits(&mut stasis, "twin")? {
        true => ("linux", "twin"),
        false => ("twin", "linux"),
    };
    stasis.command(&format!("stop {ends}"))?;
    stasis.command(&format!("remove {ends}"))?;
    stasis.attach(stays)?;
    let wait = "until [ -s /tmp/read ]; do sleep 1; done; cat /tmp/read";
    let found = line(&mut stasis, wait)?;
    ensure!(found == expected, "{found} was read, and {expected} is there");
    no_request_has_failed(&mut stasis)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn a_disk_that_was_brought_back_without_a_person_is_said_with_what_it_had_become(
    lab: &Lab,
) -> Result<()> {
    let disk = lab.disk()?;
    let setup = machine(lab)?.change("linux", |guest| guest.on_reset = Policy::Resume);
    let mut stasis = setup.disk(&disk).boot()?;
    log_in(&mut stasis)?;
    stasis.detach()?;
    stasis.checkpoint("linux", "safe")?;
    stasis.attach("linux")?;
    shell(&mut stasis, "dd if=/dev/urandom of=/dev/vda bs=64k count=4 conv=fsync 2> /dev/null")?;
    stasis.qemu.console.send_line("reboot -f")?;
    let said = "what it had become is volume \"root-recovered-1\"";
    stasis.qemu.console.wait_for(said, BOOT_TIME)?;
    stasis.detach()?;
    let list = stasis.command("volume list")?.join("\n");
    ensure!(list.contains("root-recovered-1"), "{list}");
    stasis.quit()
}
