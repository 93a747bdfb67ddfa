//! Wall time: from the machine's clock where it has one, else since power-on.

use crate::machine::Machine;
use spin::Once;
use stasis_arch::timer;
use stasis_hw::mmio::Frame;
use stasis_hw::pl031::Pl031;

/// Wall time when the counter was 0, in ticks of the counter.
static EPOCH: Once<u64> = Once::new();

/// Reads the machine's clock. From then on the counter tells how time passes.
pub fn init(machine: &Machine) {
    let seconds = machine.rtc.map_or(0, |device| {
        // SAFETY: the device tree's frame, mapped as a device; it is only read.
        let frame = unsafe { Frame::new(device.frame.start as usize, Pl031::LEN) };
        u64::from(Pl031::new(frame).seconds())
    });
    EPOCH.call_once(|| seconds.saturating_mul(timer::frequency()).wrapping_sub(timer::counter()));
}

/// Seconds since 1970, or since power-on where the machine has no clock.
pub fn wall_time() -> u64 {
    EPOCH.get().map_or(0, |epoch| epoch.wrapping_add(timer::counter()) / timer::frequency())
}
