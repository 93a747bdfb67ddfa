//! A Linux with a disk and a network card that goes on while its memory is loaded from a slow disk:
//! it reads and writes its disk, and serves pages, before all of its memory is there. Run by name:
//! `cargo xtask test on_demand_linux_long`.

use std::time::Duration;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};
use stasis_host::config::DiskConfig;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis};
use xtask::initramfs;
use xtask::monitor::{Monitor, Socket};
use xtask::page;
use xtask::qemu::UPLINK;

use crate::linux::{BOOT_TIME, look_at_dmesg, shell};
use crate::network::{at, machine, neighbour};
use crate::on_demand::to_load;
use crate::on_demand_devices::limit;
use crate::uplink::{lan, lost};
use crate::virtio::line;

/// Bytes of the disk. As many more are in files in the guest's memory.
const DISK: usize = 32 << 20;
/// Bytes in a second that the machine's disk moves: all of the memory takes more than two minutes.
const SPEED: u32 = 512 << 10;
/// Bytes of the page that the guest serves.
const PAGE: usize = 64 << 10;

/// Returns the content of the disk: each word is another one.
fn image() -> Vec<u8> {
    (0..DISK as u64 / 8).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the hash of `count` MiB of the disk from `skip` MiB on, read past the guest's cache.
fn read(stasis: &mut Stasis, skip: usize, count: usize) -> Result<String> {
    let read =
        format!("dd if=/dev/vda bs=64k skip={} count={} iflag=direct", skip * 16, count * 16);
    line(stasis, &format!("{read} 2> /dev/null | sha256sum | cut -c 1-64"))
}

/// Writes a MiB of random bytes to the disk at `seek` MiB, which are flushed. Returns their hash.
fn write(stasis: &mut Stasis, seek: usize) -> Result<String> {
    let to = format!("of=/dev/vda bs=64k seek={} conv=fsync", seek * 16);
    let write = format!("head -c 1048576 /dev/urandom | tee /tmp/w | dd {to} 2> /dev/null");
    shell(stasis, &write)?;
    line(stasis, "sha256sum < /tmp/w | cut -c 1-64")
}

/// Returns a machine with the guest, on a disk and a network card, which a port of the host leads
/// to.
fn with_disk<'l>(lab: &'l Lab, netdev: &str) -> Result<Setup<'l>> {
    let mut config = neighbour("one");
    config.disks = vec![DiskConfig {
        volume: "data".to_owned(),
        size: DISK as u64,
        from: Some("image".to_owned()),
    }];
    let machine = machine(lab, &[])?.file("image", image()).configured(config, None);
    Ok(machine.network(lan(UPLINK)).network_card(netdev).time_limit(Duration::from_secs(3600)))
}

/// Reads, writes and serves, each compared with what it must be.
fn works(stasis: &mut Stasis, port: u16, page: &[u8], image: &[u8], round: usize) -> Result<()> {
    const MIB: usize = 1 << 20;
    ensure!(page::fetch(port, "/page")? == page, "page {round} is another one");
    stasis.attach("one")?;
    let (skip, count) = (round * 4, 1);
    let expected = hash(&image[skip * MIB..][..count * MIB]);
    ensure!(read(stasis, skip, count)? == expected, "round {round}: the disk has something else");
    let at = DISK / MIB - 1 - round;
    let written = write(stasis, at)?;
    ensure!(read(stasis, at, 1)? == written, "round {round}: what was written is not there");
    let ping = line(stasis, "ping -c 2 -W 60 10.0.2.2 | grep received")?;
    ensure!(ping.contains("2 packets received, 0% packet loss"), "round {round}: {ping}");
    stasis.detach().map(drop)
}

pub fn a_linux_has_its_disk_and_its_network_before_all_of_its_memory_is_there(
    lab: &Lab,
) -> Result<()> {
    let port = page::free_port()?;
    let netdev = format!("user,hostfwd=tcp:127.0.0.1:{port}-:80");
    let disk = lab.disk()?;
    let mut stasis = with_disk(lab, &netdev)?.disk(&disk).boot()?;
    stasis.attach("one")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    shell(&mut stasis, "dmesg -c > /dev/null")?;
    shell(&mut stasis, "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up")?;
    shell(&mut stasis, "ip route add default via 10.0.2.2; httpd -p 80 -h /tmp")?;
    shell(&mut stasis, "dd if=/dev/vda of=/tmp/rest bs=1M iflag=direct 2> /dev/null")?;
    shell(&mut stasis, &format!("head -c {PAGE} /tmp/rest > /tmp/page"))?;
    stasis.detach()?;
    let image = image();
    let (page, rest) = (image[..PAGE].to_vec(), hash(&image));
    ensure!(page::fetch(port, "/page")? == page, "the page is another one from the beginning");
    let number = stasis.checkpoint("one", "online")?;
    stasis.kill()?;

    let socket = Socket::new()?;
    let machine =
        lab.machine().guest("counter")?.memory("1G").network(lan(UPLINK)).network_card(&netdev);
    let machine = machine.time_limit(Duration::from_secs(3600)).disk(&disk).monitor(&socket);
    let mut stasis = machine.boot()?;
    let mut monitor: Monitor = socket.connect()?;
    limit(&mut monitor, 0, SPEED)?;
    stasis.resume(number)?;
    let (before, had_lost) = (to_load(&mut stasis, "one")?, lost(&mut stasis)?);
    works(&mut stasis, port, &page, &image, 0)?;
    let left = to_load(&mut stasis, "one")?;
    println!("{left} of {before} bytes are still to be loaded");
    ensure!(left > 0, "all of the memory was loaded before the guest has done its work");
    ensure!(lost(&mut stasis)? == had_lost, "frames were lost");

    limit(&mut monitor, 0, 0)?;
    while to_load(&mut stasis, "one")? > 0 {}
    works(&mut stasis, port, &page, &image, 1)?;
    let found = at(&mut stasis, "one", "sha256sum < /tmp/rest | cut -c 1-64")?;
    ensure!(found == rest, "the rest of the memory is another one");
    stasis.attach("one")?;
    look_at_dmesg(&mut stasis)?;
    stasis.kill()
}
