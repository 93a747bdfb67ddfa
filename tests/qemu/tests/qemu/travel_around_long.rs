//! Guests that go around all four systems, both ways: Stasis on `virt`, Stasis on `raspi4b`, plain
//! QEMU, and a KVM. With [`travel_kvm`](crate::travel_kvm) and
//! [`travel_qemu_long`](crate::travel_qemu_long) these are all twelve directions. These tests run
//! only by their name: `cargo xtask test travel`.

use anyhow::{Context, Result};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{Ticks, ticks};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Nested};
use stasis_qemu_tests::stasis::{Setup, Stasis};
use stasis_qemu_tests::tamper;
use xtask::initramfs::Loop;

use crate::resume::{follows, watch};
use crate::travel_qemu::{arrive, to_plain, to_stasis};
use crate::{board, linux, sgis};

/// A guest on its way, and what it has printed.
enum Traveller {
    /// `counter`, and its last ticks.
    Counter(Model, Ticks),
    /// A Linux with two vCPUs, and the last step of its loop.
    Linux(Loop, u64),
    /// `ipi`, whose two vCPUs send each other SGIs, and how many were taken by its last sign of
    /// life.
    Sgis(u64),
}

/// A system that runs guests.
#[derive(Clone, Copy, Debug)]
enum System {
    Virt,
    Raspi4,
    Qemu,
    Kvm,
}

impl Traveller {
    fn name(&self) -> &'static str {
        match self {
            Self::Counter(..) => "counter",
            Self::Linux(..) => "linux",
            Self::Sgis(_) => "ipi",
        }
    }

    /// Looks at some of what the guest does under Stasis. It is not attached then.
    fn look_in_stasis(&mut self, stasis: &mut Stasis) -> Result<()> {
        match self {
            Self::Counter(model, last) => {
                let found = watch(stasis, model, 10)?;
                follows(last, &found)?;
                *last = found;
            }
            Self::Linux(hashes, last) => {
                stasis.attach("linux")?;
                *last = linux::watch(stasis, hashes, *last, 5)?;
                linux::dmesg_is_silent(stasis)?;
                *last = linux::watch(stasis, hashes, *last, 2)?;
                stasis.detach()?;
            }
            Self::Sgis(taken) => {
                stasis.attach("ipi")?;
                *taken = sgis::some(&mut stasis.qemu.console, *taken, 1)?;
                stasis.detach()?;
            }
        }
        Ok(())
    }

    /// Looks at some of what the guest does elsewhere.
    fn look(&mut self, there: &mut impl stasis_qemu_tests::stasis::Conversation) -> Result<()> {
        match self {
            Self::Counter(model, last) => {
                let found = ticks(there.console(), model, 10)?;
                follows(last, &found)?;
                *last = found;
            }
            Self::Linux(hashes, last) => {
                *last = linux::watch(there, hashes, *last, 5)?;
                linux::dmesg_is_silent(there)?;
                *last = linux::watch(there, hashes, *last, 2)?;
            }
            Self::Sgis(taken) => *taken = sgis::some(there.console(), *taken, 1)?,
        }
        Ok(())
    }

    /// Runs the guest of a checkpoint on a system, and returns a checkpoint that was made there.
    fn visit(&mut self, lab: &Lab, system: System, bytes: &[u8]) -> Result<Vec<u8>> {
        without_disks(lab);
        match system {
            System::Virt => self.in_stasis(lab.machine().cpus(3), bytes, &lab.disk()?, ""),
            System::Raspi4 => {
                self.in_stasis(board::machine(lab)?, bytes, &board::card(lab)?, board::WHOLE)
            }
            System::Qemu => {
                let disk = lab.disk()?;
                let number = tamper::put(&disk, "travelled", bytes)?;
                let (cpus, memory) = match self {
                    Self::Counter(..) => (1, "32M"),
                    Self::Linux(..) => (2, "256M"),
                    Self::Sgis(_) => (2, "32M"),
                };
                let mut plain = to_plain(lab, &disk, number, cpus, memory)?;
                self.look(&mut plain)?;
                let number = to_stasis(lab, plain, self.name(), &disk)?;
                tamper::get(&disk, number)
            }
            System::Kvm => {
                let mut nested = Nested::boot(lab, Host::Backports, &[bytes.to_vec()])?;
                nested.run(0)?;
                self.look(&mut nested)?;
                nested.leave(0)
            }
        }
    }

    /// Does the work of [`Self::visit`] in Stasis. `how` is what is said of the resume.
    fn in_stasis(
        &mut self,
        machine: Setup<'_>,
        bytes: &[u8],
        disk: &std::path::Path,
        how: &str,
    ) -> Result<Vec<u8>> {
        let number = tamper::put(disk, "travelled", bytes)?;
        let mut stasis = machine.no_archive().disk(disk).boot()?;
        stasis.resume(format!("{number}{how}"))?;
        self.look_in_stasis(&mut stasis)?;
        let number = stasis.checkpoint(self.name(), "goes-on")?;
        stasis.kill()?;
        tamper::get(disk, number)
    }

    /// Takes the guest from one system to the next, and returns the checkpoint that was made at the
    /// last one.
    fn go(&mut self, lab: &Lab, mut bytes: Vec<u8>, way: &[System]) -> Result<Vec<u8>> {
        for system in way {
            bytes = self.visit(lab, *system, &bytes).with_context(|| format!("at {system:?}"))?;
        }
        Ok(bytes)
    }
}

/// Removes the disks of the systems before.
fn without_disks(lab: &Lab) {
    for old in ["disk.img", "card.img"] {
        // The first time there is none.
        let _ = std::fs::remove_file(lab.path(old));
    }
}

/// From `virt` on, and back there.
const AROUND: [System; 4] = [System::Raspi4, System::Kvm, System::Qemu, System::Virt];
const THE_OTHER_WAY: [System; 4] = [System::Qemu, System::Kvm, System::Raspi4, System::Virt];

pub fn a_counter_goes_around_both_ways(lab: &Lab) -> Result<()> {
    for way in [AROUND, THE_OTHER_WAY] {
        without_disks(lab);
        let (disk, mut model) = (lab.disk()?, Model::new());
        let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
        let first = watch(&mut stasis, &mut model, 5)?;
        let number = stasis.checkpoint("counter", "goes")?;
        stasis.kill()?;
        Traveller::Counter(model, first).go(lab, tamper::get(&disk, number)?, &way)?;
    }
    Ok(())
}

/// Takes two vCPUs amid their SGIs along a way, and then lets them come to their end in Stasis.
fn sgis_go(lab: &Lab, way: &[System]) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = sgis::machine(lab)?.disk(&disk).boot()?;
    stasis.attach("ipi")?;
    let taken = sgis::some(&mut stasis.qemu.console, 0, 1)?;
    stasis.detach()?;
    let number = stasis.checkpoint("ipi", "goes")?;
    stasis.kill()?;
    let bytes = Traveller::Sgis(taken).go(lab, tamper::get(&disk, number)?, way)?;
    without_disks(lab);
    let disk = lab.disk()?;
    let number = tamper::put(&disk, "travelled", &bytes)?;
    let mut stasis = arrive(lab, &disk, number)?;
    stasis.attach("ipi")?;
    sgis::all_are_taken(&mut stasis.qemu.console)?;
    stasis.kill()
}

pub fn two_vcpus_amid_their_sgis_go_around(lab: &Lab) -> Result<()> {
    sgis_go(lab, &AROUND)
}

pub fn two_vcpus_amid_their_sgis_go_around_the_other_way(lab: &Lab) -> Result<()> {
    sgis_go(lab, &THE_OTHER_WAY)
}

pub fn two_vcpus_amid_their_sgis_go_by_the_other_four_directions(lab: &Lab) -> Result<()> {
    use System::{Kvm, Qemu, Raspi4, Virt};
    sgis_go(lab, &[Kvm, Virt, Raspi4, Qemu, Raspi4])
}

/// Takes a Linux around.
fn linux_goes(lab: &Lab, way: &[System]) -> Result<()> {
    let (disk, mut hashes) = (lab.disk()?, Loop::new());
    let setup = linux::machine(lab, 2)?.cpus(3).disk(&disk);
    let (number, last) = linux::store_in_its_loop(setup, &mut hashes, 5, "goes")?;
    Traveller::Linux(hashes, last).go(lab, tamper::get(&disk, number)?, way).map(drop)
}

pub fn linux_with_two_vcpus_goes_around(lab: &Lab) -> Result<()> {
    linux_goes(lab, &AROUND)
}

pub fn linux_with_two_vcpus_goes_around_the_other_way(lab: &Lab) -> Result<()> {
    linux_goes(lab, &THE_OTHER_WAY)
}
