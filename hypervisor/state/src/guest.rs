//! The records of the guest as a whole: its configuration, the power state of its machine, and its
//! clock.

use crate::{
    name::{self, BadName, Shown},
    record,
};

pub use crate::name::NAME_LEN;

record! {
    /// The guest's configuration: what a host must have to resume it.
    pub struct Guest in guest_regs: Guest, home (record "EL2 made the guest by it") {
        /// The guest's name, padded with 0: a letter, then letters, digits, `-`, `_`, `.`; not
        /// `all`.
        name: [u8; NAME_LEN] = 0x01;
        /// Guest-physical address of the RAM.
        ram_base: u64 = 0x02;
        /// Bytes of RAM: a multiple of 4096.
        ram_size: u64 = 0x03;
        /// Number of vCPUs, 1 to 8.
        nr_vcpus: u8 = 0x04, reset 1;
    }
}

impl Guest {
    /// Returns the guest's name without the padding, or `?` if the register holds no name. Only
    /// files before version 1.3 have such guests.
    pub fn name_text(&self) -> &str {
        self.checked_name().unwrap_or("?")
    }

    /// Returns the guest's name without the padding.
    ///
    /// # Errors
    ///
    /// The rule that the content of the register breaks.
    pub fn checked_name(&self) -> Result<&str, BadName> {
        name::stored(&self.name[..])
    }

    /// Returns the content of the name's register in a form that can be printed, whatever it is.
    pub fn shown_name(&self) -> Shown {
        Shown::new(&self.name[..])
    }

    /// Sets the guest's name to the first [`NAME_LEN`] bytes of `name`.
    pub fn set_name(&mut self, name: &str) {
        let kept = &name.as_bytes()[..name.len().min(NAME_LEN)];
        *self.name = [0; NAME_LEN];
        self.name[..kept.len()].copy_from_slice(kept);
    }
}

record! {
    /// The power state of a machine that may not be on: after SYSTEM_OFF or SYSTEM_RESET of PSCI
    /// (DEN 0022).
    pub struct GuestPower in guest_power: GuestPower, home (record "EL2 answers PSCI") {
        /// The machine's [`GuestPowerState`].
        state: u8 = 0x01;
    }
}

/// The value of [`GuestPower::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GuestPowerState {
    /// The machine is on. The records of the vCPUs say which of them go on.
    On = 0,
    /// The guest has switched its machine off. No vCPU goes on at its saved registers.
    Off = 1,
    /// The guest has reset its machine, and was not started again since. No vCPU goes on at its
    /// saved registers.
    Reset = 2,
}

impl GuestPower {
    /// Returns the record of a guest in this state; `None` for a guest that is on, so that older
    /// readers understand the file.
    pub fn of(state: GuestPowerState) -> Option<Self> {
        let mut power = Self::default();
        *power.state = state as u8;
        (state != GuestPowerState::On).then_some(power)
    }
}

record! {
    /// What a checkpoint is called by for ever, whatever its number and its name, and which it was
    /// made after.
    pub struct Lineage in lineage: Checkpoint, home (record "it is of the checkpoint") {
        /// The identity of the checkpoint: 128 bits that no other one has.
        identity: [u8; 16] = 0x01;
        /// The identity of the checkpoint that the guest was resumed from, or that was made of it
        /// last; 0 if there is none.
        parent: [u8; 16] = 0x02;
        /// What the members of a set have in common, and no other checkpoint; 0 outside of a set.
        set: [u8; 16] = 0x03;
    }
}

impl Lineage {
    /// Returns the record of a checkpoint with these identities, of which the last two may be 0.
    pub fn new(identity: u128, parent: u128, set: u128) -> Self {
        let mut lineage = Self::default();
        *lineage.identity = identity.to_le_bytes();
        *lineage.parent = parent.to_le_bytes();
        *lineage.set = set.to_le_bytes();
        lineage
    }

    /// Returns the identity of the checkpoint.
    pub fn identity(&self) -> u128 {
        u128::from_le_bytes(*self.identity)
    }
}

record! {
    /// The guest's time at the instant of the checkpoint. CNTVOFF is not here, because it belongs
    /// to the host.
    pub struct Clock in clock: Clock {
        /// CNTVCT_EL0, in ticks of `cntfrq`.
        cntvct: u64 = 0x01, home el2("CNTVOFF_EL2");
        /// CNTFRQ_EL0, in Hz.
        cntfrq: u64 = 0x02, home kept("its reads find the machine's");
        /// The host's wall time, in seconds since 1970; 0 where the host has no clock.
        wall_time: u64 = 0x03, home record("it is of the checkpoint");
    }
}
