//! Networks under load. Run by name: `cargo xtask test network_long`.

use anyhow::{Result, ensure};
use stasis_qemu_tests::lab::Lab;

use crate::network::{at, boot, is_the_same, listen, lost, machine, reaches, send};

/// Each of four guests sends to the next one and gets from the one before, all at once, on two
/// cores.
pub fn four_guests_send_to_each_other_all_at_once(lab: &Lab) -> Result<()> {
    let names = ["one", "two", "three", "four"];
    let mut stasis = boot(machine(lab, &names)?, &names, 8 << 20)?;
    for (n, name) in names.iter().enumerate() {
        listen(&mut stasis, name, 5000 + n as u16, "")?;
    }
    for (n, name) in names.iter().enumerate() {
        let to = (n + 1) % names.len();
        send(&mut stasis, name, to + 1, 5000 + to as u16)?;
    }
    for (n, name) in names.iter().enumerate() {
        let to = (n + 1) % names.len();
        is_the_same(&mut stasis, name, names[to], 5000 + to as u16)?;
    }
    for line in stasis.command("network")? {
        println!("{line}");
    }
    stasis.quit()
}

/// A guest that reads 64 KiB ten times a second, and one that stands still for seconds in the
/// midst, get all in the end; and nobody else waits for them.
pub fn who_reads_slowly_or_stands_still_gets_all_and_holds_up_nobody(lab: &Lab) -> Result<()> {
    // `head -c` would read ahead, and take what it does not print.
    const SLOWLY: &str = "| while dd bs=64k count=1 iflag=fullblock of=/tmp/p 2> /dev/null && [ -s /tmp/p ]; \
                          do cat /tmp/p; sleep 0.1; done";
    let names = ["one", "two", "three"];
    let mut stasis = boot(machine(lab, &names)?, &names, 8 << 20)?;
    listen(&mut stasis, "two", 5000, SLOWLY)?;
    send(&mut stasis, "one", 2, 5000)?;
    ensure!(reaches(&mut stasis, "three", "10.0.0.1")?, "the sender waits for its receiver");
    stasis.command("pause two")?;
    ensure!(reaches(&mut stasis, "three", "10.0.0.1")?, "the sender waits for one that is paused");
    // What is sent for all goes on, too: it would wait behind what is for the one that is paused.
    let flood = "for n in 1 2 3 4 5 6; do ping -c 1 -W 1 10.0.0.99 > /dev/null; done; echo done";
    ensure!(at(&mut stasis, "one", flood)? == "done", "the sender does not answer");
    ensure!(lost(&mut stasis, "two")? > 0, "nothing came for the one that was paused");
    stasis.command("unpause two")?;
    is_the_same(&mut stasis, "one", "two", 5000)?;
    stasis.quit()
}
