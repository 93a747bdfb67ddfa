//! The invariants of the records of the guest, of its clock and of its vCPUs.

use crate::{
    guest::{Clock, Guest, GuestPower, GuestPowerState, Lineage},
    records::Records,
    routines::PAGE_SIZE,
    vcpu::{Core, Debug, Identity, PSTATE_IS_AARCH32, Power, PowerState, defined_pstate},
    vgic::MAX_VCPUS,
};

use super::{Violation, each, rule};

type Result = core::result::Result<(), Violation>;

/// Checks the guest's name by the rule that holds since version 1.3.
pub(super) fn name(guest: &Guest) -> Result {
    let violation = |why| Violation::Name { register: "name", found: guest.shown_name(), why };
    guest.checked_name().map(|_| ()).map_err(violation)
}

pub(super) fn guest(records: &Records<'_>) -> Result {
    let guest = records.guest;
    let name = &guest.name[..];
    let len = name.iter().position(|&c| c == 0).unwrap_or(name.len());
    let padded = |index: usize, c: u8| index < len || c == 0;
    each("name", name, "it is padded with 0", padded)?;
    let valid = match core::str::from_utf8(&name[..len]) {
        Ok(_) => len,
        Err(error) => error.valid_up_to(),
    };
    each("name", name, "the name is UTF-8", |i, _| i < valid || i >= len)?;

    let (base, size) = (*guest.ram_base, *guest.ram_size);
    let whole = |bytes: u64| bytes.is_multiple_of(PAGE_SIZE as u64);
    rule(whole(base), "ram_base", base, "it is a multiple of 4096")?;
    let why = "it is a multiple of 4096, and not 0";
    rule(whole(size) && size != 0, "ram_size", size, why)?;
    let fits = base.checked_add(size).is_some();
    rule(fits, "ram_size", size, "the RAM ends below 2^64")?;
    nr_vcpus(guest)?;
    let vcpus = *guest.nr_vcpus;
    let why = "there are records of as many vCPUs";
    let same = usize::from(vcpus) == records.vcpus.len();
    rule(same, "nr_vcpus", vcpus, why)
}

pub(super) fn nr_vcpus(guest: &Guest) -> Result {
    let vcpus = *guest.nr_vcpus;
    let possible = (1..=MAX_VCPUS).contains(&usize::from(vcpus));
    rule(possible, "nr_vcpus", vcpus, "there are 1 to 8")
}

pub(super) fn clock(clock: &Clock) -> Result {
    let frequency = *clock.cntfrq;
    let possible = frequency != 0 && u32::try_from(frequency).is_ok();
    rule(possible, "cntfrq", frequency, "it has 32 bits, and is not 0")
}

pub(super) fn lineage(lineage: &Lineage) -> Result {
    let first = lineage.identity[0];
    rule(lineage.identity() != 0, "identity", first, "it is not 0")?;
    let other = *lineage.parent != *lineage.identity;
    rule(other, "parent", first, "no checkpoint is its own parent")
}

pub(super) fn guest_power(power: &GuestPower) -> Result {
    let last = GuestPowerState::Reset as u8;
    rule(*power.state <= last, "state", *power.state, "there are states 0 to 2")
}

/// The values of PSTATE.M that a guest can have: EL0t, EL1t, EL1h, and User mode of AArch32.
const GUEST_MODES: [u64; 4] = [0b0_0000, 0b0_0100, 0b0_0101, 0b1_0000];

/// Checks what decides how EL2 returns to the guest: an illegal exception return would be an
/// exception of EL2 itself.
pub(super) fn core(core: &Core, identity: &Identity) -> Result {
    let pstate = *core.pstate;
    let holds = |holds, why| rule(holds, "pstate", pstate, why);
    holds(GUEST_MODES.contains(&(pstate & 0b1_1111)), "the guest runs at EL1 or EL0")?;
    let has_aarch32 = *identity.id_aa64pfr0_el1 & 0xf == 2;
    let possible = pstate & PSTATE_IS_AARCH32 == 0 || has_aarch32;
    holds(possible, "ID_AA64PFR0_EL1 has no AArch32 at EL0")?;
    holds(pstate == defined_pstate(pstate), "reserved bits are 0")
}

pub(super) fn debug(debug: &Debug) -> Result {
    rule(*debug.os_lock <= 1, "os_lock", *debug.os_lock, "it is 0 or 1")
}

pub(super) fn power(power: &Power) -> Result {
    let last = PowerState::Suspended as u8;
    let why = "there are states 0 to 3";
    rule(*power.state <= last, "state", *power.state, why)?;
    let pending = *power.serror_pending;
    rule(pending <= 1, "serror_pending", pending, "it is 0 or 1")
}
