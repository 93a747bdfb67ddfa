//! Networks that have a card of the machine's as their uplink: an unmodified Linux on QEMU's user
//! network, and uplinks that there are not.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use stasis_host::config::NetworkConfig;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;
use xtask::initramfs;
use xtask::page;
use xtask::qemu::UPLINK;

use crate::contained::{beside_windows, windows_are_whole};
use crate::linux::{BOOT_TIME, shell};
use crate::network::{at, machine};
use crate::virtio::line;
use stasis_qemu_tests::guests::{SILENCE, numbers};

/// Bytes of the page that a guest fetches, and of the file that is fetched from it.
const PAGE: usize = 1 << 20;
/// The longest time that the host waits for a guest's bytes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What udhcpc does with an address.
const DHCP: &str = r#"printf '#!/bin/sh\n[ "$1" = bound ] && ip addr add $ip/24 dev $interface && ip route add default via $router\n' > /tmp/dhcp; chmod +x /tmp/dhcp"#;

/// Returns the network of the guests with this uplink.
pub fn lan(uplink: &str) -> NetworkConfig {
    NetworkConfig { name: "lan".to_owned(), uplink: Some(uplink.to_owned()) }
}

/// Returns a listener on the host, which a guest reaches as 10.0.2.2, and its port.
fn listen() -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Answers one request for a page.
fn serve(listener: TcpListener, page: Vec<u8>) {
    thread::spawn(move || -> Result<()> {
        let (mut client, _) = listener.accept()?;
        let mut lines = BufReader::new(client.try_clone()?).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        write!(client, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", page.len())?;
        client.write_all(&page)?;
        Ok(())
    });
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until a file in the guest has this line as its last one.
fn wait_for_line(stasis: &mut Stasis, file: &str, expected: &str) -> Result<()> {
    let start = Instant::now();
    let expected = format!("<{expected}>");
    while at(stasis, "one", &format!("echo \"<$(tail -n 1 {file})>\""))? != expected {
        ensure!(start.elapsed() < PATIENCE, "{file} never ends in {expected}");
    }
    Ok(())
}

pub fn linux_gets_an_address_and_pages_from_the_host_before_and_after_a_resume(
    lab: &Lab,
) -> Result<()> {
    let page: Vec<u8> =
        (0..PAGE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (pages, page_port) = listen()?;
    let (talk, talk_port) = listen()?;
    // QEMU listens at a port that was free just now.
    let guest_port = page::free_port()?;
    let disk = lab.disk()?;
    let netdev = format!("user,hostfwd=tcp:127.0.0.1:{guest_port}-:80");
    let machine = machine(lab, &["one"])?.disk(&disk).network(lan(UPLINK)).network_card(&netdev);
    let mut stasis = machine.time_limit(Duration::from_secs(900)).boot()?;
    stasis.complaint(&["network \"lan\": its uplink is", UPLINK])?;

    stasis.attach("one")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    shell(&mut stasis, DHCP)?;
    let said =
        shell(&mut stasis, "ip link set eth0 up; udhcpc -i eth0 -n -q -t 20 -T 1 -s /tmp/dhcp")?;
    let address = line(&mut stasis, "ip -4 -o addr show eth0")?;
    ensure!(address.contains("10.0.2.15/24"), "the guest has {address}; udhcpc said {said:?}");
    stasis.detach()?;

    // A page of the host's, and one of the guest's.
    serve(pages.try_clone()?, page.clone());
    let get = format!("wget -q -O /tmp/page http://10.0.2.2:{page_port}/; sha256sum < /tmp/page");
    let came = at(&mut stasis, "one", &get)?;
    ensure!(came.starts_with(&hash(&page)), "the guest has got {came}");
    at(&mut stasis, "one", "httpd -p 80 -h /tmp; echo on")?;
    ensure!(page::fetch(guest_port, "/page")? == page, "the host has got something else");

    // A connection goes on after a resume, and so does the server.
    let open = format!("(tail -f /dev/null | nc 10.0.2.2 {talk_port} > /tmp/talk &); echo on");
    at(&mut stasis, "one", &open)?;
    let (mut client, _) = talk.accept()?;
    writeln!(client, "before")?;
    wait_for_line(&mut stasis, "/tmp/talk", "before")?;
    let number = stasis.checkpoint("one", "online")?;
    stasis.resume(number)?;
    // What comes while the memory is loaded waits.
    let before = lost(&mut stasis)?;
    writeln!(client, "after")?;
    wait_for_line(&mut stasis, "/tmp/talk", "after")?;
    ensure!(page::fetch(guest_port, "/page")? == page, "the host has got something else");
    let now = lost(&mut stasis)?;
    ensure!(now == before, "the guest has lost {} frames, and had lost {}", now, before);
    stasis.quit()
}

/// Returns how many frames the guest has lost.
pub fn lost(stasis: &mut Stasis) -> Result<u64> {
    let lines = stasis.command("network --json")?;
    let card = lines.iter().find(|line| line.contains("\"one\"")).context("no card")?;
    let card: Value = serde_json::from_str(card)?;
    card["lost"].as_u64().with_context(|| format!("no number of lost frames: {card}"))
}

pub fn an_uplink_that_is_not_there_is_said_and_the_guests_run(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let other = |name: &str, slot: &str| NetworkConfig {
        name: name.to_owned(),
        uplink: Some(format!("/virtio_mmio@{slot}")),
    };
    let machine = lab.machine().guest("counter")?.disk_in_slot(&disk, 31);
    let machine = machine.network(lan("/virtio_mmio@a003e00")).network(other("wan", "a000000"));
    let mut stasis = machine.boot()?;
    stasis.complaint(&["network \"lan\"", "in use by Stasis itself"])?;
    stasis.complaint(&["network \"wan\"", "the virtio slot at 0xa000000 is empty"])?;
    stasis.is_alive()?;
    stasis.quit()?;
    let random = "virtio-rng-device,bus=virtio-mmio-bus.1";
    let machine = lab.machine().guest("counter")?.argument("-device").argument(random);
    let mut stasis = machine.network(other("noise", "a000200")).boot()?;
    stasis
        .complaint(&["network \"noise\"", "the virtio device at 0xa000200 is no network card"])?;
    stasis.is_alive()?;
    stasis.quit()
}

/// Sends frames to all at a port where QEMU takes them, as fast as it may, until it is told to end.
fn flood(from: UdpSocket, to: u16, ends: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut frame = [0x5a; 1514];
        frame[..12].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1]);
        while !ends.load(Ordering::Relaxed) {
            for len in [60, 1514].into_iter().cycle().take(32) {
                let _ = from.send_to(&frame[..len], (Ipv4Addr::LOCALHOST, to));
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
}

pub fn a_flood_from_outside_takes_nothing_of_a_window(lab: &Lab) -> Result<()> {
    /// Reports of the guest in the flood, each of some windows.
    const REPORTS: usize = 4;
    let from = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let from_port = from.local_addr()?.port();
    // QEMU takes a port that was free just now.
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let netdev = format!(
        "dgram,local.type=inet,local.host=127.0.0.1,local.port={port},\
         remote.type=inet,remote.host=127.0.0.1,remote.port={from_port}"
    );
    // Here the card has the new interface, and in the other test the old one.
    let machine =
        beside_windows(lab)?.argument("-global").argument("virtio-mmio.force-legacy=false");
    let mut stasis = machine.network(lan(UPLINK)).network_card(&netdev).boot()?;
    stasis.attach("ticker")?;
    stasis.qemu.console.wait_for("late ", SILENCE)?;
    let ends = Arc::new(AtomicBool::new(false));
    flood(from, port, ends.clone());
    let mut said = String::new();
    while said.matches("ran ").count() < REPORTS {
        said += &stasis.qemu.console.next_line(SILENCE)?;
        said.push('\n');
    }
    stasis.detach()?;
    windows_are_whole(&said)?;
    let lines = stasis.command("network --json")?;
    ends.store(true, Ordering::Relaxed);
    let line = lines.iter().find(|line| line.contains("(uplink)")).context("no uplink")?;
    let (_, received) = line.split_once("\"received\":").context("no number")?;
    let came = numbers(received).first().copied().unwrap_or(0);
    ensure!(came > 1000, "only {came} frames have come: {line}");
    println!("{came} frames: {said}");
    stasis.quit()
}
