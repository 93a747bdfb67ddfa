//! What a guest is, whether its machine is on, and its clock.

use crate::{
    name::{self, BadName, Shown},
    record,
};

pub use crate::name::NAME_LEN;

record! {
    /// The guest's configuration: what a host must have to resume it.
    pub struct Guest in guest_regs: Guest {
        /// Its name, padded with 0: a letter, then letters, digits, `-`, `_`, `.`; not `all`.
        name: [u8; NAME_LEN] = 0x01;
        /// Guest-physical address of its RAM.
        ram_base: u64 = 0x02;
        /// Bytes of RAM: a multiple of 4096.
        ram_size: u64 = 0x03;
        /// Number of vCPUs, 1 to 8.
        nr_vcpus: u8 = 0x04, reset 1;
    }
}

impl Guest {
    /// Its name without the padding; `?` where that is none, which it can be in files before 1.3 alone.
    pub fn name_text(&self) -> &str {
        self.checked_name().unwrap_or("?")
    }

    /// Its name without the padding, or why it is none.
    pub fn checked_name(&self) -> Result<&str, BadName> {
        name::stored(&self.name[..])
    }

    /// What stands in place of its name, for messages.
    pub fn shown_name(&self) -> Shown {
        Shown::new(&self.name[..])
    }

    /// Gives it a name, of which [`NAME_LEN`] bytes are kept.
    pub fn set_name(&mut self, name: &str) {
        let kept = &name.as_bytes()[..name.len().min(NAME_LEN)];
        *self.name = [0; NAME_LEN];
        self.name[..kept.len()].copy_from_slice(kept);
    }
}

record! {
    /// Whether the guest's machine is on, of the guests whose machine may not be: SYSTEM_OFF and SYSTEM_RESET of PSCI (DEN 0022).
    pub struct GuestPower in guest_power: GuestPower {
        /// A [`GuestPowerState`].
        state: u8 = 0x01;
    }
}

/// The value of [`GuestPower::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GuestPowerState {
    /// Its vCPUs go on as their own records say.
    On = 0,
    /// The guest has switched its machine off. No vCPU goes on from where its registers are.
    Off = 1,
    /// The guest has reset its machine, and has not started again. No vCPU goes on from where its registers are.
    Reset = 2,
}

impl GuestPower {
    /// Returns the record of a guest in this state; none of one that is on, which older readers understand.
    pub fn of(state: GuestPowerState) -> Option<Self> {
        let mut power = Self::default();
        *power.state = state as u8;
        (state != GuestPowerState::On).then_some(power)
    }
}

record! {
    /// The guest's time at the instant of the checkpoint. Never CNTVOFF, which is the host's.
    pub struct Clock in clock: Clock {
        /// CNTVCT_EL0: ticks of `cntfrq`.
        cntvct: u64 = 0x01;
        /// CNTFRQ_EL0, in Hz.
        cntfrq: u64 = 0x02;
        /// The host's wall time, in seconds since 1970; 0 where the host has no clock.
        wall_time: u64 = 0x03;
    }
}
