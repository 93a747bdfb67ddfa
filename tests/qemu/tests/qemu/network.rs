//! Guests with cards in one network: an unmodified Linux each.
//!
//! What is sent is compared by its SHA-256. A receiver's `nc` ends when all has come, so it must
//! not end by itself before: busybox's ends a connection as soon as its own input has ended, and
//! what its peer has not sent yet is lost. So it gets an input that does not end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::numbers;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use xtask::initramfs;
use xtask::setup;
use xtask::workspace::read;

use crate::linux::{BOOT_TIME, shell};
use crate::virtio::line;

/// Seconds of the guest within which a transfer must end.
const PATIENCE: u32 = 60;

/// Returns the configuration of a Linux with a card in the network `lan`.
pub fn neighbour(name: &str) -> GuestConfig {
    let mut config = guest(name, 128);
    config.initrd = Some("initramfs".to_owned());
    config.cmdline = "console=ttyAMA0".to_owned();
    config.networks = vec!["lan".to_owned()];
    config.image = "kernel".to_owned();
    config
}

/// Returns a machine with these guests.
pub fn machine<'l>(lab: &'l Lab, names: &[&str]) -> Result<Setup<'l>> {
    let workspace = &Built::get()?.workspace;
    let initramfs = initramfs::make_with_virtio(workspace)?;
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    let machine = lab.machine().file("initramfs", initramfs).file("kernel", kernel).memory("1G");
    let add = |machine: Setup<'l>, name: &&str| machine.configured(neighbour(name), None);
    Ok(names.iter().fold(machine, add))
}

/// Boots the guests, of which number `n` gets the address `10.0.0.n`, counted from 1, and has some
/// bytes to send in `/tmp/a`. None is attached then.
pub fn boot(setup: Setup<'_>, names: &[&str], bytes: u32) -> Result<Stasis> {
    let mut stasis = setup.time_limit(Duration::from_secs(900)).boot()?;
    for (n, name) in (1..).zip(names) {
        stasis.attach(name)?;
        stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
        shell(&mut stasis, &format!("ip addr add 10.0.0.{n}/24 dev eth0; ip link set eth0 up"))?;
        shell(&mut stasis, &format!("head -c {bytes} /dev/urandom > /tmp/a"))?;
        stasis.detach()?;
    }
    Ok(stasis)
}

/// Runs a command in a guest: its last line.
pub fn at(stasis: &mut Stasis, guest: &str, command: &str) -> Result<String> {
    stasis.attach(guest)?;
    let said = line(stasis, command)?;
    stasis.detach()?;
    Ok(said)
}

/// Lets a guest listen, in the background, at a port. What comes goes through `filter`.
pub fn listen(stasis: &mut Stasis, guest: &str, port: u16, filter: &str) -> Result<()> {
    let listen = format!(
        "(tail -f /dev/null | nc -l -p {port} {filter} | sha256sum > /tmp/{port} &); echo {port}"
    );
    at(stasis, guest, &listen).map(drop)
}

/// Lets a guest send `/tmp/a` to `10.0.0.n`, in the background.
pub fn send(stasis: &mut Stasis, guest: &str, n: usize, port: u16) -> Result<()> {
    let send = format!("(nc 10.0.0.{n} {port} < /tmp/a &); echo {port}");
    at(stasis, guest, &send).map(drop)
}

/// Waits for what comes at a port of `to`, and makes sure that it is what `from` has in `/tmp/a`.
pub fn is_the_same(stasis: &mut Stasis, from: &str, to: &str, port: u16) -> Result<()> {
    let sent = at(stasis, from, "sha256sum < /tmp/a")?;
    let wait = format!(
        "n=0; until [ -s /tmp/{port} ] || [ $n = {PATIENCE} ]; do sleep 1; n=$((n+1)); done; \
         cat /tmp/{port}; [ -s /tmp/{port} ] || echo nothing"
    );
    let came = at(stasis, to, &wait)?;
    ensure!(came == sent, "{from} has sent {sent}, and to {to} came {came}");
    Ok(())
}

/// Returns whether a guest gets an answer to a ping from an address, of which it tries some: a
/// frame may be lost.
pub fn reaches(stasis: &mut Stasis, guest: &str, address: &str) -> Result<bool> {
    let ping = format!("ping -c 4 -W 4 {address} | grep -c 'bytes from'");
    Ok(at(stasis, guest, &ping)? != "0")
}

/// Returns how many frames that came for a guest were lost.
pub fn lost(stasis: &mut Stasis, guest: &str) -> Result<u64> {
    let lines = stasis.command("network --json")?;
    let line = lines.iter().find(|line| line.contains(&format!("\"guest\":\"{guest}\"")));
    let after = line.and_then(|line| line.split_once("\"lost\":"));
    let (_, number) = after.with_context(|| format!("{guest} has no card: {lines:?}"))?;
    numbers(number).first().copied().context("no number")
}

pub fn two_guests_send_each_other_all_and_neither_has_the_others_address(lab: &Lab) -> Result<()> {
    let names = ["one", "two"];
    let disk = lab.disk()?;
    let mut stasis = boot(machine(lab, &names)?.disk(&disk), &names, 8 << 20)?;
    ensure!(reaches(&mut stasis, "two", "10.0.0.1")?, "the guests do not talk");
    listen(&mut stasis, "one", 5000, "")?;
    listen(&mut stasis, "two", 5001, "")?;
    send(&mut stasis, "one", 2, 5001)?;
    send(&mut stasis, "two", 1, 5000)?;
    is_the_same(&mut stasis, "one", "two", 5001)?;
    is_the_same(&mut stasis, "two", "one", 5000)?;
    for line in stasis.command("network")? {
        println!("{line}");
    }

    // Without a link there is nothing, and with one all is as before.
    stasis.command("network down one")?;
    let carrier = at(&mut stasis, "one", "cat /sys/class/net/eth0/carrier")?;
    ensure!(carrier == "0", "the guest sees a carrier of {carrier}");
    ensure!(!reaches(&mut stasis, "two", "10.0.0.1")?, "they talk without a link");
    stasis.command("network up one")?;
    ensure!(reaches(&mut stasis, "two", "10.0.0.1")?, "the link does not come up");

    // What was stored goes on, and its neighbours hear of it: an announcement is all that one of
    // them gets, which has asked for nothing.
    let forget = "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_accept; ip neigh flush dev eth0";
    at(&mut stasis, "one", &format!("{forget}; echo on"))?;
    let number = stasis.checkpoint("two", "talking")?;
    let knows = "ip neigh show dev eth0 | grep -c '^10.0.0.2 .*lladdr'";
    let known = at(&mut stasis, "one", knows)?;
    ensure!(known == "0", "the neighbour knows the guest already");
    stasis.resume(number)?;
    let wait = format!(
        "n=0; until ip neigh show dev eth0 | grep -q '^10.0.0.2 .*lladdr' || [ $n = {PATIENCE} ]; \
         do sleep 1; n=$((n+1)); done; {knows}"
    );
    let known = at(&mut stasis, "one", &wait)?;
    ensure!(known == "1", "the guest has not announced itself");
    ensure!(reaches(&mut stasis, "two", "10.0.0.1")?, "nobody talks after a resume");
    let address = at(&mut stasis, "one", "cat /sys/class/net/eth0/address")?;
    stasis.attach("two")?;
    let steal =
        format!("ip link set eth0 down; ip link set eth0 address {address}; ip link set eth0 up");
    shell(&mut stasis, &steal)?;
    stasis.detach()?;
    ensure!(!reaches(&mut stasis, "two", "10.0.0.1")?, "it sends under another's address");
    stasis.quit()
}

pub fn a_clone_talks_when_it_has_an_address_of_its_own(lab: &Lab) -> Result<()> {
    let names = ["one", "two"];
    let mut stasis = boot(machine(lab, &names)?, &names, 2 << 20)?;
    let said = stasis.command("clone two as twin")?;
    ensure!(said.iter().any(|line| line.contains("links of \"twin\" are down")), "{said:?}");
    ensure!(!reaches(&mut stasis, "twin", "10.0.0.1")?, "the clone talks at once");
    ensure!(reaches(&mut stasis, "two", "10.0.0.1")?, "the original does not talk");
    stasis.attach("twin")?;
    for command in [
        "ip link set eth0 down; ip link set eth0 address 52:54:00:12:34:56",
        "ip addr flush dev eth0; ip addr add 10.0.0.3/24 dev eth0; ip link set eth0 up",
    ] {
        shell(&mut stasis, command)?;
    }
    stasis.detach()?;
    stasis.command("network up twin")?;
    // All that comes is written to memory that the three share.
    for (from, to, n, port) in [("two", "twin", 3, 5000), ("twin", "one", 1, 5001)] {
        listen(&mut stasis, to, port, "")?;
        send(&mut stasis, from, n, port)?;
        is_the_same(&mut stasis, from, to, port)?;
    }
    stasis.quit()
}

/// Guests that are off have their cards in the network, too.
pub fn a_guest_that_gets_no_frame_for_all_is_named(lab: &Lab) -> Result<()> {
    let mut machine = lab.machine();
    for n in 1..=34 {
        let mut config = guest(&format!("g{n}"), 4);
        config.image = "idle".to_owned();
        config.networks = vec!["lan".to_owned()];
        config.autostart = false;
        machine = machine.configured(config, (n == 1).then(|| lab.guest("idle")).transpose()?);
    }
    let stasis = machine.boot()?;
    stasis.complaint(&["\"g34\"", "\"lan\"", "a frame for all goes to 32 others"])?;
    let named = |line: &&String| line.contains("a frame for all");
    let count = stasis.greeting.iter().filter(named).count();
    ensure!(count == 1, "{count} guests are named");
    stasis.quit()
}
