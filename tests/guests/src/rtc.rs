//! The PL031 real-time clock (ARM DDI 0224B).

/// The clock's registers.
pub const RTC: usize = 0x0901_0000;
/// RTCDR: seconds since 1970.
pub const DR: usize = RTC;
/// RTCMR: the alarm.
pub const MR: usize = RTC + 0x04;
/// RTCLR: sets the time.
pub const LR: usize = RTC + 0x08;
/// RTCCR: started.
pub const CR: usize = RTC + 0x0c;
/// RTCIMSC: bit 0 lets the alarm interrupt.
pub const IMSC: usize = RTC + 0x10;
/// RTCRIS.
pub const RIS: usize = RTC + 0x14;
/// RTCMIS.
pub const MIS: usize = RTC + 0x18;
/// RTCICR.
pub const ICR: usize = RTC + 0x1c;
/// The identification registers, RTCPeriphID0 and on.
pub const PERIPH_ID: usize = RTC + 0xfe0;
/// INTID of its interrupt.
pub const INTID: u32 = 34;
