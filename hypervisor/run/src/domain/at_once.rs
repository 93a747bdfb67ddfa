//! Accesses to the distributor, to the UART and to virtio devices that are answered before all
//! registers of the vCPU are saved.
//!
//! All others, and those of a vCPU in AArch32 or of a big-endian one, need the whole vCPU. So do
//! those that find the lock of what the vCPUs share taken: whoever waits for that has the whole
//! vCPU. What is most frequent calls no function, so that no register must be saved for one.

use super::devices::announce_disk_work;
use super::first_look::{AtExit, Glimpse, fill};
use super::run::syndrome;
use crate::above;
use stasis_arch::world::Looked;
use stasis_devices::virtio::Work;
use stasis_guest::exit::{PlainAccess, behind_aarch64, may_be_forbidden};
use stasis_guest::register::{general, is_plain, set_general};
use stasis_guest::stats::Reason;
use stasis_guest::{OfUart, OfVirtio, gicd_word, is_sgir, uart_access, virtio_access};
use stasis_vgic::{VcpuMask, sgi_of};

impl AtExit<'_> {
    /// Answers an access to a device, or a store that stage 2 forbids for a while.
    #[inline(always)]
    pub(super) fn abort(&mut self, glimpse: Glimpse<'_>) -> Looked {
        let syndrome = syndrome();
        match gicd_word(syndrome) {
            Some(word) => self.access(glimpse, word),
            None if may_be_forbidden(syndrome) => self.allow_store(glimpse, syndrome),
            None => self.access_uart(glimpse),
        }
    }

    /// Answers an access to a word of the distributor.
    #[inline(always)]
    fn access(&mut self, glimpse: Glimpse<'_>, word: PlainAccess) -> Looked {
        if let Err(looked) = check(&glimpse, word) {
            return looked;
        }
        if word.write {
            return match is_sgir(word) {
                true => self.send(glimpse, word),
                false => self.store(glimpse, word),
            };
        }
        let Some(resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return Looked::Leave;
        };
        let Some(value) = resident.guest.load_often(self.host.place.index, word) else {
            drop(resident);
            return self.load(glimpse, word);
        };
        drop(resident);
        self.loaded(glimpse, word, value)
    }

    /// Answers a load of a word of the distributor that depends on the records, or on the vCPU's
    /// own list registers.
    #[inline(never)]
    fn load(&mut self, glimpse: Glimpse<'_>, word: PlainAccess) -> Looked {
        let index = self.host.place.index;
        let Some(mut resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return Looked::Leave;
        };
        let guest = &mut resident.guest;
        if let Some(value) = guest.load_at_once(index, word) {
            drop(resident);
            return self.loaded(glimpse, word, value);
        }
        // What the guest reads of its GIC has what was sent before.
        self.host.place.receive(guest);
        let answer = guest.load_pending(index, word, &mut self.host.gic);
        let Some((value, kick)) = answer else { return Looked::Leave };
        let also = fill(guest, index, &mut self.host.gic);
        drop(resident);
        set_general(&mut glimpse.vcpu.core, word.register, value);
        self.host.domain.kick(VcpuMask(kick.0 | also.0).without(index));
        self.answered(glimpse, false)
    }

    /// Makes the vCPU go on behind a load that has changed nothing, with `value`.
    #[inline(always)]
    fn loaded(&mut self, mut glimpse: Glimpse<'_>, word: PlainAccess, value: u64) -> Looked {
        set_general(&mut glimpse.vcpu.core, word.register, value);
        glimpse.move_pc(behind_aarch64);
        self.host.place.stats.left(Reason::Mmio);
        Looked::GoOn
    }

    /// Answers a store to GICD_SGIR.
    #[inline(never)]
    fn send(&mut self, glimpse: Glimpse<'_>, word: PlainAccess) -> Looked {
        let (index, value) =
            (self.host.place.index, general(&glimpse.vcpu.core, word.register) as u32);
        let (sgi, to) = sgi_of(index, self.host.domain.vcpus.len(), value);
        if !to.contains(index) {
            self.host.domain.send(sgi, index, to);
            return self.answered(glimpse, false);
        }
        if to != VcpuMask::only(index) {
            return self.store(glimpse, word);
        }
        let Some(mut resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return Looked::Leave;
        };
        let is_done = resident.guest.vgic.send_again(index, sgi, &mut self.host.gic);
        drop(resident);
        match is_done {
            true => self.answered(glimpse, false),
            false => self.store(glimpse, word),
        }
    }

    /// Answers a store of a word of the distributor that depends on the records alone.
    #[inline(never)]
    fn store(&mut self, glimpse: Glimpse<'_>, word: PlainAccess) -> Looked {
        let (index, value) =
            (self.host.place.index, general(&glimpse.vcpu.core, word.register) as u32);
        let Some(mut resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return Looked::Leave;
        };
        let guest = &mut resident.guest;
        let Some(kick) = guest.store_at_once(index, word, value) else { return Looked::Leave };
        let also = fill(guest, index, &mut self.host.gic);
        drop(resident);
        self.host.domain.kick(VcpuMask(kick.0 | also.0).without(index));
        self.answered(glimpse, false)
    }

    /// Answers an access to the UART.
    #[inline(never)]
    fn access_uart(&mut self, glimpse: Glimpse<'_>) -> Looked {
        let Some(access) = uart_access(syndrome()) else { return self.access_virtio(glimpse) };
        if let Err(looked) = check(&glimpse, access) {
            return looked;
        }
        let index = self.host.place.index;
        let Some(mut resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return Looked::Leave;
        };
        let guest = &mut resident.guest;
        let OfUart { kick, sent } = guest.uart_at_once(&mut glimpse.vcpu.core, access);
        let also = fill(guest, index, &mut self.host.gic);
        drop(resident);
        self.host.domain.kick(VcpuMask(kick.0 | also.0).without(index));
        if let Some(byte) = sent {
            above::get().transmit(self.host.domain, byte);
        }
        // The UART may have room for more of what was typed.
        self.answered(glimpse, self.host.domain.news.is_there())
    }

    /// Answers an access to a virtio device. If the driver has put requests into queues, small ones
    /// of disks are done that need no disk now, and the console's task is woken for the rest. The
    /// vCPU itself does a few of those of other devices, and leaves if there are more.
    #[inline(never)]
    fn access_virtio(&mut self, glimpse: Glimpse<'_>) -> Looked {
        let Some(access) = virtio_access(syndrome()) else { return Looked::Leave };
        if let Err(looked) = check(&glimpse, access) {
            return looked;
        }
        let index = self.host.place.index;
        let Some(mut resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return Looked::Leave;
        };
        let OfVirtio { mut kick, work } =
            resident.guest.virtio_at_once(&mut glimpse.vcpu.core, access);
        // A guest that is not served is told when it can be.
        let work = work.filter(|_| resident.is_served());
        let mut is_for_console = false;
        if work == Some(Work::Disks) {
            kick.0 |= resident.serve_small(self.host.times.turn_ends).0;
            is_for_console = resident.guest.has_disk_work();
        }
        kick.0 |= fill(&mut resident.guest, index, &mut self.host.gic).0;
        drop(resident);
        self.host.domain.kick(kick.without(index));
        if is_for_console {
            announce_disk_work();
        }
        let is_more = work == Some(Work::Others) && self.serve_at_exit();
        if is_more {
            self.host.domain.news.announce();
        }
        self.answered(glimpse, is_more)
    }

    /// Does a few requests of devices without a disk. Returns whether there may be more.
    fn serve_at_exit(&mut self) -> bool {
        let (domain, turn_ends) = (self.host.domain, self.host.times.turn_ends);
        domain.serve_at_exit(&self.unlocked, self.host.place, &mut self.host.gic, turn_ends)
    }

    /// Makes the vCPU go on behind its access, or leave if its core must decide, or if there
    /// `is_more` to do.
    #[inline(always)]
    fn answered(&mut self, mut glimpse: Glimpse<'_>, is_more: bool) -> Looked {
        glimpse.move_pc(behind_aarch64);
        self.host.place.stats.left(Reason::Mmio);
        // An interrupt that was sent may be for another vCPU of this core, which interrupts nobody.
        match self.host.place.roster.must_decide() || is_more {
            true => Looked::Answered,
            false => Looked::GoOn,
        }
    }
}

/// Checks that a vCPU's access can be answered at once; else an error says what happens next.
#[inline(always)]
fn check(glimpse: &Glimpse<'_>, access: PlainAccess) -> Result<(), Looked> {
    if !is_plain(glimpse.pstate(), glimpse.sctlr_el1()) {
        return Err(Looked::Leave);
    }
    if glimpse.has(access.register) { Ok(()) } else { Err(Looked::Again) }
}
