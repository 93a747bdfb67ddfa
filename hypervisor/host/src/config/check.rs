//! The rules of a configuration that its types can't express, for each guest and for all together.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use stasis_state::name::check as check_name;

use super::error::{ConfigError, PlanError, Problem};
use super::memory_map::MemoryMap;
use super::policy::{EVERY_US, MAX_WATCHDOG_US, Periodic, Policy, RUN_SHARES, WELL_AFTER_US};
use super::{Configuration, CoreConfig, GuestConfig, core_plan, network, shared, virtio};
use crate::periodic;
use stasis_console::command::MAX_WEIGHT;
use stasis_console::text::quoted;
use stasis_devices::machine;

/// What a weight may be.
const WEIGHTS: RangeInclusive<u16> = 1..=MAX_WEIGHT;

/// What a guest's counter may be configured to run at, in Hz. Armv8.6 has counters of 1 GHz.
const COUNTER_FREQUENCIES: RangeInclusive<u32> = 1_000_000..=1_000_000_000;

/// Checks a whole configuration.
pub fn check(configuration: &Configuration) -> Result<(), ConfigError> {
    let guests = &configuration.guests;
    if guests.is_empty() {
        return Err(ConfigError::NoGuests);
    }
    let wrong = |index: usize, problem| {
        let guest = quoted(&guests[index].name);
        ConfigError::Guest { index, guest, problem }
    };
    for (index, guest) in guests.iter().enumerate() {
        let before = &guests[..index];
        let devices = before.iter().flat_map(|other| &other.devices);
        let checked = check_guest(guest)
            .and_then(|()| check_devices(guest, devices))
            .and_then(|()| Ok(virtio::check(guest, before)?))
            .and_then(|()| check_names(guest, before));
        checked.map_err(|problem| wrong(index, problem))?;
    }
    for (index, plan) in configuration.cores.iter().enumerate() {
        core_plan::check(index, plan, configuration).map_err(|problem| {
            let core = plan.number.to_string();
            ConfigError::Core { index, core, problem }
        })?;
    }
    for (index, region) in configuration.shared.iter().enumerate() {
        shared::check(index, configuration).map_err(|problem| {
            let shared = quoted(&region.name);
            ConfigError::Shared { index, shared, problem }
        })?;
    }
    for (index, config) in configuration.networks.iter().enumerate() {
        network::check(index, configuration).map_err(|problem| {
            let network = quoted(&config.name);
            ConfigError::Network { index, network, problem }
        })?;
    }
    for (index, guest) in guests.iter().enumerate() {
        let checked = check_windows(guest, configuration);
        checked
            .and_then(|()| check_overcommit(guest, configuration))
            .map_err(|problem| wrong(index, problem))?;
    }
    Ok(())
}

/// Checks a plan that a core gets while guests run: those with these names, whose vCPUs are on
/// these cores.
///
/// # Errors
///
/// [`PlanError`]: what a configuration with this plan and these guests would break, as far as it is
/// about the plan.
pub fn check_plan(plan: &CoreConfig, guests: Vec<(String, Vec<u32>)>) -> Result<(), PlanError> {
    let guests = guests
        .into_iter()
        .map(|(name, cores)| GuestConfig { cores, ..GuestConfig::new(&name, "", 0) });
    let cores = Vec::from([plan.clone()]);
    let configuration = Configuration { guests: guests.collect(), cores, ..Default::default() };
    core_plan::check(0, plan, &configuration)
        .map_err(|problem| PlanError::Core { core: plan.number, problem })?;
    configuration.guests.iter().try_for_each(|guest| {
        check_windows(guest, &configuration)
            .map_err(|problem| PlanError::Guest { guest: quoted(&guest.name), problem })
    })
}

/// Checks that none of these guests, which share memory with clones or have overcommit, gets a
/// window from a plan: it might have to wait for memory there.
///
/// # Errors
///
/// [`PlanError::Waits`] with the first that does.
pub fn check_plan_waits<'a>(
    plan: &CoreConfig,
    mut sharing: impl Iterator<Item = &'a str>,
) -> Result<(), PlanError> {
    let gets_one = |guest: &&str| plan.windows.iter().any(|window| window.guest == *guest);
    match sharing.find(gets_one) {
        None => Ok(()),
        Some(guest) => Err(PlanError::Waits(guest.to_string())),
    }
}

/// Checks that a guest and its periodic checkpoints are called otherwise than those of the guests
/// `before`: guests with the same name for them would delete each other's.
fn check_names(guest: &GuestConfig, before: &[GuestConfig]) -> Result<(), Problem> {
    if before.iter().any(|other| other.name == guest.name) {
        return Err(Problem::Duplicate);
    }
    let Some(_) = guest.periodic else { return Ok(()) };
    let name = periodic::name(&guest.name);
    let mut others = before.iter().filter(|other| other.periodic.is_some());
    match others.find(|other| periodic::name(&other.name) == name) {
        Some(other) => Err(Problem::SameCheckpoints { name, other: other.name.clone() }),
        None => Ok(()),
    }
}

/// Checks what can be told of a guest's devices without the machine; `before` are those of others.
fn check_devices<'a>(
    guest: &GuestConfig,
    before: impl Iterator<Item = &'a String> + Clone,
) -> Result<(), Problem> {
    for (index, device) in guest.devices.iter().enumerate() {
        if !network::is_device(device) {
            return Err(Problem::Device(device.clone()));
        }
        if guest.devices[..index].contains(device) || before.clone().any(|other| other == device) {
            return Err(Problem::DeviceTwice(device.clone()));
        }
    }
    if guest.dma_trusted && guest.memory_map != MemoryMap::Identity {
        return Err(Problem::DmaElsewhere);
    }
    if guest.devices.is_empty() {
        return if guest.dma_trusted { Err(Problem::DmaOfNothing) } else { Ok(()) };
    }
    for (policy, key) in [(guest.on_crash, "on-crash"), (guest.on_reset, "on-reset")] {
        if policy == Policy::Resume {
            return Err(Problem::Unstorable { key });
        }
    }
    match guest.periodic {
        Some(_) => Err(Problem::Unstorable { key: "checkpoint-every" }),
        None => Ok(()),
    }
}

fn check_guest(guest: &GuestConfig) -> Result<(), Problem> {
    check_name(&guest.name)?;
    check_file("image", &guest.image)?;
    if let Some(initrd) = &guest.initrd {
        check_file("initrd", initrd)?;
    }
    guest
        .disks
        .iter()
        .filter_map(|disk| disk.from.as_ref())
        .try_for_each(|image| check_file("disks", image))?;
    if guest.cmdline.contains('\0') {
        return Err(Problem::Nul("cmdline"));
    }
    let whole = guest.memory.is_multiple_of(machine::RAM_UNIT);
    if !whole || !(machine::RAM_UNIT..=machine::RAM_MAX).contains(&guest.memory) {
        return Err(Problem::Memory(guest.memory));
    }
    if !(1..=machine::MAX_VCPUS).contains(&guest.vcpus) {
        return Err(Problem::Vcpus(guest.vcpus.into()));
    }
    if guest.cores.len() > guest.vcpus.into() {
        return Err(Problem::TooManyCores { cores: guest.cores.len(), vcpus: guest.vcpus });
    }
    if !WEIGHTS.contains(&guest.weight) {
        return Err(Problem::Weight(guest.weight.into()));
    }
    if let Some(frequency) = guest.counter_frequency.filter(|hz| !COUNTER_FREQUENCIES.contains(hz))
    {
        return Err(Problem::CounterFrequency(frequency));
    }
    if let Some(watchdog_us) = guest.watchdog_us.filter(|us| *us > MAX_WATCHDOG_US) {
        return Err(Problem::Watchdog(watchdog_us));
    }
    if !WELL_AFTER_US.contains(&guest.well_after_us) {
        return Err(Problem::WellAfter(guest.well_after_us));
    }
    if let Some(Periodic { every_us, keep, run_share }) = guest.periodic {
        if !EVERY_US.contains(&every_us) {
            return Err(Problem::Every(every_us));
        }
        if keep == 0 {
            return Err(Problem::Keep(0));
        }
        if !RUN_SHARES.contains(&run_share) {
            return Err(Problem::RunShare(run_share.into()));
        }
    }
    Ok(())
}

/// Checks that a guest whose memory is not reserved can wait for it.
fn check_overcommit(guest: &GuestConfig, configuration: &Configuration) -> Result<(), Problem> {
    let against = [
        (!guest.devices.is_empty(), "devices"),
        (guest.memory_map != MemoryMap::Virt, "memory-map = \"identity\""),
        (configuration.has_window(&guest.name), "windows"),
    ];
    match against.into_iter().find(|(is_so, _)| *is_so && guest.overcommit) {
        Some((_, what)) => Err(Problem::Overcommit(what)),
        None => Ok(()),
    }
}

/// Checks that a guest has a window on each of its cores whose windows fill the frame: else a vCPU
/// would never run.
fn check_windows(guest: &GuestConfig, configuration: &Configuration) -> Result<(), Problem> {
    let mut plans = configuration.cores.iter().filter(|core| guest.cores.contains(&core.number));
    match plans.find(|core| !core.has_time_for(&guest.name)) {
        Some(core) => Err(Problem::NoWindow(core.number)),
        None => Ok(()),
    }
}

fn check_file(what: &'static str, name: &str) -> Result<(), Problem> {
    match name {
        "" => Err(Problem::Empty(what)),
        name if name.contains('\0') => Err(Problem::Nul(what)),
        _ => Ok(()),
    }
}
