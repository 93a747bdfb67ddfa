//! Notes the pages at which a guest's accesses reach no device, so that each is reported once.
//!
//! [`stasis_devices::list`] has the addresses of the devices. The answer to an access that no
//! device takes is [`crate::inject::external_abort`], and one line in the log for each page
//! ([`Unclaimed`]).

use crate::once::Once;

/// The pages without a device whose accesses by a guest were reported.
#[derive(Clone, Debug, Default)]
pub struct Unclaimed(Once<16>);

impl Unclaimed {
    /// Returns whether an access to `ipa` must be reported, and notes its page. Each page is
    /// reported once, and only the first pages are.
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
