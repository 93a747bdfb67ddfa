//! How the cores' time is divided: the plans of the boot archive, and those that a person has given
//! the cores since. [`stasis_host::config`] checks them, and the cores' rosters carry them out.

use crate::smp;
use alloc::vec::Vec;
use spin::mutex::SpinMutex;
use stasis_console::table::WindowRow;
use stasis_host::config::{CoreConfig, NoPlannedCore, WindowConfig};
use stasis_host::sched::Missed;
use stasis_run::{clock, roster};

/// The plans of the cores that have one. Only the console's task uses them.
static PLANS: SpinMutex<Vec<CoreConfig>> = SpinMutex::new(Vec::new());

/// Divides the cores as the boot archive says, before they have a vCPU.
pub fn init(plans: &[CoreConfig]) {
    for plan in plans {
        match smp::is_present(plan.number as usize) {
            true => roster::of(plan.number as usize).divide(plan),
            false => log::error!("{}", NoPlannedCore(plan.number)),
        }
    }
    *PLANS.lock() = plans.to_vec();
}

/// Gives a core, which must be there, another plan: its frame and windows, or none.
pub fn change(core: u32, plan: Option<CoreConfig>) {
    roster::of(core as usize).divide_anew(plan.as_ref());
    let mut plans = PLANS.lock();
    plans.retain(|other| other.number != core);
    if let Some(plan) = plan {
        let place = plans.partition_point(|other| other.number < plan.number);
        plans.insert(place, plan);
    }
}

/// Returns the plans of the cores that have one, in their order.
pub fn all() -> Vec<CoreConfig> {
    PLANS.lock().clone()
}

/// Returns whether a core has a plan.
pub fn has_any() -> bool {
    !PLANS.lock().is_empty()
}

/// Returns whether a guest of this name has a window on a core.
pub fn has_window(guest: &str) -> bool {
    let plans = PLANS.lock();
    plans.iter().flat_map(|plan| &plan.windows).any(|window| window.guest == guest)
}

/// Returns what became of the windows of each guest on each core that has any.
pub fn missed() -> Vec<(u32, Missed)> {
    let cores: Vec<u32> = PLANS.lock().iter().map(|plan| plan.number).collect();
    let present = cores.into_iter().filter(|core| smp::is_present(*core as usize));
    let of = |core: u32| roster::of(core as usize).missed().into_iter().map(move |one| (core, one));
    present.flat_map(of).collect()
}

/// Returns a row for each window of `plans`, with what became of it.
pub fn rows<'a>(plans: &'a [CoreConfig], missed: &[(u32, Missed)]) -> Vec<WindowRow<'a>> {
    let windows = plans.iter().flat_map(|plan| plan.windows.iter().map(move |one| (plan, one)));
    let row = |(plan, window): (&CoreConfig, &'a WindowConfig)| {
        let is_its =
            |(core, one): &&(u32, Missed)| *core == plan.number && one.guest == window.guest;
        let of = missed.iter().find(is_its).map(|(_, one)| one);
        WindowRow {
            core: plan.number,
            frame_us: plan.frame_us,
            guest: &window.guest,
            at_us: window.at_us,
            length_us: window.length_us,
            missed: of.map_or(0, |one| one.count),
            late_us: of.filter(|one| one.count > 0).map(|one| clock::micros(one.late)),
        }
    };
    windows.map(row).collect()
}
