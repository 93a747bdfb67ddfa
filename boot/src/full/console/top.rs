//! The command `top`, which shows how busy the cores and the guests are.

use super::error::Failure;
use crate::answer::Answer;
use crate::work::Work;
use crate::{meanwhile, registry, smp, typed};
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_guest::stats::Snapshot;
use stasis_host::top::{Top, VcpuRow};
use stasis_run::domain::Domain;
use stasis_run::interrupts;
use stasis_run::turns::Task;

/// The counters of all guests at one instant.
#[derive(Default)]
pub struct Reading {
    counter: u64,
    guests: Vec<(Arc<Domain>, Vec<Snapshot>)>,
}

impl Reading {
    /// Reads the counters of all guests, none of which is parked.
    pub fn take() -> Self {
        let guests = registry::all().into_iter().map(|domain| {
            let counters = domain.counters();
            (domain, counters)
        });
        // Read the counter after the guests' counters, so that no vCPU has run longer than the
        // machine.
        Self { guests: guests.collect(), counter: timer::counter() }
    }

    fn of(&self, domain: &Arc<Domain>) -> &[Snapshot] {
        let of = self.guests.iter().find(|(other, _)| Arc::ptr_eq(other, domain));
        of.map_or(&[], |(_, counters)| counters)
    }

    /// Returns what happened between two readings.
    pub fn since<'a>(&'a self, earlier: &Self) -> Top<'a> {
        let vcpus = self.guests.iter().flat_map(|(domain, counters)| {
            let before = earlier.of(domain);
            counters.iter().zip(domain.cores()).enumerate().map(|(vcpu, (counters, core))| {
                VcpuRow {
                    guest: &domain.name,
                    vcpu,
                    core: core as u32,
                    counters: counters.since(&before.get(vcpu).copied().unwrap_or_default()),
                }
            })
        });
        Top {
            ticks: self.counter - earlier.counter,
            frequency: timer::frequency(),
            cores: smp::present().map(|core| core as u32).collect(),
            vcpus: vcpus.collect(),
        }
    }
}

/// Shows what happened since the machine was switched on.
pub fn show_all(json: bool, out: &mut Answer) -> Result<(), Failure> {
    Ok(Reading::take().since(&Reading::default()).write(out, json)?)
}

/// Shows what happened since the machine was switched on; with `seconds`, shows `times` times what
/// happened within that time.
pub fn show(
    work: &mut Work,
    seconds: Option<u64>,
    times: u64,
    json: bool,
    out: &mut Answer,
) -> Result<(), Failure> {
    let Some(seconds) = seconds else {
        return show_all(json, out);
    };
    let mut earlier = Reading::take();
    for _ in 0..times {
        let given_up = !wait_until(work, earlier.counter + seconds * timer::frequency());
        let now = Reading::take();
        now.since(&earlier).write(out, json)?;
        out.send(work.task);
        if given_up {
            break;
        }
        earlier = now;
    }
    Ok(())
}

/// Waits until the counter reads `counter`, and meanwhile does what is due without a command.
/// Returns `false` if a key was pressed. A key counts even if the instant has passed, because to
/// show a table may take longer than the time between two.
fn wait_until(work: &mut Work, counter: u64) -> bool {
    loop {
        if typed::key() {
            return false;
        }
        if timer::counter() >= counter {
            return true;
        }
        meanwhile::answer(work.task);
        if meanwhile::serve(work) {
            continue;
        }
        let due = meanwhile::next_due(work).map_or(counter, |due| due.min(counter));
        rest_until(work.task, due);
    }
}

/// Leaves the core to others, as part of a command, until the counter reads `counter` or something
/// happens.
fn rest_until(task: &mut Task, counter: u64) {
    interrupts::listen_to_console();
    task.rest_until(counter);
}
