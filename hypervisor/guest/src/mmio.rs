//! The accesses that reach no device.
//!
//! Where the devices are is in [`stasis_devices::list`]. The answer to an access that no device takes is
//! [`crate::inject::external_abort`], and one line in the log for each page ([`Unclaimed`]).

use crate::once::Once;

/// The pages without a device that a guest was reported to have touched.
#[derive(Clone, Debug, Default)]
pub struct Unclaimed(Once<16>);

impl Unclaimed {
    /// Returns whether an access to `ipa` must be reported: once for each page, and not for ever.
    pub fn report(&mut self, ipa: u64) -> bool {
        self.0.is_first(ipa >> 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_a_device_is_reported_once() {
        let mut unclaimed = Unclaimed::default();
        assert!(unclaimed.report(0x0b00_0000));
        assert!(!unclaimed.report(0x0b00_0ffc));
        assert!(unclaimed.report(0x0b00_1000));
    }
}
