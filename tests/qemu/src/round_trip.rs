//! What a guest is when it comes back: [`is_as_it_went`] compares two of its checkpoints, but for
//! what docs/conversion.md says that a way changes.

use anyhow::{Context, Result, ensure};
use stasis_convert::qemu::{Backend, encode};
use stasis_convert::{Loss, Vgic, kvm};
use stasis_state::GuestState;
use stasis_state::timer::{settle, settle_lines};
use stasis_state::vcpu::{Core, Identity};

use crate::tamper;

/// General registers that a loop changes in which a guest waits.
const LOOP_REGISTERS: usize = 3;
/// The flags in PSTATE.
const NZCV: u64 = 0xf << 28;

/// Where a guest has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abroad {
    /// In plain QEMU, where it never ran.
    Qemu,
    /// On a KVM, where it waited in a loop that changes nothing but the flags, the PC, and
    /// [`LOOP_REGISTERS`] general registers.
    Kvm,
}

impl Abroad {
    /// Returns what the way there takes from a GIC.
    fn losses(self, vgic: &Vgic) -> Vec<Loss> {
        match self {
            Self::Qemu => encode(vgic, Backend::Tcg).losses,
            Self::Kvm => kvm::write(vgic).losses,
        }
    }
}

/// Checks that a guest came back as it went: of two checkpoints, all registers, devices and memory,
/// but for the losses, which the conversion tells.
///
/// # Errors
///
/// What differs, or a checkpoint that is none.
pub fn is_as_it_went(went: &[u8], came: &[u8], abroad: Abroad) -> Result<()> {
    let (mut was, mut is) = (tamper::state(went)?, tamper::state(came)?);
    let losses = abroad.losses(&Vgic::settled(&was));
    if abroad == Abroad::Kvm {
        for (index, (was, is)) in was.vcpus.iter_mut().zip(&mut is.vcpus).enumerate() {
            forget_loop(&mut was.core, &mut is.core).with_context(|| format!("vCPU {index}"))?;
        }
        *was.clock.cntvct = *is.clock.cntvct;
    }
    was = with(was, &losses);
    for state in [&mut was, &mut is] {
        forget(state);
    }
    for (index, (was, is)) in was.vcpus.iter().zip(&is.vcpus).enumerate() {
        ensure!(was == is, "vCPU {index} was {was:#?}\nand is {is:#?}");
    }
    ensure!(was.devices == is.devices, "{:?} are {:?}", was.devices, is.devices);
    ensure!(was.distributor == is.distributor, "{:?} is {:?}", was.distributor, is.distributor);
    ensure!(was == is, "{was:#?}\nis {is:#?}");
    ensure!(tamper::memory(went)? == tamper::memory(came)?, "its memory has changed");
    Ok(())
}

/// Makes neutral what a loop has changed in which a vCPU waits.
///
/// # Errors
///
/// More general registers have changed than those of a loop.
fn forget_loop(was: &mut Core, is: &mut Core) -> Result<()> {
    let changed: Vec<usize> = (0..31).filter(|n| was.x[*n] != is.x[*n]).collect();
    ensure!(changed.len() <= LOOP_REGISTERS, "general registers {changed:?} have changed");
    for core in [was, is] {
        changed.iter().for_each(|n| core.x[*n] = 0);
        *core.pc = 0;
        *core.pstate &= !NZCV;
    }
    Ok(())
}

/// Returns the state with these losses.
fn with(mut state: GuestState, losses: &[Loss]) -> GuestState {
    let mut vgic = Vgic::settled(&state);
    losses.iter().for_each(|loss| loss.apply(&mut vgic));
    *state.distributor = vgic.distributor;
    for (vcpu, cpu) in state.vcpus.iter_mut().zip(vgic.cpus) {
        vcpu.cpu_interface = cpu;
    }
    state
}

/// Makes neutral what every way changes, and what follows from other state.
fn forget(state: &mut GuestState) {
    state.lineage = None;
    *state.clock.wall_time = 0;
    *state.distributor.iidr = 0;
    for vcpu in &mut state.vcpus {
        vcpu.identity = Identity::default();
        // A timer may have come due since the guest ran last.
        settle(&mut vcpu.system, *state.clock.cntvct);
        settle_lines(&mut vcpu.cpu_interface, &vcpu.system, *state.clock.cntvct);
    }
    // With one vCPU there is no GICD_ITARGETSR.
    if state.vcpus.len() == 1 {
        state.distributor.spi_targets.fill(0);
    }
}
