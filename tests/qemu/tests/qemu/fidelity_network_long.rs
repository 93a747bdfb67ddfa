//! What two Linux see of the network between them is what they see between two machines of QEMU's:
//! sums of what goes both ways at once, and iperf3. Run by name:
//! `cargo xtask test fidelity_network_long`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use stasis_host::config::DiskConfig;
use stasis_qemu_tests::guests::same;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::Stasis;
use stasis_tool::volume::image;
use xtask::disk;
use xtask::images::tools;
use xtask::initramfs;
use xtask::page;
use xtask::qemu::{Machine, Qemu};
use xtask::setup;
use xtask::workspace::write;

use crate::linux::BOOT_TIME;
use crate::network::machine;
use crate::twins::{MODERN, transcript};

/// The guests.
const NAMES: [&str; 2] = ["one", "two"];
/// The longest life of the machines.
const LIFE_TIME: Duration = Duration::from_secs(3600);
/// Bytes of the machine's disk, which has the volumes.
const DISK: u64 = 2 << 30;

/// What is typed, and in which of both guests. Pings of all sizes, also of several frames; each of
/// both sends some MB to the other at once, and again beside iperf3, which sends by four
/// connections in either direction, by small pieces, and by UDP. No sum of any packet may be wrong:
/// TCP would send again what was changed on the way, and the hashes would be right. That a frame is
/// lost is no difference: QEMU's own network loses none, and here those are for which there is no
/// buffer.
const COMMANDS: &[(usize, &str)] = &[
    (
        0,
        "ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up; cat /bin/busybox /bin/busybox > /tmp/a; sha256sum < /tmp/a",
    ),
    (
        1,
        "ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up; gzip -c /bin/busybox | cat - /bin/busybox > /tmp/a; sha256sum < /tmp/a",
    ),
    (
        0,
        "cat /sys/class/net/eth0/mtu; ping -c 20 -W 60 10.0.0.2 | grep -o 'seq=[0-9]*' | cut -d = -f 2 > /tmp/seq; sort -n /tmp/seq | cmp - /tmp/seq; [ -s /tmp/seq ] && echo in order",
    ),
    (
        0,
        "for n in 0 1 17 1472 1473 9000; do until ping -c 1 -W 9 -s $n 10.0.0.2 > /tmp/ping; do sleep 1; done; grep seq /tmp/ping | sed 's/ time.*//'; done",
    ),
    (0, LISTEN),
    (1, LISTEN),
    (0, "(nc 10.0.0.2 5000 < /tmp/a &)"),
    (1, "(nc 10.0.0.1 5000 < /tmp/a &)"),
    (0, COME),
    (1, COME),
    (0, TOOLS),
    (1, TOOLS),
    (1, "chroot /tools /bin/iperf3 -s -D; echo status $?"),
    (
        0,
        "of() { sed -n \"/\\\"$1\\\"/,/}/p\" /tmp/json | grep \"\\\"$2\\\"\" | head -n 1 | tr -dc 0-9.; }",
    ),
    // At the end, much of what was sent may be under way on a busy machine.
    (
        0,
        "sums() { for end in sent received; do [ $(of sum_$end bytes) -gt 1000000 ] && echo $end; done; }",
    ),
    (
        0,
        "load() { chroot /tools /bin/iperf3 -c 10.0.0.2 -J \"$@\" > /tmp/json; echo status $?; grep -c '\"error\"' /tmp/json; }",
    ),
    (0, LISTEN),
    (1, LISTEN),
    (0, "(nc 10.0.0.2 5000 < /tmp/a &)"),
    (1, "(nc 10.0.0.1 5000 < /tmp/a &)"),
    (0, "load -n 4M -P 4; sums; echo speed $(of sum_received bits_per_second)"),
    (0, "load -n 4M -P 4 -R; sums; echo speed $(of sum_received bits_per_second)"),
    (0, "load -n 4M -l 700 -N; sums; echo speed $(of sum_received bits_per_second)"),
    (
        0,
        "load -n 300K -u -l 1200 -b 400K; echo late $(of udp out_of_order) of $(of udp packets); echo speed, lost: $(of udp lost_packets), $(of udp bits_per_second)",
    ),
    (0, COME),
    (1, COME),
    (0, WRONG),
    (1, WRONG),
];

/// Waits for a connection, in the background, and makes the hash of what comes.
const LISTEN: &str = "rm -f /tmp/sum; (tail -f /dev/null | nc -l -p 5000 | sha256sum > /tmp/sum &)";
/// Prints the hash of what came.
const COME: &str = "until [ -s /tmp/sum ]; do sleep 1; done; cat /tmp/sum";
/// Prints what the kernel and the driver have counted of wrong frames and sums.
const WRONG: &str = "cat /sys/class/net/eth0/statistics/*_errors; awk '$1 != last { split($0, name); last = $1; next } \
     { for (n = 2; n <= NF; n++) if (name[n] ~ /CsumErrors|HdrErrors|ReasmFails/) print $1, name[n], $n }' /proc/net/snmp";
/// What a line begins with that differs from one time to the next.
const SPEED: &str = "speed";

/// Mounts the disk with iperf3, and what it asks the kernel for.
const TOOLS: &str = "mkdir /tools; mount -t ext4 -o ro /dev/vda /tools; for folder in dev proc tmp; do mount -o bind /$folder /tools/$folder; done; ip link set lo up";

/// Types [`COMMANDS`] in the guests. Returns what they say; speeds are printed instead.
fn said(mut type_in: impl FnMut(usize, &str) -> Result<Vec<String>>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (guest, command) in COMMANDS {
        lines.push(format!("in {}", NAMES[*guest]));
        lines.extend(type_in(*guest, command)?);
    }
    let (speeds, rest) = lines.into_iter().partition(|line| line.starts_with(SPEED));
    Vec::into_iter(speeds).for_each(|line: String| println!("{line} bits in a second"));
    Ok(rest)
}

/// Boots the machine of guest `n` without Stasis. What it sends goes by a connection at this port,
/// which the first one listens for.
fn plain(n: usize, port: u16, kernel: &Path, initramfs: &Path, tools: &Path) -> Result<Qemu> {
    let netdev = format!(
        "stream,id=lan,server={},addr.type=inet,addr.host=127.0.0.1,addr.port={port}",
        if n == 0 { "on" } else { "off" }
    );
    let card =
        format!("virtio-net-device,netdev=lan,mac=52:54:00:00:00:0{n},bus=virtio-mmio-bus.1");
    let machine = Machine::plain(kernel, Some(initramfs))
        .cpu("cortex-a72")
        .memory("128M")
        .cmdline("console=ttyAMA0")
        .time_limit(LIFE_TIME)
        .disk_in_slot(0, tools, "readonly=on", "");
    let arguments = MODERN.into_iter().chain(["-netdev", &netdev, "-device", &card]);
    let mut qemu = arguments.fold(machine, Machine::arg).start()?;
    qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    Ok(qemu)
}

fn on_plain_qemu(lab: &Lab, tools: &Path) -> Result<Vec<String>> {
    let workspace = &Built::get()?.workspace;
    let initramfs = lab.path("initramfs");
    // The drivers first: kernel and drivers are of one version.
    write(&initramfs, &initramfs::make_with_virtio(workspace)?)?;
    let kernel = setup::guests::ensure(workspace)?.kernel;
    let port = page::free_port()?;
    let mut machines =
        [plain(0, port, &kernel, &initramfs, tools)?, plain(1, port, &kernel, &initramfs, tools)?];
    said(|n, command| transcript(&mut machines[n].console, &[command]))
}

/// Returns the name of the volume with the programs that a guest has.
fn volume(name: &str) -> String {
    format!("tools-{name}")
}

fn boot(lab: &Lab, tools: &Path) -> Result<Stasis> {
    let disk: PathBuf = lab.disk_of(DISK)?;
    let mut store = disk::store(&disk, true)?;
    let size = tools.metadata()?.len();
    let mut setup = machine(lab, &NAMES)?;
    for name in NAMES {
        image::import(&mut store, tools, &volume(name), None, 0)?;
        setup = setup.change(name, |config| {
            config.disks = vec![DiskConfig { volume: volume(name), size, from: None }];
        });
    }
    drop(store);
    let mut stasis = setup.disk(&disk).time_limit(LIFE_TIME).boot()?;
    for name in NAMES {
        stasis.attach(name)?;
        stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
        stasis.detach()?;
    }
    Ok(stasis)
}

pub fn two_guests_under_load_are_as_between_two_machines_of_qemus(lab: &Lab) -> Result<()> {
    let tools = tools::ensure(&Built::get()?.workspace)?;
    println!("between two machines of QEMU's:");
    let expected = on_plain_qemu(lab, &tools)?;
    println!("between two guests:");
    let mut stasis = boot(lab, &tools)?;
    let found = said(|n, command| {
        stasis.attach(NAMES[n])?;
        let lines = transcript(&mut stasis.qemu.console, &[command]);
        stasis.detach()?;
        lines
    })?;
    for line in stasis.command("network")? {
        println!("{line}");
    }
    same(&expected, &found)?;
    stasis.quit()
}
