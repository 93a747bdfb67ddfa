//! The console on the machine's UART: its bytes become [`commands`], or input for a guest. It runs
//! on the first core, where it takes turns with vCPUs, as [`stasis_run::turns`] says. What is said
//! goes through [`terminal`].

pub mod commands;
pub mod error;
pub mod find;
mod lifecycle;
mod sharing;
pub mod top;

use crate::answer::Answer;
use crate::work::Work;
use crate::{archive, catalog, notes, registry, terminal, typed, volumes};
use alloc::string::ToString;
use stasis_console::{Input, Names};
use stasis_run::domain::Domain;
use stasis_run::{interrupts, roster};

/// Opens the console on the calling core. `intid` is the interrupt of its UART.
pub fn init(intid: u32) {
    interrupts::open_console(intid);
    terminal::prompt();
    // Bytes that were typed before must be handled now.
    roster::wake_console();
}

/// Handles what was received, up to the end of the first command, and shows some of what the
/// attached guest has printed at its terminal. Returns whether there may be more.
pub fn serve(work: &mut Work) -> bool {
    let more_is_typed = take_typed(work);
    more_is_typed | terminal::show_printed(work.task)
}

/// Handles what was received, up to the end of the first command. Returns whether there may be
/// more.
fn take_typed(work: &mut Work) -> bool {
    /// Bytes for a guest that are handled at once; the rest waits for the next call.
    const MOST: usize = 1024;
    for _ in 0..MOST {
        let Some(character) = typed::next() else {
            interrupts::listen_to_console();
            return false;
        };
        match terminal::input(work.task, character) {
            Input::Nothing => {}
            Input::Complete => {
                let names = names(work);
                terminal::complete(work.task, &names);
            }
            // If the guest was attached again just now, and has sent something before, that is
            // shown when all keys are taken.
            Input::Guest { guest, character } => with(guest, |domain| domain.type_in(character)),
            Input::Terminal { guest, byte } => with(guest, |domain| domain.type_at_terminal(byte)),
            Input::Line(line) => {
                typed::begin();
                let result = commands::execute(work, &line, &mut Answer::to_console());
                let result = result.map_err(|why| why.to_string());
                match typed::end() {
                    0 => {}
                    lost => log::warn!("{lost} bytes that were typed during the command are lost"),
                }
                terminal::answer(work.task, result);
                notes::console_is_used();
                return true;
            }
        }
        notes::console_is_used();
    }
    true
}

/// Calls `action` with the guest of this number, if it is there.
fn with(number: usize, action: impl FnOnce(&Domain)) {
    if let Some(domain) = registry::all().iter().find(|domain| domain.number == number) {
        action(domain);
    }
}

/// Returns the names that the Tab key can complete.
fn names(work: &mut Work) -> Names {
    Names {
        guests: registry::all().iter().map(|domain| domain.name.clone()).collect(),
        configured: archive::guest_names(),
        checkpoints: catalog::names(work),
        volumes: volumes::names(work),
    }
}
