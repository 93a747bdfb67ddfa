//! A real gdb on a Linux with two vCPUs, by name alone: on a slow host it has not ended within its time.

use anyhow::{Result, ensure};
use stasis_qemu_tests::lab::Lab;
use xtask::qemu::ChannelSocket;

use crate::debug::{gdb, has};
use crate::linux::{machine, shell};

pub fn gdb_sees_both_vcpus_of_a_linux_and_interrupts_it(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let mut stasis = machine(lab, 2)?.channel(&socket).boot()?;
    stasis.attach("linux")?;
    shell(&mut stasis, "true")?;
    let said = gdb(
        &socket,
        "linux",
        None,
        &[
            "info threads",
            "thread 2",
            "p/x $ttbr1_el1 != 0",
            "x/2i $pc",
            "set $wanted = $vbar_el1 + 0x280",
            "hbreak *$wanted",
            "continue",
            "p $pc == $wanted",
            "delete",
            "stepi",
            "p $pc == $wanted",
            "detach",
        ],
    )?;
    has(&said, &["Thread 1.2 (vCPU)", "$1 = 0x1", "=> 0xffff", "$2 = 1", "$3 = 0", "detached"])?;
    let lines = shell(&mut stasis, "echo still $((6*7))")?;
    ensure!(lines.iter().any(|line| line.contains("still 42")), "{lines:#?}");
    stasis.detach()?;
    stasis.quit()
}
