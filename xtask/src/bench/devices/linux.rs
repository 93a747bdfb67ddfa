//! How long a Linux takes for its disk and for a neighbour's answer, under Stasis and on plain
//! QEMU's own virtio devices, one after the other in one run.
//!
//! The guest's counter is the host's time, so what its clock and `ping` say is what a person waits;
//! the clock has hundredths of a second. The host may be busy with other things: each is done
//! several times, and the least counts.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_host::config::{Configuration, DiskConfig, GuestConfig};

use crate::console::Console;
use crate::qemu::Machine;
use crate::workspace::{Workspace, read, write};
use crate::{archive, disk, initramfs, report, setup};

/// Time that a machine may take to the end of its work.
const PATIENCE: Duration = Duration::from_secs(900);
/// Bytes of the disk.
const DISK: u64 = 64 << 20;
/// Bytes of a Linux's memory.
const MEMORY: u64 = 256 << 20;
const CMDLINE: &str = "console=ttyAMA0 quiet role=";

/// What the first process does when the drivers are loaded. It prints a line `bench NAME SECONDS`
/// for all that it measures, and `bench done` in the end.
const INIT: &str = r#"
role=$(sed 's/.*role=//' /proc/cmdline)
mount -t tmpfs tmp /tmp
now() { cut -d ' ' -f 1 /proc/uptime; }
timed() {
    name=$1; shift
    from=$(now)
    dd "$@" 2> /dev/null
    echo "bench $name $(echo $from $(now) | awk '{ print $2 - $1 }')"
}
interrupts() { awk '/virtio0/ { print $2 }' /proc/interrupts; }
requests() { awk '{ print $1 + $5 }' /sys/block/vda/stat; }
counted() {
    i=$(interrupts); r=$(requests)
    timed "$@"
    echo "count $1: $(($(requests) - r)) requests, $(($(interrupts) - i)) interrupts"
}
if [ $role = disk ]; then
    yes stasis | head -c 67108864 > /tmp/a
    for n in 1 2 3; do
        counted write-64m if=/tmp/a of=/dev/vda bs=1M conv=fsync
        timed write-64m-direct if=/tmp/a of=/dev/vda bs=1M oflag=direct
        echo 3 > /proc/sys/vm/drop_caches
        counted read-64m if=/dev/vda of=/dev/null bs=1M
        timed read-64m-direct if=/dev/vda of=/dev/null bs=1M iflag=direct
        timed read-2048-times-4k if=/dev/vda of=/dev/null bs=4k count=2048 iflag=direct
    done
else
    ip addr add 10.0.0.$role/24 dev eth0
    ip link set eth0 up
    [ $role = 2 ] && echo bench ready && sleep 3600
    until ping -c 1 -W 1 10.0.0.2 > /dev/null; do :; done
    for n in 1 2 3; do
        took=$(ping -q -A -c 1000 -s 22 10.0.0.2 | awk -F/ '/round-trip/ { print $4 }')
        echo "bench ping-64 $(echo $took | awk '{ print $1 / 1000 }')"
    done
fi
echo bench done
sleep 3600
"#;

/// How long something takes on both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// Time on plain QEMU.
    pub plain: Duration,
    /// Time under Stasis.
    pub stasis: Duration,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Times, by name.
    pub rows: Vec<Row>,
    /// Lines that tell of requests and interrupts, of both.
    pub counts: Vec<String>,
}

/// What a Linux has said.
#[derive(Debug, Default)]
struct Said {
    /// The least time of each name.
    times: BTreeMap<String, Duration>,
    counts: Vec<String>,
}

impl Said {
    /// Takes a line; returns whether it is the last.
    fn take(&mut self, line: &str) -> Result<bool> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["bench", "done"] => return Ok(true),
            ["bench", name, seconds] => {
                let seconds: f64 = seconds.parse().with_context(|| format!("\"{line}\""))?;
                // What takes no tick of the clock has taken something.
                let time = Duration::try_from_secs_f64(seconds)?.max(Duration::from_micros(1));
                let least = self.times.entry(name.to_owned()).or_insert(time);
                *least = time.min(*least);
            }
            ["count", ..] => self.counts.push(line.to_owned()),
            _ => {}
        }
        Ok(false)
    }

    /// Takes all lines to the last.
    fn listen(&mut self, console: &mut Console) -> Result<()> {
        while !self.take(console.next_line(PATIENCE)?.trim())? {}
        Ok(())
    }
}

/// Measures, with this image of Stasis.
pub fn measure(workspace: &Workspace, image: &Path) -> Result<Times> {
    let initramfs = initramfs::make_with_virtio_and(workspace, INIT)?;
    let kernel = setup::guests::ensure(workspace)?.kernel;
    let room = tempfile::tempdir()?;
    let initrd = room.path().join("initramfs");
    write(&initrd, &initramfs)?;
    let linux = Linux { image, kernel, initrd, room: room.path() };
    let (mut plain, mut stasis) = (Said::default(), Said::default());
    report::step(
        "letting Linux use a disk and talk to a neighbour, on plain QEMU and under Stasis",
    );
    linux.plain_disk(&mut plain)?;
    linux.disk(&mut stasis)?;
    linux.plain_neighbours(&mut plain)?;
    linux.neighbours(&mut stasis)?;
    let mut times = Times::default();
    for (name, plain) in std::mem::take(&mut plain.times) {
        let stasis = *stasis.times.get(&name).with_context(|| format!("{name} is lacking"))?;
        times.rows.push(Row { name, plain, stasis });
    }
    ensure!(!times.rows.is_empty(), "Linux has measured nothing");
    for (what, counts) in [("plain QEMU", plain.counts), ("Stasis", stasis.counts)] {
        times.counts.extend(counts.iter().map(|count| format!("{what}: {count}")));
    }
    Ok(times)
}

/// A Linux, and what it is booted with.
struct Linux<'a> {
    image: &'a Path,
    kernel: PathBuf,
    initrd: PathBuf,
    /// Folder for what a run needs.
    room: &'a Path,
}

impl Linux<'_> {
    fn plain(&self, role: &str) -> Machine {
        let machine = Machine::plain(&self.kernel, Some(&self.initrd));
        let machine =
            machine.memory(format!("{}M", MEMORY >> 20)).cmdline(format!("{CMDLINE}{role}"));
        machine.arg("-global").arg("virtio-mmio.force-legacy=false").time_limit(PATIENCE)
    }

    fn plain_disk(&self, said: &mut Said) -> Result<()> {
        let image = self.room.join("plain.img");
        write(&image, &vec![0; DISK as usize])?;
        let mut machine = self.plain("disk").disk(&image).start()?;
        said.listen(&mut machine.console)?;
        machine.kill()
    }

    fn plain_neighbours(&self, said: &mut Said) -> Result<()> {
        // Somebody else may take the port before QEMU does, and then QEMU says so.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let machine = |role: &str, end: &str| {
            let netdev = format!("socket,id=lan,{end}=127.0.0.1:{port}");
            let mac = format!("virtio-net-device,netdev=lan,mac=52:54:00:00:00:0{role}");
            self.plain(role).arg("-netdev").arg(netdev).arg("-device").arg(mac).start()
        };
        let mut second = machine("2", "listen")?;
        second.console.wait_for("bench ready", PATIENCE)?;
        let mut first = machine("1", "connect")?;
        said.listen(&mut first.console)?;
        first.kill()?;
        second.kill()
    }

    fn guest(&self, name: &str, role: &str, core: u32) -> GuestConfig {
        GuestConfig {
            initrd: Some("initramfs".to_owned()),
            cmdline: format!("{CMDLINE}{role}"),
            cores: vec![core],
            ..GuestConfig::new(name, "linux", MEMORY)
        }
    }

    /// Boots guests under Stasis, and listens to the one called `linux`.
    fn stasis(&self, guests: Vec<GuestConfig>, said: &mut Said) -> Result<()> {
        let cores = 1 + guests.len() as u32;
        let configuration = Configuration { guests, ..Default::default() };
        let files = [("linux", &*read(&self.kernel)?), ("initramfs", &*read(&self.initrd)?)];
        let (archive, image) = (self.room.join("linux.cpio"), self.room.join("stasis.img"));
        write(&archive, &archive::pack(&configuration, &files)?)?;
        let _ = std::fs::remove_file(&image);
        disk::create(&image, 512 << 20)?;
        let machine = Machine::stasis(self.image, Some(&archive)).cpus(cores).disk(&image);
        let mut machine = machine.time_limit(PATIENCE).start()?;
        machine.console.wait_for("stasis> ", PATIENCE)?;
        machine.console.command_within("attach linux", PATIENCE, |_| ())?;
        said.listen(&mut machine.console)?;
        machine.kill()
    }

    fn disk(&self, said: &mut Said) -> Result<()> {
        let disk = DiskConfig { volume: "data".to_owned(), size: DISK, from: None };
        let guest = GuestConfig { disks: vec![disk], ..self.guest("linux", "disk", 1) };
        self.stasis(vec![guest], said)
    }

    fn neighbours(&self, said: &mut Said) -> Result<()> {
        let guests = [("linux", "1", 1), ("other", "2", 2)].map(|(name, role, core)| GuestConfig {
            networks: vec!["lan".to_owned()],
            ..self.guest(name, role, core)
        });
        self.stasis(guests.into(), said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_several_times_counts() {
        let mut said = Said::default();
        for line in
            ["bench ping-64 0.004", "bench ping-64 0.002", "bench ping-64 0.003", "[ 1.0] x"]
        {
            assert!(!said.take(line).unwrap());
        }
        assert!(!said.take("count read-64m: 64 requests, 60 interrupts").unwrap());
        assert!(said.take("bench done").unwrap());
        assert_eq!(said.times["ping-64"], Duration::from_millis(2));
        assert_eq!(said.counts.len(), 1);
        assert!(said.take("bench ping-64 fast").is_err());
    }
}
