//! The chores of the console's task that people and programs give it, and the store: commands,
//! debuggers, memory that is loaded, and disks.

use crate::machine::Machine;
use crate::work::Work;
use crate::{channel, console, debug, disks, identity, loading, typed};
use stasis_run::turns::Task;

/// Makes ready what needs the machine's random bytes, before there is a guest.
pub fn prepare(machine: &Machine) {
    identity::init(machine);
}

/// Opens the channel and the console.
pub fn open(machine: &Machine) {
    // First, for who has seen the console's prompt may use the channel.
    channel::init(machine);
    console::init(machine.uart.device.intid);
}

/// Handles what was typed, or has come by the channel, up to the end of the first command. Returns
/// whether there may be more.
pub fn command(work: &mut Work) -> bool {
    console::serve(work) | channel::serve(work)
}

/// Does what debuggers have asked for. Returns whether anything was done.
pub fn duty(work: &mut Work) -> bool {
    debug::serve(work.task)
}

/// Loads a part of a guest's memory, and does requests of guests' disks. Returns whether there may
/// be more.
pub fn load(work: &mut Work) -> bool {
    loading::serve(work) | disks::serve(work)
}

/// Returns the value of the counter at which something of this is due; `None` if nothing is
/// planned.
pub fn next_due(work: &Work) -> Option<u64> {
    loading::next_due(work.task).into_iter().chain(channel::next_due()).min()
}

/// Answers what the channel asks and can be answered while a command is under way.
pub fn answer(task: &mut Task) {
    channel::meanwhile(task);
}

/// Calls `work`, which is no part of the command under way. Returns its result.
pub fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    typed::undisturbed(work)
}
