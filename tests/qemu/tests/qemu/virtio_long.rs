//! Guests with cards in one network. Run by name: `cargo xtask test virtio_long`.

use anyhow::{Result, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Stasis, guest};
use xtask::initramfs;
use xtask::setup;
use xtask::workspace::read;

use crate::linux::{BOOT_TIME, dmesg_is_silent, shell};
use crate::virtio::line;

/// Returns the configuration of a Linux with a card in the network `lan`.
fn neighbour(name: &str) -> GuestConfig {
    let mut config = guest(name, 128);
    config.initrd = Some("initramfs".to_owned());
    config.cmdline = "console=ttyAMA0".to_owned();
    config.networks = vec!["lan".to_owned()];
    config.image = "kernel".to_owned();
    config
}

/// Gives the card of an attached guest an address, and sets it up.
fn set_up(stasis: &mut Stasis, address: &str) -> Result<()> {
    let up = format!("ip addr add {address}/24 dev eth0; ip link set eth0 up");
    shell(stasis, &up).map(drop)
}

fn ping(stasis: &mut Stasis, address: &str) -> Result<String> {
    line(stasis, &format!("ping -c 3 -W 2 {address} | grep received"))
}

pub fn two_guests_talk_and_neither_has_the_others_address(lab: &Lab) -> Result<()> {
    const ALL: &str = "3 packets transmitted, 3 packets received, 0% packet loss";
    const NONE: &str = "3 packets transmitted, 0 packets received, 100% packet loss";
    let workspace = &Built::get()?.workspace;
    let initramfs = initramfs::make_with_virtio(workspace)?;
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    let disk = lab.disk()?;
    let machine = lab.machine().file("initramfs", initramfs).file("kernel", kernel);
    let machine = machine.configured(neighbour("one"), None).configured(neighbour("two"), None);
    let mut stasis = machine.memory("1G").disk(&disk).boot()?;
    for (name, address) in [("one", "10.0.0.1"), ("two", "10.0.0.2")] {
        stasis.attach(name)?;
        stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
        set_up(&mut stasis, address)?;
        if name == "one" {
            shell(&mut stasis, "(nc -l -p 5000 > /tmp/in &)")?;
            stasis.detach()?;
        }
    }
    ensure!(ping(&mut stasis, "10.0.0.1")? == ALL, "the guests do not talk");
    let sent = line(
        &mut stasis,
        "head -c 8388608 /dev/urandom > /tmp/a; nc 10.0.0.1 5000 < /tmp/a; sha256sum < /tmp/a",
    )?;
    stasis.detach()?;
    stasis.attach("one")?;
    let received = line(
        &mut stasis,
        "n=0; until [ $(wc -c < /tmp/in) = 8388608 ] || [ $n = 20 ]; do sleep 1; n=$((n+1)); done; sha256sum < /tmp/in",
    )?;
    ensure!(received == sent, "{sent} was sent, and {received} came");
    let address = line(&mut stasis, "cat /sys/class/net/eth0/address")?;
    stasis.detach()?;

    // What was stored goes on, and its neighbours hear of it.
    let number = stasis.checkpoint("two", "talking")?;
    stasis.resume(number)?;
    stasis.attach("two")?;
    ensure!(ping(&mut stasis, "10.0.0.1")? == ALL, "the guests do not talk after a resume");
    dmesg_is_silent(&mut stasis).or_else(|_| shell(&mut stasis, "dmesg -c").map(drop))?;
    let steal =
        format!("ip link set eth0 down; ip link set eth0 address {address}; ip link set eth0 up");
    shell(&mut stasis, &steal)?;
    ensure!(ping(&mut stasis, "10.0.0.1")? == NONE, "it sends under its neighbour's address");
    stasis.detach()?;
    stasis.quit()
}
