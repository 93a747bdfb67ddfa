//! The Debian guest of the demo: its root is a disk, its steps go to that disk and over a
//! connection to a neighbour, and it serves them as a page.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use stasis_tool::volume::Action;

use super::shell::{ask, kernel_is_content};
use super::{STEP_TIME, Values, Workload, show};
use crate::board::Board;
use crate::console::Console;
use crate::images::ext4;
use crate::images::system::{self, System};
use crate::initramfs::{self, Loop};
use crate::qemu::Machine;
use crate::workspace::Workspace;
use crate::{disk, page, report};

/// Time that Debian may take until its login, and until it is off.
const BOOT_TIME: Duration = Duration::from_secs(900);
/// Bytes of the machine's disk, most of which are a hole.
const DISK: u64 = 4 << 30;
/// The volume that is Debian's disk, and the name of the checkpoint.
const VOLUME: &str = "root";
const CHECKPOINT: &str = "demo/debian";
const NEIGHBOUR: &str = "neighbour";
/// An address that QEMU gives to nobody.
const NEIGHBOUR_ADDRESS: &str = "10.0.2.100";
const PROMPT: &str = "debian# ";
/// A file of random bytes, and the file that the steps are written to; where the guest has them,
/// and where it serves them.
const FOLDER: &str = "/var/www/html";
const FILE: &str = "random";
const STEPS: &str = "loop";
/// Where nginx says in the guest that a page could not be served, or that a process of its own has
/// died. Nothing is in there after a boot.
const SERVER_ERRORS: &str = "/var/log/nginx/error.log";

/// What the neighbour does: it sends back what comes.
const ECHO: &str = "ip addr add 10.0.2.100/24 dev eth0; ip link set eth0 up; mkfifo /tmp/f; \
                    (nc -l -p 7000 < /tmp/f | tee /tmp/seen > /tmp/f &)";

pub struct Debian {
    system: System,
    /// Where files are put to be looked at.
    folder: PathBuf,
    /// The port of this host that leads to the guest's server.
    port: u16,
    steps: Loop,
    address: String,
    /// The hash of the random bytes, and the number of steps that were on the disk right before the
    /// checkpoint.
    before: Option<(String, u64)>,
}

impl Debian {
    /// Returns the guest. Makes its image if there is none.
    pub fn new(workspace: &Workspace, board: &Board) -> Result<Self> {
        ensure!(!board.is_fixed(), "--guest debian wants a network card: it is for the board virt");
        let system = system::ensure(workspace)?;
        Ok(Self {
            system,
            folder: workspace.folder("demo")?,
            port: page::free_port()?,
            steps: Loop::new(),
            address: String::new(),
            before: None,
        })
    }

    /// Fetches the random bytes from the guest's server, and returns their hash.
    fn fetch(&self) -> Result<String> {
        let bytes = page::fetch(self.port, &format!("/{FILE}"))?;
        report::note(format_args!(
            "the host has fetched a page of {}",
            report::size(bytes.len() as u64)
        ));
        Ok(hash(&bytes))
    }

    /// Takes a file system out of the disk and does what a mount would do first, then checks it.
    /// Returns the steps that are in it.
    fn look_at(&self, disk: &Path, volume: &str, checkpoint: Option<&str>) -> Result<u64> {
        let image = self.folder.join("debian-export.img");
        Action::Export {
            disk: disk.to_owned(),
            name: volume.to_owned(),
            file: image.clone(),
            checkpoint: checkpoint.map(str::to_owned),
        }
        .run()?;
        // What was switched off has nothing to recover.
        if volume != VOLUME || checkpoint.is_some() {
            ext4::recover(&image)?;
        }
        ext4::check(&image)?;
        let file = self.folder.join("debian-loop");
        ext4::take(&image, &format!("{FOLDER}/{STEPS}"), &file)?;
        let text = String::from_utf8(crate::workspace::read(&file)?)?;
        let steps = count_steps(&text).with_context(|| format!("the steps of volume {volume}"))?;
        std::fs::remove_file(&image)?;
        std::fs::remove_file(&file)?;
        report::note(format_args!("fsck is silent, and its {steps} steps are right"));
        Ok(steps)
    }
}

/// Returns the number of steps in the guest's file, each of which must have the hash that it must
/// have.
fn count_steps(text: &str) -> Result<u64> {
    let (mut model, mut step) = (Loop::new(), 0);
    for line in text.lines() {
        step += 1;
        let expected = format!("{step} {}", model.hash_at(step).unwrap_or_default());
        ensure!(line == expected, "\"{line}\" stands where \"{expected}\" must be");
    }
    Ok(step)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the hash of the file of random bytes, as the guest's disk has it.
fn hash_on_disk(console: &mut Console) -> Result<String> {
    let drop = "sync; echo 3 > /proc/sys/vm/drop_caches";
    ask(console, drop, "random", &format!("$(sha256sum < {FOLDER}/{FILE} | cut -c 1-64)"))
}

impl Workload for Debian {
    fn neighbour(&self) -> Option<&'static str> {
        Some(NEIGHBOUR)
    }

    fn make_disk(&self, disk: &Path) -> Result<()> {
        disk::create(disk, DISK)?;
        let (file, name) = (self.system.image.clone(), VOLUME.to_owned());
        Action::Import { disk: disk.to_owned(), file, name, size: None }.run()
    }

    fn equip(&self, machine: Machine) -> Machine {
        let port = self.port;
        machine.network_card(format!("user,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:80"))
    }

    fn begin(&mut self, console: &mut Console) -> Result<()> {
        report::step("Debian boots from its disk");
        console.find_line("Debian's login", BOOT_TIME, |line| {
            if ["[  OK  ] ", "[FAILED] ", "[ TIME ] "].iter().any(|begin| line.starts_with(begin)) {
                show(line);
            }
            line.starts_with("Debian GNU/Linux").then_some(())
        })?;
        console.wait_for("login: ", STEP_TIME)?;
        console.send_line("root")?;
        console.wait_for("# ", BOOT_TIME)?;
        // The quotes keep the line that is echoed from being taken for the prompt.
        console.send_line("PS1='debian'\"# \" exec sh")?;
        console.wait_for(PROMPT, STEP_TIME)?;
        let wait = "until ip -4 -o addr show scope global | grep -q inet; do sleep 1; done";
        let show_address = "$(ip -4 -o addr show scope global | awk '{ print $4, $2 }')";
        self.address = ask(console, wait, "address", show_address)?;
        report::note(format_args!("its address is {}", self.address));

        report::step("its neighbour, a Linux with a busybox, waits for a connection");
        console.detach()?;
        console.command(&format!("attach {NEIGHBOUR}"))?;
        console.send_line("")?;
        console.wait_for(initramfs::PROMPT, STEP_TIME)?;
        ask(console, ECHO, "listens", "yes")?;
        console.detach()?;
        console.command("attach debian")?;
        Ok(console.send_line(&format!("loop {NEIGHBOUR_ADDRESS} &"))?)
    }

    fn expected(&mut self, step: u64) -> String {
        self.steps.hash_at(step).unwrap_or_default()
    }

    fn before(&mut self, console: &mut Console) -> Result<()> {
        let write = format!("head -c 16777216 /dev/urandom > {FOLDER}/{FILE}; sync");
        ask(console, &write, "written", "yes")?;
        let written = hash_on_disk(console)?;
        ensure!(self.fetch()? == written, "what the guest serves is not what it has written");
        let steps = ask(console, "", "steps", &format!("$(wc -l < {FOLDER}/{STEPS})"))?;
        self.before = Some((written, steps.parse().context("the guest can't count its steps")?));
        Ok(())
    }

    fn after(&mut self, console: &mut Console) -> Result<Values> {
        let (written, _) = self.before.as_ref().context("the guest was not looked at")?;
        ensure!(hash_on_disk(console)? == *written, "the file on its disk is another one");
        ensure!(self.fetch()? == *written, "the page that it serves is another one");
        // A server that falls and is started anew would answer, too.
        let errors = ask(console, "", "errors", &format!("$(tail -n 1 {SERVER_ERRORS})"))?;
        ensure!(errors.is_empty(), "its server complains: {errors}");
        kernel_is_content(console)?;
        let failed = ask(console, "", "failed", "$(systemctl --failed --no-legend | wc -l)")?;
        ensure!(failed == "0", "systemd says that {failed} of its units have failed");
        report::step("switching the guest off, as a person would");
        console.send_line("systemctl poweroff")?;
        console.wait_for("[guest \"debian\"", BOOT_TIME)?;
        Ok(vec![
            ("its address", format!("{}, by DHCP", self.address)),
            ("the connection", "each step went to the neighbour and back by it".to_owned()),
            ("the page", "16 MiB, the same before and after; no error in nginx's log".to_owned()),
            ("systemd", "no unit has failed".to_owned()),
            ("dmesg", "no complaint".to_owned()),
        ])
    }

    fn look_at_disk(&mut self, disk: &Path) -> Result<Values> {
        let (_, known) = self.before.as_ref().context("the guest was not looked at")?;
        let number = disk::store(disk, false)?.find(CHECKPOINT)?.number;
        let kept = format!("{VOLUME}-before-{number}");
        report::step("the disk as it was at the instant of the checkpoint");
        let then = self.look_at(disk, VOLUME, Some(CHECKPOINT))?;
        ensure!(then >= *known, "{known} steps were on the disk, and the checkpoint has {then}");
        report::step("the disk as the loss of power left it");
        let lost = self.look_at(disk, &kept, None)?;
        ensure!(lost >= then, "{then} steps were at the instant, and {lost} at the loss of power");
        report::step("the disk after the guest was switched off");
        let end = self.look_at(disk, VOLUME, None)?;
        Ok(vec![
            (
                "steps on its disk",
                format!("{then} at the instant, {lost} at the loss of power, {end} in the end"),
            ),
            ("fsck", "silent about each of these".to_owned()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_lost_or_wrong_on_the_disk_is_seen() {
        let mut model = Loop::new();
        let line = |step| format!("{step} {}\n", model.hash_at(step).unwrap());
        let lines: Vec<String> = (1..=3).map(line).collect();
        assert_eq!(count_steps(&lines.concat()).unwrap(), 3);
        assert_eq!(count_steps("").unwrap(), 0);
        let lost = [&lines[0][..], &lines[2]].concat();
        assert!(count_steps(&lost).unwrap_err().to_string().contains("stands where \"2 "));
    }
}
