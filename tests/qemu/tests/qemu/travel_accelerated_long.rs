//! Guests that travel between Stasis and a QEMU with `-accel kvm`, which runs in a Linux with a
//! KVM, nested in QEMU. These tests run only by their name: `cargo xtask test travel`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::accelerated::Accelerated;
use stasis_qemu_tests::guests::{NO_PHYSICAL_TIMER, TARGETS_ARE_ZERO, Ticks, ticks, ticks_but};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::outer::Host;
use stasis_qemu_tests::stasis::Conversation;
use stasis_qemu_tests::tamper;
use xtask::initramfs::Loop;
use xtask::workspace::{read, write};

use crate::resume::{follows, watch};
use crate::travel_qemu::{arrive, refused, run, tool, word};
use crate::travel_qemu_long::linux_in_stasis;
use crate::{linux, sgis};

/// The frequency of the counter of QEMU's CPUs, in Hz.
const FREQUENCY: &str = "62500000";

/// A checkpoint on its way to a QEMU with KVM.
pub struct Going<'l> {
    pub lab: &'l Lab,
    /// The disk with the checkpoint, and its number there.
    pub disk: PathBuf,
    pub number: u64,
}

/// Where the stream is in the Linux around QEMU. The image of a disk is beside it.
const THERE: &str = "/tmp/there.qemu";
/// What the name of the image of the disk `root` has behind that of the stream.
const IMAGE: &str = ".root.img";

impl Going<'_> {
    fn stream(&self) -> PathBuf {
        self.lab.path("there.qemu")
    }

    /// Returns the image of the disk `root`, beside the stream.
    pub fn image(&self) -> PathBuf {
        self.lab.path(&format!("there.qemu{IMAGE}"))
    }

    fn base(&self) -> PathBuf {
        self.lab.path("base.qemu")
    }

    /// Makes a base by the command that is told where there is no KVM, and starts QEMU by the
    /// command that is printed then.
    pub fn go(&self, there: &mut Accelerated) -> Result<()> {
        let (stream, base) = (self.stream(), self.base());
        let (number, disk) = (self.number.to_string(), word(&self.disk)?);
        let words = ["convert", "qemu", disk, &number, "--backend", "kvm", "--out", word(&stream)?];
        let said_to = refused(&words)?;
        let make = said_to.split('`').nth(1).context("it tells no command")?;
        there.shell(&format!("cd /tmp; {make} > /dev/null"))?;
        write(&base, &there.get("/tmp/base.qemu")?)?;

        let output = run(&[&words[..], &["--base", word(&base)?]].concat())?;
        let printed = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{printed}");
        let command = printed.lines().find(|line| line.contains("-incoming"));
        let command = command.context("it prints no command")?.trim();
        there.put(&read(&stream)?, THERE)?;
        if self.image().exists() {
            there.put(&read(&self.image())?, &format!("{THERE}{IMAGE}"))?;
        }
        there.start(&command.replace(word(&stream)?, THERE))
    }

    /// Ends the QEMU with KVM, and makes the checkpoint `back.stasis` of its guest, which has a
    /// disk and a card.
    pub fn come_back_with_disk_and_card(&self, there: &mut Accelerated, name: &str) -> Result<()> {
        let stream = there.leave()?;
        write(&self.image(), &there.get(&format!("{THERE}{IMAGE}"))?)?;
        let disk = format!("root={}", word(&self.image())?);
        back(
            self.lab,
            &stream,
            &self.base(),
            &["--name", name, "--disk", &disk, "--network", "lan"],
        )
    }

    /// Ends the QEMU with KVM, and returns the number of its guest's checkpoint on the disk.
    fn come_back(&self, there: &mut Accelerated, name: &str) -> Result<u64> {
        back(self.lab, &there.leave()?, &self.base(), &["--name", name])?;
        tamper::put(&self.disk, "travelled", &read(&self.lab.path("back.stasis"))?)
    }
}

/// Makes the checkpoint `back.stasis` of a stream. `more` says what no stream does.
fn back(lab: &Lab, stream: &[u8], base: &Path, more: &[&str]) -> Result<()> {
    let (path, file) = (lab.path("back.qemu"), lab.path("back.stasis"));
    write(&path, stream)?;
    let words = ["convert", "from-qemu", word(&path)?, "--base", word(base)?];
    let words = [&words[..], more, &["--out", word(&file)?]].concat();
    let crossed = refused(&words)?;
    ensure!(crossed.contains("was run by a KVM; say --backend kvm"), "{crossed}");
    let words = [&words[..], &["--backend", "kvm"]].concat();
    let unsaid = refused(&words)?;
    ensure!(unsaid.contains("--counter-frequency HZ"), "{unsaid}");
    tool(&[&words[..], &["--counter-frequency", FREQUENCY]].concat()).map(drop)
}

/// Takes `counter` to a QEMU with KVM on a host, and back.
fn counter_there_and_back(lab: &Lab, host: Host, told: &[&str]) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = watch(&mut stasis, &mut model, 5)?;
    let number = stasis.checkpoint("counter", "stasis")?;
    stasis.kill()?;

    let going = Going { lab, disk, number };
    let mut there = Accelerated::boot(lab, host)?;
    going.go(&mut there)?;
    let over_there = ticks_but(there.console(), &mut model, 20, told)?;
    follows(&before, &over_there)?;
    let number = going.come_back(&mut there, "counter")?;
    drop(there);

    let mut stasis = arrive(lab, &going.disk, number)?;
    follows(&over_there, &watch(&mut stasis, &mut model, 20)?)?;
    stasis.quit()
}

pub fn a_counter_goes_on_in_qemu_with_kvm_and_comes_back(lab: &Lab) -> Result<()> {
    counter_there_and_back(lab, Host::Backports, &[])
}

pub fn a_counter_goes_on_in_qemu_with_an_older_kvm_and_comes_back(lab: &Lab) -> Result<()> {
    counter_there_and_back(lab, Host::Stable, &NO_PHYSICAL_TIMER)
}

/// The CPU of a machine in QEMU with KVM that can go to Stasis.
const CPU: &str = "host,pmu=off,kvm-steal-time=off";

/// A `counter` that has begun in QEMU with KVM.
struct Begun {
    /// What it has printed.
    seen: Ticks,
    /// The machine.
    stream: Vec<u8>,
    /// Such a machine that never ran.
    base: Vec<u8>,
}

/// Starts `counter` in QEMU with KVM, on this CPU, and looks at some of what it does.
fn begin(there: &mut Accelerated, lab: &Lab, model: &mut Model, cpu: &str) -> Result<Begun> {
    let machine = format!(
        "qemu-system-aarch64 -M virt,gic-version=2 -accel kvm -cpu {cpu} -smp 1 -m 32M -nic none"
    );
    there.shell(&format!(
        "(echo migrate file:/tmp/base.qemu; sleep 30; echo quit) | {machine} -S -display none -serial null -monitor stdio > /dev/null"
    ))?;
    let base = there.get("/tmp/base.qemu")?;
    there.put(&lab.guest("counter")?, "/tmp/counter")?;
    there.start(&format!("{machine} -nographic -kernel /tmp/counter"))?;
    let seen = ticks(there.console(), model, 10)?;
    Ok(Begun { seen, stream: there.leave()?, base })
}

pub fn a_counter_that_began_in_qemu_with_kvm_goes_on_in_stasis(lab: &Lab) -> Result<()> {
    let (disk, base, mut model) = (lab.disk()?, lab.path("base.qemu"), Model::new());
    let mut there = Accelerated::boot(lab, Host::Backports)?;
    let begun = begin(&mut there, lab, &mut model, CPU)?;
    drop(there);
    write(&base, &begun.base)?;
    back(lab, &begun.stream, &base, &["--name", "counter"])?;
    let number = tamper::put(&disk, "travelled", &read(&lab.path("back.stasis"))?)?;
    let mut stasis = arrive(lab, &disk, number)?;
    stasis.attach("counter")?;
    let told = [TARGETS_ARE_ZERO];
    let seen = ticks_but(&mut stasis.qemu.console, &mut model, 20, &told)?;
    follows(&begun.seen, &seen)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn linux_with_two_vcpus_goes_on_in_qemu_with_kvm_and_comes_back(lab: &Lab) -> Result<()> {
    let (disk, mut hashes) = (lab.disk()?, Loop::new());
    let setup = linux::machine(lab, 2)?.cpus(3).disk(&disk);
    let (number, last) = linux::store_in_its_loop(setup, &mut hashes, 5, "in-the-loop")?;

    let going = Going { lab, disk, number };
    let mut there = Accelerated::boot(lab, Host::Backports)?;
    going.go(&mut there)?;
    let last = linux::watch(&mut there, &mut hashes, last, 10)?;
    linux::dmesg_is_silent(&mut there)?;
    let number = going.come_back(&mut there, "linux")?;
    drop(there);
    linux_in_stasis(lab, &going.disk, number, &mut hashes, last)?.kill()
}

pub fn two_vcpus_amid_their_sgis_go_on_in_qemu_with_kvm_and_come_back(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = sgis::machine(lab)?.disk(&disk).boot()?;
    stasis.attach("ipi")?;
    let taken = sgis::some(&mut stasis.qemu.console, 0, 1)?;
    stasis.detach()?;
    let number = stasis.checkpoint("ipi", "amid-sgis")?;
    stasis.kill()?;

    let going = Going { lab, disk, number };
    let mut there = Accelerated::boot(lab, Host::Backports)?;
    going.go(&mut there)?;
    sgis::some(there.console(), taken, 2)?;
    let number = going.come_back(&mut there, "ipi")?;
    drop(there);
    let mut stasis = arrive(lab, &going.disk, number)?;
    stasis.attach("ipi")?;
    sgis::all_are_taken(&mut stasis.qemu.console)?;
    stasis.kill()
}

pub fn a_guest_that_is_told_of_stolen_time_is_refused(lab: &Lab) -> Result<()> {
    let (base, mut model) = (lab.path("base.qemu"), Model::new());
    let mut there = Accelerated::boot(lab, Host::Backports)?;
    let begun = begin(&mut there, lab, &mut model, "host,pmu=off")?;
    write(&base, &begun.base)?;
    let why = refused_as_a_guest(lab, &begun.stream, &base)?;
    ensure!(why.contains("kvm-steal-time=off"), "{why}");
    Ok(())
}

/// Returns why no checkpoint can be made of a stream.
fn refused_as_a_guest(lab: &Lab, stream: &[u8], base: &Path) -> Result<String> {
    let (path, file) = (lab.path("back.qemu"), lab.path("back.stasis"));
    write(&path, stream)?;
    let words = ["convert", "from-qemu", word(&path)?, "--base", word(base)?, "--backend", "kvm"];
    let more = ["--counter-frequency", FREQUENCY, "--out", word(&file)?];
    let why = refused(&[&words[..], &more].concat())?;
    ensure!(!file.exists(), "a checkpoint was made");
    Ok(why)
}
