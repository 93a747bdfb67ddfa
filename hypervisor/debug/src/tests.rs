//! A guest of two vCPUs in memory, which obeys a [`Plan`], and gdb's packets to it.

mod points;
mod registers;
mod session;
mod translation;

use std::vec::Vec;

use stasis_state::vcpu::{Core, FpSimd, SystemRegisters};

use crate::machine::{Machine, Records, Refused};
use crate::plan::Plan;
use crate::points::Limits;

/// The first address of the model's RAM.
const RAM: u64 = 0x4000_0000;
/// Bytes of the model's RAM.
const LEN: usize = 0x1_0000;

/// A vCPU's records.
#[derive(Clone, Default)]
struct Vcpu {
    core: Core,
    fp: FpSimd,
    system: SystemRegisters,
}

/// The guest.
struct Model {
    vcpus: Vec<Vcpu>,
    ram: Vec<u8>,
    limits: Option<Limits>,
    /// What gdb has let the guest do, oldest first.
    plans: Vec<Plan>,
    interrupts: usize,
}

impl Model {
    fn new() -> Self {
        let mut vcpus = std::vec![Vcpu::default(); 2];
        for (n, vcpu) in vcpus.iter_mut().enumerate() {
            *vcpu.core.pstate = 0b0101;
            *vcpu.core.pc = RAM + 0x100 * n as u64;
        }
        let limits = Some(Limits { breakpoints: 6, watchpoints: 4 });
        Self { vcpus, ram: std::vec![0; LEN], limits, plans: Vec::new(), interrupts: 0 }
    }

    fn bytes(&mut self, address: u64, len: usize) -> Result<&mut [u8], Refused> {
        let start = address.checked_sub(RAM).ok_or(Refused::NotRam)? as usize;
        self.ram.get_mut(start..start + len).ok_or(Refused::NotRam)
    }

    fn put(&mut self, address: u64, word: u64) {
        self.bytes(address, 8).unwrap().copy_from_slice(&word.to_le_bytes());
    }
}

impl Machine for &mut Model {
    fn vcpus(&self) -> usize {
        self.vcpus.len()
    }

    fn with<R>(&mut self, vcpu: usize, with: impl FnOnce(Records<'_>) -> R) -> Option<R> {
        let Vcpu { core, fp, system } = self.vcpus.get_mut(vcpu)?;
        Some(with(Records { core, fp, system }))
    }

    fn is_on(&self, vcpu: usize) -> bool {
        vcpu == 0
    }

    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Refused> {
        assert!(address % 4096 + into.len() as u64 <= 4096, "one page");
        into.copy_from_slice(self.bytes(address, into.len())?);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Refused> {
        assert!(address % 4096 + bytes.len() as u64 <= 4096, "one page");
        self.limits.ok_or(Refused::ReadOnly)?;
        self.bytes(address, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn limits(&self) -> Option<Limits> {
        self.limits
    }

    fn resume(&mut self, plan: &Plan) {
        self.plans.push(*plan);
    }

    fn interrupt(&mut self) {
        self.interrupts += 1;
    }
}
