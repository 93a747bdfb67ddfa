//! A generic watchdog (Arm Base System Architecture, appendix A), which Linux drives as
//! `arm,sbsa-gwdt`.
//!
//! Once the watchdog runs, the guest must refresh it. [`wor`](Watchdog) ticks after the last
//! refresh the watchdog raises its interrupt, WS0. After as many ticks again it sets WS1, and then
//! `stasis-host` decides what happens to the guest. The ticks are the guest's time, so nothing
//! happens while the guest is paused or stored.

use alloc::format;

use stasis_state::device::Watchdog;

use crate::access::{read_words, write_words};
use crate::device::{Access, Clocks, Context, Deadline, Device, Due, Effects, Verdict, Window};
use crate::equipment::Equipment;
use crate::tree::{LEVEL_HIGH, Writer};
use stasis_state::machine::DeviceKind;

/// The registers' offsets in the control frame; the offsets of the refresh frame begin at
/// [`REFRESH`].
mod offset {
    pub const WCS: u64 = 0x000;
    pub const WOR: u64 = 0x008;
    pub const WCV_LOW: u64 = 0x010;
    pub const WCV_HIGH: u64 = 0x014;
    pub const WRR: u64 = super::REFRESH;
}

/// Bytes from the control frame to the refresh frame.
const REFRESH: u64 = 0x1000;

/// WCS: the watchdog runs.
const EN: u32 = 1 << 0;
/// WCS: the watchdog has raised its interrupt.
const WS0: u32 = 1 << 1;
/// WCS: the watchdog was not fed.
const WS1: u32 = 1 << 2;

impl Device for Watchdog {
    /// The control frame, then the refresh frame. QEMU's `virt` has nothing at these addresses, and
    /// does not use the interrupt, INTID 42.
    const WINDOW: Window = Window { base: 0x0910_0000, size: 0x2000, count: 1, spi: Some(10) };
    const KIND: DeviceKind = DeviceKind::WATCHDOG;
    const HAS_CLOCK: bool = true;
    type Record = Self;

    fn fitted(equipment: &Equipment<'_>) -> Option<Self> {
        let us = u128::from(equipment.watchdog_us?);
        let ticks = us * u128::from(equipment.counter_hz) / 1_000_000;
        Some(new(ticks.try_into().unwrap_or(u64::MAX)))
    }

    fn restored(record: Self, _: u64) -> Self {
        record
    }

    fn record(&self) -> &Self {
        self
    }

    fn read(&mut self, access: Access, _: &mut impl Context) -> u64 {
        // W_IIDR is 0, too: version 0, whose WOR has 32 bits.
        read_words(access.offset, access.width, |offset| match offset {
            offset::WCS => *self.wcs,
            offset::WOR => *self.wor,
            offset::WCV_LOW => *self.wcv as u32,
            offset::WCV_HIGH => (*self.wcv >> 32) as u32,
            _ => 0,
        })
    }

    fn write(&mut self, access: Access, value: u64, context: &mut impl Context) -> Effects {
        let now = context.guest_time();
        write_words(access.offset, access.width, value, |offset, word| match offset {
            offset::WCS => {
                *self.wcs = word & EN;
                refresh(self, now);
            }
            offset::WOR => {
                *self.wor = word;
                refresh(self, now);
            }
            offset::WRR => refresh(self, now),
            offset::WCV_LOW => *self.wcv = *self.wcv >> 32 << 32 | u64::from(word),
            offset::WCV_HIGH => *self.wcv = u64::from(word) << 32 | u64::from(*self.wcv as u32),
            _ => {}
        });
        Effects::DUE_CHANGED
    }

    #[inline]
    fn line(&self, _: u8) -> bool {
        *self.wcs & WS0 != 0
    }

    #[inline]
    fn tick(&mut self, clocks: &impl Clocks) {
        pass(self, clocks.guest_time());
    }

    /// Returns the time of the next change. A watchdog that was not fed stays due until somebody
    /// acts.
    #[inline]
    fn due(&self) -> Due {
        if *self.wcs & EN == 0 {
            return Due::NEVER;
        }
        Due::at(Deadline::GuestTime(*self.wcv))
    }

    #[inline]
    fn verdict(&self) -> Option<Verdict> {
        has_bitten(self).then_some(Verdict::NotFed)
    }

    fn describe(equipment: &Equipment<'_>, tree: &mut Writer) {
        let Some(us) = equipment.watchdog_us else { return };
        let Window { base, size, .. } = Self::WINDOW;
        tree.begin(&format!("watchdog@{base:x}"));
        tree.string("compatible", "arm,sbsa-gwdt");
        tree.reg(&[(base, REFRESH), (base + REFRESH, size - REFRESH)]);
        tree.interrupt(&Self::WINDOW, 0, LEVEL_HIGH);
        if us > 0 {
            tree.cell("timeout-sec", us.div_ceil(1_000_000) as u32);
        }
        tree.end();
    }
}

/// Returns a watchdog that runs from the start, with `ticks` of the guest's counter from the last
/// refresh to WS1. With 0 the guest must start it.
fn new(ticks: u64) -> Watchdog {
    let mut watchdog = Watchdog::default();
    if ticks > 0 {
        *watchdog.wcs = EN;
        *watchdog.wor = u32::try_from(ticks / 2).unwrap_or(u32::MAX);
        refresh(&mut watchdog, 0);
    }
    watchdog
}

/// Restarts the time at `now`, and clears WS0 and WS1.
fn refresh(watchdog: &mut Watchdog, now: u64) {
    *watchdog.wcs &= EN;
    *watchdog.wcv = now.saturating_add((*watchdog.wor).into());
}

/// Brings the state up to the guest's time `now`, in ticks: sets WS0 or WS1 if it is due.
fn pass(watchdog: &mut Watchdog, now: u64) {
    let is_due = *watchdog.wcs & EN != 0 && now >= *watchdog.wcv;
    if has_bitten(watchdog) || !is_due {
        return;
    }
    if *watchdog.wcs & WS0 == 0 {
        *watchdog.wcs |= WS0;
        // The second half begins now, and not when WS0 was due: the guest has the whole of it to
        // answer.
        *watchdog.wcv = now.saturating_add((*watchdog.wor).into());
    } else {
        *watchdog.wcs |= WS1;
    }
}

/// Returns whether the watchdog was not fed: WS1 is set.
#[inline]
fn has_bitten(watchdog: &Watchdog) -> bool {
    *watchdog.wcs & WS1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Width;
    use crate::device::tests::{access, at};

    fn read(watchdog: &Watchdog, offset: u64, width: Width) -> u64 {
        watchdog.clone().read(access(offset, width), &mut at(0))
    }

    fn write(watchdog: &mut Watchdog, offset: u64, width: Width, value: u64, now: u64) {
        let effects = watchdog.write(access(offset, width), value, &mut at(now));
        assert_eq!(effects, Effects::DUE_CHANGED);
    }

    fn tick(watchdog: &mut Watchdog, now: u64) {
        watchdog.tick(&at(now));
    }

    fn line(watchdog: &Watchdog) -> bool {
        watchdog.line(0)
    }

    fn deadline(watchdog: &Watchdog) -> Option<u64> {
        match watchdog.due().line {
            Deadline::GuestTime(ticks) => Some(ticks),
            _ => None,
        }
    }

    #[test]
    fn one_that_is_not_fed_barks_and_then_bites() {
        let mut watchdog = new(1000);
        assert_eq!(deadline(&watchdog), Some(500));
        tick(&mut watchdog, 499);
        assert!(!line(&watchdog));
        tick(&mut watchdog, 510);
        assert!(line(&watchdog) && !has_bitten(&watchdog));
        assert_eq!(deadline(&watchdog), Some(1010));
        tick(&mut watchdog, 1009);
        assert!(!has_bitten(&watchdog));
        tick(&mut watchdog, 1010);
        assert!(has_bitten(&watchdog));
        assert_eq!(deadline(&watchdog), Some(1010), "until somebody acts");
    }

    #[test]
    fn every_refresh_begins_its_time_anew() {
        for (offset, value) in [(0x1000, 0), (0x008, 500), (0x000, 1)] {
            let mut watchdog = new(1000);
            tick(&mut watchdog, 500);
            assert!(line(&watchdog));
            write(&mut watchdog, offset, Width::Word, value, 700);
            assert!(!line(&watchdog), "{offset:#x}");
            assert_eq!(deadline(&watchdog), Some(1200), "{offset:#x}");
        }
    }

    #[test]
    fn one_that_was_not_started_does_nothing_until_the_guest_starts_it() {
        let mut watchdog = new(0);
        tick(&mut watchdog, u64::MAX);
        assert_eq!((line(&watchdog), deadline(&watchdog)), (false, None));
        write(&mut watchdog, 0x008, Width::Word, 100, 50);
        write(&mut watchdog, 0x000, Width::Word, 0xffff_ffff, 60);
        assert_eq!(read(&watchdog, 0x000, Width::Word), 1, "the guest can't raise WS0 or WS1");
        assert_eq!(read(&watchdog, 0x010, Width::Doubleword), 160);
        write(&mut watchdog, 0x000, Width::Word, 0, 60);
        assert_eq!(deadline(&watchdog), None);
    }

    #[test]
    fn no_values_panic() {
        let mut watchdog = new(u64::MAX);
        write(&mut watchdog, 0x010, Width::Doubleword, u64::MAX, 0);
        assert_eq!(read(&watchdog, 0x010, Width::Doubleword), u64::MAX);
        tick(&mut watchdog, u64::MAX);
        write(&mut watchdog, 0x1000, Width::Word, 1, u64::MAX);
        assert_eq!(read(&watchdog, 0x1000, Width::Word), 0);
        assert_eq!(read(&watchdog, 0x0fcc, Width::Word), 0);
    }
}
