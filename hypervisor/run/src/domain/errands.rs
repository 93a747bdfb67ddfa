//! What is left to do outside of a guest when the lock of what its vCPUs share is released.

use super::Domain;
use super::lock::Unlocked;
use crate::gic::ThisCore;
use crate::{above, interrupts, roster};
use stasis_guest::outbox::{Errand, Outbox, Report};
use stasis_hw::gic::Acknowledged;

/// What one exit, or one interrupt, of a vCPU leaves to do outside of its guest.
pub struct Errands {
    /// What the guest's logic leaves to do.
    pub outbox: Outbox,
    /// Interrupt that was taken and is not this guest's.
    others: Option<Acknowledged>,
}

impl Errands {
    /// Returns errands with nothing to do.
    // Not a constant, which would be copied with all of its unused bytes.
    #[inline(always)]
    pub fn none() -> Self {
        Self { outbox: Outbox::EMPTY, others: None }
    }

    /// Keeps an interrupt that was taken and is not this guest's, for [`Self::carry_out`].
    pub fn put_aside(&mut self, interrupt: Acknowledged) {
        self.others = Some(interrupt);
    }

    /// Carries out what is left to do for the guest in `domain`: kicks, sends, rings, logs, and
    /// passes on an interrupt. The caller has no lock of the guest but its vCPU's. Returns whether
    /// there was anything: then a task of this core may have been woken, which interrupts nobody.
    ///
    /// Called before each entry into the guest, before each wait, and when the vCPU leaves. So
    /// there is room for what one exit entails.
    #[inline]
    pub fn carry_out(&mut self, domain: &Domain, _: &Unlocked) -> bool {
        let is_any = !self.outbox.is_empty() || self.others.is_some();
        if is_any {
            self.carry_out_some(domain);
        }
        is_any
    }

    #[inline(never)]
    fn carry_out_some(&mut self, domain: &Domain) {
        domain.kick(core::mem::take(&mut self.outbox.kick));
        if let Some(interrupt) = self.others.take() {
            interrupts::pass(&ThisCore::here(), interrupt);
        }
        // Most errands are a byte. The rest of an errand, which is larger, is not moved for it.
        match self.outbox.errand {
            None => {}
            Some(Errand::Send(byte)) => {
                self.outbox.errand = None;
                above::get().transmit(domain, byte);
            }
            Some(Errand::Ring { region, peer }) => {
                self.outbox.errand = None;
                if let Some(connected) = domain.shared().get(usize::from(region)) {
                    connected.ring(peer);
                }
            }
            Some(Errand::Load) => {
                self.outbox.errand = None;
                roster::wake_console();
            }
            Some(Errand::Report(report)) => {
                self.outbox.errand = None;
                log_report(domain, report);
            }
        }
    }
}

/// Writes a line of the log about the guest in `domain`.
#[cold]
fn log_report(domain: &Domain, report: Report) {
    log::warn!("guest \"{}\": {report}", domain.name);
}
