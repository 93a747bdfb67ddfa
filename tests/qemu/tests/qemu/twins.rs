//! One Linux with one disk image twice: in a plain machine of QEMU's and here. Both are told the
//! same, and must print the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use stasis_host::config::DiskConfig;
use stasis_qemu_tests::guests::same;
use stasis_qemu_tests::lab::{Built, Lab, copy};
use stasis_qemu_tests::stasis::guest;
use stasis_tool::volume::image;
use xtask::console::Console;
use xtask::disk;
use xtask::initramfs;
use xtask::qemu::{Machine, UPLINK};
use xtask::setup;
use xtask::workspace::{read, write};

use crate::linux::{BOOT_TIME, shell_within};
use crate::uplink::lan;

/// The longest life of each of both machines.
const LIFE_TIME: Duration = Duration::from_secs(7200);
/// The longest time of one command.
const COMMAND_TIME: Duration = Duration::from_secs(1200);
/// Bytes of the machine's disk, which has the volumes.
const DISK: u64 = 4 << 30;
/// Interfaces as Stasis has them: of version 2.
pub const MODERN: [&str; 2] = ["-global", "virtio-mmio.force-legacy=false"];
/// A command that ends in this boots another kernel: no end of it is waited for, but the next
/// shell.
pub const BOOTS: &str = "# boots";

/// What an initramfs says before its shell.
const BOOTED: &str = "guest: type \"loop &\"";

/// What both machines have: the kernel and its initramfs, each disk with its name and its image, a
/// network card, and a source of random bytes. Nobody is behind the card, unless [`Twins::outside`]
/// says so.
pub struct Twins<'l> {
    lab: &'l Lab,
    kernel: PathBuf,
    initramfs: PathBuf,
    disks: Vec<(&'static str, PathBuf)>,
    memory_mib: u64,
    has_outside: bool,
}

impl<'l> Twins<'l> {
    /// Returns twins with the usual Linux, and without a disk.
    pub fn new(lab: &'l Lab, memory_mib: u64) -> Result<Self> {
        let workspace = &Built::get()?.workspace;
        let initramfs = lab.path("initramfs");
        // The drivers first: kernel and drivers are of one version.
        write(&initramfs, &initramfs::make_with_virtio(workspace)?)?;
        let kernel = setup::guests::ensure(workspace)?.kernel;
        Ok(Self { lab, kernel, initramfs, disks: Vec::new(), memory_mib, has_outside: false })
    }

    /// Takes this for the initramfs.
    pub fn initramfs(self, bytes: &[u8]) -> Result<Self> {
        write(&self.initramfs, bytes)?;
        Ok(self)
    }

    /// Puts QEMU's user network behind the card.
    pub fn outside(mut self) -> Self {
        self.has_outside = true;
        self
    }

    /// Adds a disk with this content, which is copied.
    pub fn disk(mut self, name: &'static str, image: &Path) -> Self {
        self.disks.push((name, image.to_owned()));
        self
    }

    /// Types the commands in both, and compares what they print. Returns the images of the first
    /// disk as both have left it: that of QEMU's machine, and that of ours.
    pub fn compare(&self, commands: &[&str]) -> Result<[PathBuf; 2]> {
        let (expected, theirs) = self.on_plain_qemu(commands)?;
        let (found, ours) = self.here(commands)?;
        same(&expected, &found)?;
        Ok([theirs, ours])
    }

    fn on_plain_qemu(&self, commands: &[&str]) -> Result<(Vec<String>, PathBuf)> {
        let mut machine = Machine::plain(&self.kernel, Some(&self.initramfs))
            .cpu("cortex-a72")
            .cpus(2)
            .memory(format!("{}M", self.memory_mib))
            .cmdline("console=ttyAMA0")
            .time_limit(LIFE_TIME);
        let (mut slot, mut images) = (0, Vec::new());
        for (name, image) in &self.disks {
            let path = self.lab.path(&format!("{name}.img"));
            copy(image, &path)?;
            machine = machine.disk_in_slot(slot, &path, "discard=unmap", name);
            images.push(path);
            slot += 1;
        }
        let card = format!("virtio-net-device,netdev=nobody,bus=virtio-mmio-bus.{slot}");
        let random = format!("virtio-rng-device,bus=virtio-mmio-bus.{}", slot + 1);
        let netdev = if self.has_outside { "user,id=nobody" } else { "hubport,id=nobody,hubid=0" };
        let rest = ["-netdev", netdev, "-device", &card, "-device", &random];
        let arguments = MODERN.into_iter().chain(rest);
        let mut qemu = arguments.fold(machine, Machine::arg).start()?;
        qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
        let said = transcript(&mut qemu.console, commands);
        write(&self.lab.next_transcript(), qemu.console.transcript().as_bytes())?;
        qemu.kill()?;
        Ok((said?, images.swap_remove(0)))
    }

    fn here(&self, commands: &[&str]) -> Result<(Vec<String>, PathBuf)> {
        let disk = self.lab.disk_of(DISK)?;
        let mut config = guest("linux", self.memory_mib);
        config.vcpus = 2;
        config.initrd = Some("initramfs".to_owned());
        config.cmdline = "console=ttyAMA0".to_owned();
        config.networks = vec!["lan".to_owned()];
        config.entropy = true;
        let mut store = disk::store(&disk, true)?;
        for (name, path) in &self.disks {
            image::import(&mut store, path, name, None, 0)?;
            let size = path.metadata()?.len();
            config.disks.push(DiskConfig { volume: (*name).to_owned(), size, from: None });
        }
        drop(store);
        let (kernel, initramfs) = (read(&self.kernel)?, read(&self.initramfs)?);
        let mut setup =
            self.lab.machine().file("initramfs", initramfs).configured(config, Some(kernel));
        if self.has_outside {
            setup = setup.network(lan(UPLINK)).network_card("user");
        }
        let mut stasis = setup.disk(&disk).time_limit(LIFE_TIME).boot()?;
        stasis.attach("linux")?;
        stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
        let said = transcript(&mut stasis.qemu.console, commands)?;
        stasis.detach()?;
        stasis.quit()?;
        let mut store = disk::store(&disk, false)?;
        let (name, _) = self.disks[0];
        let path = self.lab.path("exported.img");
        image::export(&mut store, name, &disk, &path)?;
        Ok((said, path))
    }
}

/// Returns the lines that commands print, without the kernel's log, times and speeds, and without
/// the echo of long commands.
pub fn transcript(console: &mut Console, commands: &[&str]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for command in commands {
        lines.push((*command).to_owned());
        if command.ends_with(BOOTS) {
            console.send_line(command)?;
            // What was there before the command may be unread.
            console.wait_for(BOOTED, BOOT_TIME)?;
            console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
            continue;
        }
        // Before it come echoes, of which the line of the shell and whoever attaches make pieces.
        let typed = format!("echo begin $((6 * 7)); {command}");
        let said = shell_within(console, &typed, COMMAND_TIME)?;
        let printed = said.into_iter().skip_while(|line| line != "begin 42").skip(1);
        let is_told = |line: &String| {
            !line.starts_with('[') && !line.contains("copied") && !line.contains("guest# ")
        };
        lines.extend(printed.filter(is_told));
    }
    Ok(lines)
}
