//! Events: what has happened, as objects of JSON, for clients that want them.

use crate::{plans, registry};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::mutex::SpinMutex;
use stasis_arch::timer;
use stasis_console::table::json_text;
use stasis_host::changes::{self, StateChange};
use stasis_host::run_state::RunState;
use stasis_host::sched::Missed;
use stasis_run::{clock, roster};

/// Events that wait to be sent, at most. Of more, the number is told.
const MOST: usize = 64;

/// Whether anybody wants events. The task writes it; relaxed, for an event that comes as a client
/// does is no loss.
static WANTED: AtomicBool = AtomicBool::new(false);

static EVENTS: SpinMutex<Events> = SpinMutex::new(Events { waiting: VecDeque::new(), lost: 0 });

struct Events {
    waiting: VecDeque<String>,
    /// Number of events that found no room since the last one was sent.
    lost: usize,
}

/// Adds an event of this name, with the values of its keys, which are JSON. Any core may call this,
/// under any lock but those of the channel.
pub fn add(name: &str, values: &[(&str, &dyn Display)]) {
    if !WANTED.load(Ordering::Relaxed) {
        return;
    }
    let mut line = format!("{{\"event\":{}", json_text(name));
    values.iter().for_each(|(key, value)| line += &format!(",\"{key}\":{value}"));
    line.push('}');
    let mut events = EVENTS.lock();
    match events.waiting.len() < MOST {
        true => events.waiting.push_back(line),
        false => events.lost += 1,
    }
    drop(events);
    roster::wake_console();
}

/// Tells that a checkpoint is committed, and for how many microseconds the guest stood still, if it
/// ran.
pub fn checkpoint(guest: &str, number: u64, name: &str, still_us: Option<u64>) {
    let still_us = still_us.map_or_else(|| "null".to_string(), |us| us.to_string());
    let (guest, name) = (json_text(guest), json_text(name));
    add(
        "checkpoint",
        &[("guest", &guest), ("number", &number), ("name", &name), ("still_us", &still_us)],
    );
}

/// Tells what has become of a guest without a command, in words.
pub fn notice(guest: &str, what: &str) {
    add("notice", &[("guest", &json_text(guest)), ("text", &json_text(what))]);
}

/// Returns the oldest event, and takes it.
pub(super) fn next() -> Option<String> {
    let mut events = EVENTS.lock();
    if events.waiting.is_empty() {
        return match core::mem::take(&mut events.lost) {
            0 => None,
            lost => Some(format!("{{\"event\":\"lost\",\"count\":{lost}}}")),
        };
    }
    events.waiting.pop_front()
}

/// The guests as they were when they were looked at last, of whose changes a client is told.
#[derive(Default)]
pub(super) struct GuestWatch {
    known: Option<Vec<(String, RunState)>>,
    windows: WindowWatch,
}

impl GuestWatch {
    /// Begins or ends to watch. What waits is for a client that is gone.
    pub(super) fn set(&mut self, is_wanted: bool) {
        WANTED.store(is_wanted, Ordering::Relaxed);
        *EVENTS.lock() = Events { waiting: VecDeque::new(), lost: 0 };
        self.known = is_wanted.then(|| states(&[]));
        self.windows = WindowWatch::new(is_wanted);
    }

    /// Returns the value of the counter at which the windows must be looked at next; `None` if
    /// nobody wants it, or there are none.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.windows.due.filter(|_| plans::has_any())
    }

    /// Adds an event for each guest that does something else than before, is new, or is gone.
    pub(super) fn look(&mut self) {
        self.windows.look();
        let Some(known) = &mut self.known else { return };
        let now = states(known);
        if now == *known {
            return;
        }
        for StateChange { guest, now, was } in changes::of_states(known, &now) {
            let state = json_text(now.map_or("removed", RunState::name));
            let was = was.map_or("null".to_string(), |was| json_text(was.name()).to_string());
            add("guest", &[("guest", &json_text(guest)), ("state", &state), ("was", &was)]);
        }
        *known = now;
    }
}

/// The windows that guests had missed when they were looked at last. Who decides whose turn it is
/// counts them, and tells nobody, so they are looked at twice a second.
#[derive(Default)]
struct WindowWatch {
    /// The counter at which they must be looked at next; `None` if nobody wants it.
    due: Option<u64>,
    known: Vec<(u32, Missed)>,
}

impl WindowWatch {
    fn new(is_wanted: bool) -> Self {
        match is_wanted {
            true => Self { due: Some(timer::counter()), known: plans::missed() },
            false => Self::default(),
        }
    }

    /// Adds an event for each guest and core with windows that were missed since the last look.
    fn look(&mut self) {
        let now = timer::counter();
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = Some(now + timer::frequency() / 2);
        let missed = plans::missed();
        for (core, one, count) in changes::of_windows(&self.known, &missed) {
            let (guest, late_us) = (json_text(&one.guest), clock::micros(one.late));
            add(
                "window",
                &[("guest", &guest), ("core", &core), ("missed", &count), ("late_us", &late_us)],
            );
        }
        self.known = missed;
    }
}

/// Returns the names and the states of all guests. One that is parked is as it was in `before`.
fn states(before: &[(String, RunState)]) -> Vec<(String, RunState)> {
    let guests = registry::all().into_iter();
    changes::completed(before, guests.map(|it| (it.name.clone(), it.try_state())).collect())
}
