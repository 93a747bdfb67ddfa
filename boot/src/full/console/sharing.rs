//! The commands `weight` and `windows`: who has how much of the cores, while all run.

use super::error::Failure;
use super::find::{cores_of, find, find_all};
use crate::answer::Answer;
use crate::{plans, registry, smp};
use alloc::string::ToString;
use alloc::vec::Vec;
use stasis_console::command::Window;
use stasis_console::table::{self, WeightRow};
use stasis_host::config::{self, CoreConfig, WindowConfig};
use stasis_run::domain::Domain;

/// Lists the weights of guests.
pub(super) fn list_weights(json: bool, out: &mut Answer) -> Result<(), Failure> {
    let domains = registry::all();
    let cores: Vec<Vec<u32>> = domains.iter().map(|domain| cores_of(domain)).collect();
    let rows: Vec<WeightRow> = domains
        .iter()
        .zip(&cores)
        .map(|(domain, cores)| WeightRow { guest: &domain.name, weight: weight(domain), cores })
        .collect();
    Ok(table::weights(&rows).write(out, json)?)
}

/// Returns the weight of a guest's vCPUs, which is the same for all of them.
fn weight(domain: &Domain) -> u64 {
    domain.tasks().next().map_or(0, |(roster, task)| roster.weight(task))
}

/// Gives guests another weight.
pub(super) fn set_weight(words: &[&str], weight: u16) -> Result<(), Failure> {
    for domain in find_all(words)? {
        domain.tasks().for_each(|(roster, task)| roster.set_weight(task, weight));
    }
    Ok(())
}

/// Lists the windows of guests.
pub(super) fn list_windows(json: bool, out: &mut Answer) -> Result<(), Failure> {
    let plans = plans::all();
    Ok(table::windows(&plans::rows(&plans, &plans::missed())).write(out, json)?)
}

/// Divides a core's time anew: by a frame of so many microseconds with windows, or by weights
/// alone.
pub(super) fn divide(core: u32, frame: Option<(u64, Vec<Window<'_>>)>) -> Result<(), Failure> {
    if !smp::is_present(core as usize) {
        return Err(Failure::NoSuchCore(core));
    }
    let plan = frame.map(|(frame_us, windows)| CoreConfig {
        number: core,
        frame_us,
        windows: windows.into_iter().map(configured).collect(),
    });
    let domains = registry::all();
    if let Some(plan) = &plan {
        let guests = domains.iter().map(|domain| (domain.name.clone(), cores_of(domain)));
        config::check_plan(plan, guests.collect())?;
        let sharing = domains.iter().filter(|domain| domain.shares_ram());
        config::check_plan_waits(plan, sharing.map(|domain| domain.name.as_str()))?;
    }
    plans::change(core, plan);
    Ok(())
}

/// Returns a window as a configuration has it: with its guest's name. What names no guest is left
/// for the check.
fn configured(window: Window<'_>) -> WindowConfig {
    let Window { guest, at_us, length_us } = window;
    let guest = find(guest).map_or_else(|_| guest.to_string(), |domain| domain.name.clone());
    WindowConfig { guest, at_us, length_us }
}
