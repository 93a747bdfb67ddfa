//! The interrupts that a core takes.

use crate::device_interrupts;
use crate::gic::{self, ThisCore};
use crate::network::uplink;
use crate::roster::{self, Roster};
use core::sync::atomic::{AtomicU32, Ordering};
use stasis_arch::{cpu, timer};
use stasis_hw::gic::Acknowledged;

/// INTID of the console's UART; `u32::MAX` before [`open_console`]. Core 0 writes it once; relaxed,
/// for the interrupt comes only after that.
static CONSOLE: AtomicU32 = AtomicU32::new(u32::MAX);

/// INTID of the channel's UART; `u32::MAX` before [`open_channel`], and if the channel has none.
/// Core 0 writes it once; relaxed, for the interrupt comes only after that.
static CHANNEL: AtomicU32 = AtomicU32::new(u32::MAX);

/// INTID of the disk; `u32::MAX` before [`open_disk`], and if the disk has none. Core 0 writes it
/// once; relaxed, for the interrupt comes only after that.
static DISK: AtomicU32 = AtomicU32::new(u32::MAX);

/// Interrupt that [`take`] has found.
#[derive(Clone, Copy)]
pub enum Taken {
    /// No interrupt, or the kick that makes this core look at what it is asked to do, as it does
    /// after every exit. The kick is ended.
    Own,
    /// EL2's timer has fired, and is off: a deadline of the guest's is over, or a turn. The
    /// interrupt is ended.
    Timer,
    /// EL2's timer has fired, and is off, and the turn is over: the core must decide. If a deadline
    /// of the guest's is over, too, the timer fires again as soon as it is set. The interrupt is
    /// ended.
    TurnOver,
    /// Another interrupt, which is active, and whose priority was dropped.
    Other(Acknowledged),
}

/// Takes the most urgent interrupt that is pending on this core, if one is. Further ones end the
/// guest's next stay, or the next WFI, at once. If EL2's timer has fired, the core must decide.
#[inline]
pub fn take(roster: &Roster, this_core: &ThisCore) -> Taken {
    let Some(interrupt) = this_core.take() else { return Taken::Own };
    let taken = sort(interrupt, this_core);
    if let Taken::Timer = taken {
        roster.timer_fired();
    }
    taken
}

/// Ends an interrupt that was [taken](ThisCore::take), if it is EL2's own. The caller finds out why
/// EL2's timer has fired.
#[inline]
pub fn sort(interrupt: Acknowledged, this_core: &ThisCore) -> Taken {
    match interrupt.intid() {
        gic::KICK => end_kick(interrupt, this_core),
        gic::EL2_TIMER => {
            end_timer(interrupt, this_core);
            Taken::Timer
        }
        _ => Taken::Other(interrupt),
    }
}

/// Ends a kick that was taken.
#[inline(always)]
pub fn end_kick(interrupt: Acknowledged, this_core: &ThisCore) -> Taken {
    // Read what the sender has written after its interrupt, which does not come a second time.
    cpu::dmb_reads();
    this_core.end(interrupt);
    Taken::Own
}

/// Ends an interrupt of EL2's timer that was taken, and switches the timer off.
#[inline(always)]
pub fn end_timer(interrupt: Acknowledged, this_core: &ThisCore) {
    timer::stop_deadline();
    this_core.end(interrupt);
}

/// Handles an interrupt that [`take`] has returned, and that is not for the guest that is loaded,
/// if any is. The caller holds no lock but a vCPU's.
pub fn pass(this_core: &ThisCore, interrupt: Acknowledged) {
    match interrupt.intid() {
        // The guest that owns the device ends the interrupt.
        intid if device_interrupts::take(intid) => return,
        // The vCPU is not loaded any more, or the cause is gone: end the interrupt.
        gic::VIRTUAL_TIMER => {}
        _ if this_core.is_maintenance(interrupt) => {}
        // The console's task takes what was received from a UART, or what the disk has ended. Until
        // then the interrupt is disabled.
        intid
            if [&CONSOLE, &CHANNEL, &DISK]
                .iter()
                .any(|own| intid == own.load(Ordering::Relaxed)) =>
        {
            gic::disable(intid);
            roster::wake_console();
        }
        intid if uplink::take_interrupt(intid) => {}
        intid => {
            log::warn!("interrupt {intid} was not expected, and is disabled");
            gic::disable(intid);
        }
    }
    this_core.end(interrupt);
}

/// Registers the INTID of the console's UART, and enables it on the calling core.
pub fn open_console(intid: u32) {
    CONSOLE.store(intid, Ordering::Relaxed);
    listen_to_console();
}

/// Enables the interrupt of the console's UART, on the calling core. It wakes the console's task.
pub fn listen_to_console() {
    gic::route_here(CONSOLE.load(Ordering::Relaxed));
}

/// Registers the INTID of the channel's UART, and enables it on the calling core.
pub fn open_channel(intid: u32) {
    CHANNEL.store(intid, Ordering::Relaxed);
    gic::route_here(intid);
}

/// Enables the interrupt of the channel's UART, if it has one. It wakes the console's task.
pub fn listen_to_channel() {
    let intid = CHANNEL.load(Ordering::Relaxed);
    if intid != u32::MAX {
        gic::enable(intid);
    }
}

/// Registers the INTID of the disk that the console's task uses, and routes it to the calling core.
pub fn open_disk(intid: u32) {
    DISK.store(intid, Ordering::Relaxed);
    gic::route_here(intid);
}

/// Enables the interrupt of the disk, which wakes the console's task once. Returns whether the disk
/// has one.
pub fn listen_to_disk() -> bool {
    let intid = DISK.load(Ordering::Relaxed);
    let has_one = intid != u32::MAX;
    if has_one {
        gic::enable(intid);
    }
    has_one
}
