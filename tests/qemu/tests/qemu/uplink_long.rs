//! A guest that serves pages to the host over an uplink, and is resumed in its place between any
//! two of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::lab::Lab;
use xtask::initramfs;
use xtask::page;
use xtask::qemu::UPLINK;

use crate::linux::{BOOT_TIME, shell};
use crate::network::machine;
use crate::on_demand::to_load;
use crate::uplink::lan;

/// Resumes.
const ROUNDS: u64 = 40;
/// Pages that are fetched after each.
const PAGES: usize = 4;

/// Each page is asked for in a connection of its own, the first of them while the guest's memory is
/// loaded. QEMU's network sends a request that got lost again after a minute, when the server has
/// given up.
pub fn pages_come_after_each_of_many_resumes(lab: &Lab) -> Result<()> {
    let guest_port = page::free_port()?;
    let netdev = format!("user,hostfwd=tcp:127.0.0.1:{guest_port}-:80");
    let machine = machine(lab, &["one"])?.disk(&lab.disk()?).network(lan(UPLINK));
    let machine = machine.network_card(&netdev);
    let mut stasis = machine.time_limit(Duration::from_secs(3600)).boot()?;
    stasis.attach("one")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    shell(&mut stasis, "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up")?;
    shell(&mut stasis, "ip route add default via 10.0.2.2; httpd -p 80 -h /tmp")?;
    shell(&mut stasis, "dd if=/dev/urandom of=/tmp/page bs=1k count=64 2> /dev/null")?;
    stasis.detach()?;
    let page = page::fetch(guest_port, "/page")?;
    ensure!(page.len() == 64 << 10, "a page of {} bytes", page.len());
    for round in 1..=ROUNDS {
        let number = stasis.checkpoint("one", "online")?;
        stasis.resume(number)?;
        for n in 0..PAGES {
            let began = Instant::now();
            let came = page::fetch(guest_port, "/page");
            let came = came.with_context(|| format!("page {n} after resume {round}"))?;
            ensure!(came == page, "page {n} after resume {round} is another one");
            println!("resume {round}, page {n}: {:?}", began.elapsed());
        }
        // The pages have come before all of it was loaded.
        while to_load(&mut stasis, "one")? > 0 {}
        stasis.command(&format!("delete {number}"))?;
    }
    stasis.quit()
}
