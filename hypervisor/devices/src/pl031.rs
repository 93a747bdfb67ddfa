//! The PL031 real-time clock (ARM DDI 0224B), as QEMU's `virt` has it.
//!
//! The clock counts the machine's wall time in seconds, plus an offset that the guest may set. The
//! time of the alarm is not part of the state: it is computed when the clock is restored.

use stasis_state::device::Pl031;

use crate::access::{read_words, write_words};
use crate::device::{Access, Clocks, Context, Deadline, Device, Due, Effects, Window};
use crate::equipment::Equipment;
use crate::tree::Writer;
use stasis_state::machine::DeviceKind;

/// The registers' offsets, DDI 0224B table 3-1.
mod offset {
    pub const DR: u64 = 0x000;
    pub const MR: u64 = 0x004;
    pub const LR: u64 = 0x008;
    pub const CR: u64 = 0x00c;
    pub const IMSC: u64 = 0x010;
    pub const RIS: u64 = 0x014;
    pub const MIS: u64 = 0x018;
    pub const ICR: u64 = 0x01c;
    pub const PERIPH_ID0: u64 = 0xfe0;
}

/// Values of RTCPeriphID0 to 3 and RTCPCellID0 to 3.
const IDS: [u8; 8] = [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
/// The one interrupt, in RTCIMSC and RTCRIS.
const INTERRUPT: u32 = 1;
/// Value of RTCCR: the clock always runs.
const ENABLED: u32 = 1;

/// A real-time clock: its record, and when its alarm goes off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtc {
    /// The whole state of the clock.
    state: Pl031,
    /// The time, in seconds since 1970, at which the counter reaches RTCMR. None before the first
    /// tick of a clock that was stored where the time was not known.
    alarm: Option<u64>,
}

impl Device for Rtc {
    const WINDOW: Window = Window { base: 0x0901_0000, size: 0x1000, count: 1, spi: Some(2) };
    const KIND: DeviceKind = DeviceKind::PL031;
    const HAS_CLOCK: bool = true;
    type Record = Pl031;

    fn fitted(_: &Equipment<'_>) -> Option<Pl031> {
        Some(Pl031::default())
    }

    /// Returns the clock with this record. An alarm that was due since `wall_time` goes off at the
    /// first tick; if `wall_time` is 0, no alarm was due.
    fn restored(record: Pl031, wall_time: u64) -> Self {
        let mut rtc = Self { state: record, alarm: None };
        rtc.alarm = (wall_time != 0).then(|| rtc.next_match(wall_time));
        rtc
    }

    fn record(&self) -> &Pl031 {
        &self.state
    }

    fn read(&mut self, access: Access, context: &mut impl Context) -> u64 {
        let now = context.wall_time();
        read_words(access.offset, access.width, |offset| self.read_word(offset, now))
    }

    fn write(&mut self, access: Access, value: u64, context: &mut impl Context) -> Effects {
        let now = context.wall_time();
        write_words(access.offset, access.width, value, |offset, word| {
            self.write_word(offset, word, now);
        });
        Effects::DUE_CHANGED
    }

    /// Returns the level of RTCINTR: whether it is high.
    #[inline]
    fn line(&self, _: u8) -> bool {
        *self.state.ris & *self.state.imsc != 0
    }

    #[inline]
    fn tick(&mut self, clocks: &impl Clocks) {
        self.pass(clocks.wall_time());
    }

    #[inline]
    fn due(&self) -> Due {
        let change = Deadline::WallTime(self.alarm.unwrap_or(0));
        let awaited = *self.state.imsc != 0 && *self.state.ris == 0;
        Due { change, line: if awaited { change } else { Deadline::Never } }
    }

    fn describe(_: &Equipment<'_>, tree: &mut Writer) {
        tree.primecell("pl031@9010000", "arm,pl031", &Self::WINDOW, &["apb_pclk"]);
    }
}

impl Rtc {
    /// Brings the state up to the wall time `now`, in seconds since 1970.
    #[inline]
    fn pass(&mut self, now: u64) {
        match self.alarm {
            Some(alarm) if now < alarm => return,
            Some(_) => *self.state.ris |= INTERRUPT,
            None => {}
        }
        self.alarm = Some(self.next_match(now));
    }

    fn count(&self, now: u64) -> u32 {
        (now as u32).wrapping_add(*self.state.offset)
    }

    /// Returns the seconds until the counter, which wraps, reads RTCMR.
    fn ticks_to_match(&self, now: u64) -> u64 {
        self.state.mr.wrapping_sub(self.count(now)).into()
    }

    /// Returns the time of the next match after `now`. A match at `now` itself is past, and RTCRIS
    /// says what became of it.
    fn next_match(&self, now: u64) -> u64 {
        match self.ticks_to_match(now) {
            0 => now.saturating_add(1 << 32),
            ticks => now.saturating_add(ticks),
        }
    }

    fn set_alarm(&mut self, now: u64) {
        self.alarm = Some(now.saturating_add(self.ticks_to_match(now)));
        // The counter may read RTCMR right now.
        self.pass(now);
    }

    fn read_word(&self, offset: u64, now: u64) -> u32 {
        match offset {
            offset::DR => self.count(now),
            offset::MR => *self.state.mr,
            offset::LR => *self.state.lr,
            offset::CR => ENABLED,
            offset::IMSC => *self.state.imsc,
            offset::RIS => *self.state.ris,
            offset::MIS => *self.state.ris & *self.state.imsc,
            id @ offset::PERIPH_ID0.. => {
                let index = (id - offset::PERIPH_ID0) as usize / 4;
                IDS.get(index).copied().unwrap_or(0).into()
            }
            _ => 0,
        }
    }

    fn write_word(&mut self, offset: u64, value: u32, now: u64) {
        match offset {
            offset::LR => {
                *self.state.lr = value;
                *self.state.offset = value.wrapping_sub(now as u32);
                self.set_alarm(now);
            }
            offset::MR => {
                *self.state.mr = value;
                self.set_alarm(now);
            }
            offset::IMSC => *self.state.imsc = value & INTERRUPT,
            offset::ICR => *self.state.ris &= !value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
