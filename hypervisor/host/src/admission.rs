//! Whether a stored guest may go on on this machine, in whose place, and what a resume that fails
//! costs.
//!
//! A checkpoint is looked at twice. [`Terms::look`] sees a guest's registers alone, before its
//! memory is read: a checkpoint that the machine can't have is refused at once. [`Terms::admit`]
//! sees a checkpoint that was read whole and found good, and makes the [`Admitted`] guest of it.
//! [`steps`] has the order in which several guests are admitted, loaded and run, and [`Losses`]
//! counts what is overwritten meanwhile. [`frames`] says when memory that takes frames as it is
//! loaded is loaded. `boot` takes the memory and the cores. What the format asks of a host is
//! [`HostFacts`], what a CPU must have [`identity::check`], and what guests share
//! [`stasis_guest::shared`].

pub mod frames;
mod losses;
pub mod steps;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use stasis_devices::inventory::{self, OtherMachine};
use stasis_devices::machine::{GICC_BASE, GICD_BASE, MAX_VCPUS, RAM_BASE, RAM_END, RAM_UNIT};
use stasis_guest::clock::{Pace, PaceError};
use stasis_guest::shared::{Mismatch, SharedRegion, connections};
use stasis_guest::sysreg::identity::{self, IdentityError};
use stasis_guest::{Guest, Vcpu, shared};
use stasis_memory::range::Range;
use stasis_state::vcpu::Identity;
use stasis_state::{GuestState, HostFacts};

use crate::config::GuestConfig;
use crate::run_state::RunState;

pub use losses::{LoadFailed, Losses, Stays};

/// Priority bits of GICV, whose GICH_VMCR and GICH_APR have room for no more (IHI 0048B.b, 5.3).
const PRIORITY_BITS: u8 = 5;

/// The terms on which this machine lets guests go on.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// ID registers of the cores.
    pub identity: &'a Identity,
    /// What the counter runs at, in Hz.
    pub counter_hz: u64,
    /// Whether a person lets guests' clocks go at another speed than they were made with.
    pub any_speed: bool,
    /// Whether a guest that was off is refused: nobody has asked for it, and it would be off again.
    pub must_be_on: bool,
    /// Bytes of RAM that no guest has.
    pub free_memory: u64,
    /// What the boot archive says of guests.
    pub guests: &'a [GuestConfig],
    /// What the boot archive says of shared memory.
    pub regions: &'a [SharedRegion],
}

/// The guest on this machine that has the name of the one that is to be resumed, and whose place
/// that takes.
#[derive(Clone, Copy, Debug)]
pub struct Occupant<'a> {
    /// The guest's name.
    pub name: &'a str,
    /// Number of the guest's vCPUs.
    pub vcpus: usize,
    /// Where the guest has its RAM.
    pub ram: Range,
}

/// A guest that may be resumed.
#[derive(Debug)]
pub struct Admitted {
    /// The guest.
    pub guest: Box<Guest>,
    /// The guest's vCPUs.
    pub vcpus: Vec<Vcpu>,
    /// What the guest does once it is resumed.
    pub then: RunState,
}

/// Why a stored guest may not be resumed. Each variant is one rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A guest can be resumed from one checkpoint at a time.
    #[error("two of the checkpoints are of one guest")]
    Twice,
    /// A guest that is resumed by nobody's command goes on.
    #[error("the guest is off there")]
    OffThere,
    /// The machine's counter is not slower than the guest's, or a person does not mind.
    #[error(transparent)]
    Pace(#[from] PaceError),
    /// The virtual GIC takes the guest's interrupts.
    #[error(transparent)]
    Interrupts(#[from] stasis_vgic::Error),
    /// The guest shares here what it shared there.
    #[error(transparent)]
    Shared(#[from] Mismatch),
    /// A device of the machine has state that no checkpoint has.
    #[error(
        "guest \"{guest}\" is configured with the machine's device \"{device}\", of which the checkpoint has no state"
    )]
    HasDevice {
        /// The guest's name.
        guest: String,
        /// The device's path or alias.
        device: String,
    },
    /// The machine offers what the format says that the guest needs.
    #[error(transparent)]
    Machine(#[from] stasis_state::Error),
    /// The cores have what the guest was shown.
    #[error(transparent)]
    Cpu(#[from] IdentityError),
    /// The guest finds the devices that it had, where they were.
    #[error(transparent)]
    Devices(#[from] OtherMachine),
    /// A guest takes the place of one that is as large.
    #[error(
        "the checkpoint has {stored_vcpus} vCPUs and {} MiB of memory; guest \"{guest}\" is configured with {vcpus} and {} MiB",
        .stored_memory >> 20, .memory >> 20
    )]
    OtherSize {
        /// The guest in whose place the other would be.
        guest: String,
        /// vCPUs in the checkpoint.
        stored_vcpus: usize,
        /// Bytes of RAM in the checkpoint.
        stored_memory: u64,
        /// vCPUs on the machine.
        vcpus: usize,
        /// Bytes of RAM on the machine.
        memory: u64,
    },
    /// A guest takes the place of one that has its RAM at the same address.
    #[error(
        "the checkpoint has its memory at {stored:#x}, and guest \"{guest}\" at {here:#x}; remove \"{guest}\" first"
    )]
    OtherAddress {
        /// The guest in whose place the other would be.
        guest: String,
        /// Guest-physical address of the RAM in the checkpoint.
        stored: u64,
        /// Guest-physical address of the RAM on the machine.
        here: u64,
    },
}

/// Checks that all of these stored guests are different ones.
pub fn check_distinct(states: &[&GuestState]) -> Result<(), Refusal> {
    let is_again = |(index, state): (usize, &&GuestState)| {
        states[..index].iter().any(|other| other.guest.name == state.guest.name)
    };
    if states.iter().enumerate().any(is_again) { Err(Refusal::Twice) } else { Ok(()) }
}

impl Terms<'_> {
    /// Checks what the registers tell of a guest whose memory is not read yet. They may break rules
    /// of the format; the guest's name is that by which it will be called.
    pub fn look(&self, state: &GuestState, occupant: Option<Occupant>) -> Result<(), Refusal> {
        self.check_power(state)?;
        self.pace(state)?;
        // A guest without the record may share memory all the same, if the record comes behind its
        // memory. The second look sees that.
        if state.devices.shared.is_some() {
            self.check_shared(state)?;
        }
        self.check_place(state, occupant)
    }

    /// Makes the guest of a checkpoint that was read whole and found good.
    pub fn admit(
        &self,
        state: &GuestState,
        occupant: Option<Occupant>,
    ) -> Result<Admitted, Refusal> {
        self.check_power(state)?;
        let pace = self.pace(state)?;
        let then = RunState::resumed(state);
        let (guest, vcpus) = Guest::restored(state.clone(), pace)?;
        inventory::check(&state.machine(), guest.machine())?;
        self.check_shared(state)?;
        let name = guest.name();
        let config = self.guests.iter().find(|config| config.name == name);
        if let Some(device) = config.and_then(|config| config.devices.first()) {
            return Err(Refusal::HasDevice { guest: name.into(), device: device.clone() });
        }
        self.check_place(state, occupant)?;
        Ok(Admitted { guest, vcpus, then })
    }

    /// Checks that the guest was on, if it must be.
    fn check_power(&self, state: &GuestState) -> Result<(), Refusal> {
        match self.must_be_on && !RunState::resumed(state).is_alive() {
            true => Err(Refusal::OffThere),
            false => Ok(()),
        }
    }

    /// Checks that the guest shares here what it shared there.
    fn check_shared(&self, state: &GuestState) -> Result<(), Mismatch> {
        let name = state.guest.name_text();
        shared::check(state.devices.shared.as_ref(), &connections(self.regions, name), name)
    }

    /// Returns how fast the guest's counter goes on this machine.
    fn pace(&self, state: &GuestState) -> Result<Pace, PaceError> {
        Pace::resumed(*state.clock.cntfrq, self.counter_hz, self.any_speed)
    }

    /// Checks that the machine has what the guest needs, in the place of the occupant, which must
    /// be as large, or in a new one.
    fn check_place(&self, state: &GuestState, occupant: Option<Occupant>) -> Result<(), Refusal> {
        let Some(Occupant { name, vcpus, ram }) = occupant else {
            return self.check_machine(state, MAX_VCPUS, self.free_memory);
        };
        self.check_machine(state, vcpus as u8, ram.len())?;
        let stored_vcpus = usize::from(*state.guest.nr_vcpus);
        let stored = Range::new(*state.guest.ram_base, *state.guest.ram_size);
        if (stored_vcpus, stored.len()) != (vcpus, ram.len()) {
            return Err(Refusal::OtherSize {
                guest: name.into(),
                stored_vcpus,
                stored_memory: stored.len(),
                vcpus,
                memory: ram.len(),
            });
        }
        if stored.start != ram.start {
            let (stored, here) = (stored.start, ram.start);
            return Err(Refusal::OtherAddress { guest: name.into(), stored, here });
        }
        Ok(())
    }

    /// Checks that this machine can go on with a guest, of which it can have `vcpus` and `memory`
    /// bytes at the most.
    fn check_machine(&self, state: &GuestState, vcpus: u8, memory: u64) -> Result<(), Refusal> {
        let facts = HostFacts {
            vcpus,
            memory,
            prio_bits: PRIORITY_BITS,
            ram: RAM_BASE..RAM_END,
            ram_unit: RAM_UNIT,
            dist_base: GICD_BASE,
            cpu_base: GICC_BASE,
        };
        facts.check(state)?;
        for (index, vcpu) in state.vcpus.iter().enumerate() {
            identity::check(&vcpu.identity, self.identity, index)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
