//! The loads and stores that reach the GIC or a device.

use super::{Exited, Host, Next};
use crate::exit::{Access, PlainAccess, Syndrome};
use crate::guest::outside::Around;
use crate::guest::{DevicesDue, Guest};
use crate::inject::El1Registers;
use crate::outbox::Errand;
use crate::register::{general, set_general};
use crate::stop::Crash;
use stasis_devices::access::Width;
use stasis_devices::device::{self, Device, Effects, Outside, Window};
use stasis_devices::list::{Kind, Line, Target};
use stasis_devices::machine::{GICD_BASE, GICD_REGISTERS};
use stasis_devices::pl011;
use stasis_devices::virtio::{Slots, Work};
use stasis_memory::GuestMemory;
use stasis_state::device::Pl011;
use stasis_state::vcpu::Core;
use stasis_vgic::{GICD_SGIR, VcpuMask, VirtualInterface};

/// Offset of GICC_DIR in its page, IHI 0048B.b 4.4.18.
const GICC_DIR: u64 = 0;

/// Returns the access to a word of the distributor that an exception stands for; None if it is
/// anything else. Only such a one are [`Guest::load_at_once`] and [`Guest::store_at_once`] for. No
/// lock is needed.
#[inline(always)]
pub fn gicd_word(syndrome: Syndrome) -> Option<PlainAccess> {
    PlainAccess::word_in(GICD_BASE, syndrome)
}

/// The distributor is one page, by which [`gicd_word`] finds it.
const _: () = assert!(GICD_REGISTERS == 0x1000 && GICD_BASE.is_multiple_of(0x1000));

/// Returns the access to the UART that an exception stands for; None if it is anything else. Only
/// such a one is [`Guest::uart_at_once`] for. No lock is needed.
#[inline(always)]
pub fn uart_access(syndrome: Syndrome) -> Option<PlainAccess> {
    const UART: Window = Pl011::WINDOW;
    PlainAccess::of(syndrome).filter(|access| {
        access.ipa.wrapping_sub(UART.base) < UART.size
            && access.width <= Width::Word
            && access.width.is_aligned(access.ipa)
    })
}

/// Returns the access to a register of a virtio-mmio slot that an exception stands for; None if it
/// is anything else. Only such a one is [`Guest::virtio_at_once`] for. No lock is needed.
#[inline]
pub fn virtio_access(syndrome: Syndrome) -> Option<PlainAccess> {
    const SLOTS: Window = Slots::WINDOW;
    PlainAccess::of(syndrome).filter(|access| {
        access.ipa.wrapping_sub(SLOTS.base) < const { SLOTS.end() - SLOTS.base }
            && access.width == Width::Word
            && access.width.is_aligned(access.ipa)
    })
}

/// What an access to the UART leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfUart {
    /// The vCPUs whose offered interrupts may have changed: the vCPU itself passes through
    /// `Vgic::enter` before its next entry, and the others must be kicked.
    pub kick: VcpuMask,
    /// The byte that the guest sends, if it sends one.
    pub sent: Option<u8>,
}

/// What an access to a virtio-mmio slot leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfVirtio {
    /// The vCPUs whose offered interrupts may have changed: the vCPU itself passes through
    /// `Vgic::enter` before its next entry, and the others must be kicked.
    pub kick: VcpuMask,
    /// Which devices have requests now that nobody was told of before, if any have.
    pub work: Option<Work>,
}

/// Returns whether an access to a word of the distributor is to GICD_SGIR: what it sends, and to
/// whom, nothing of the guest's state decides ([`stasis_vgic::sgi_of`]). No lock is needed.
#[inline(always)]
pub fn is_sgir(word: PlainAccess) -> bool {
    word.ipa == GICD_BASE + GICD_SGIR
}

impl Guest {
    /// Returns what vCPU `index`, which is little-endian, loads from a word of the distributor, if
    /// it is one of those that are loaded most.
    #[inline(always)]
    pub fn load_often(&self, index: usize, word: PlainAccess) -> Option<u64> {
        self.vgic.read_often(index, gicd_access_to(word)?).map(u64::from)
    }

    /// Returns what vCPU `index`, which is little-endian, loads from a word of the distributor, if
    /// it depends on the records alone, whatever is in list registers.
    #[inline]
    pub fn load_at_once(&self, index: usize, word: PlainAccess) -> Option<u64> {
        self.vgic.recorded(index, gicd_access_to(word)?)
    }

    /// Returns what vCPU `index`, which is little-endian, loads from a word of the distributor that
    /// has pending states, if no other vCPU's list registers matter; and the vCPUs whose offered
    /// interrupts may have changed by that: vCPU `index` passes through `Vgic::enter` before its
    /// next entry, and the others must be kicked. `gic` is the interface of the vCPU's core. The
    /// caller has put into the records what other vCPUs have sent.
    #[inline]
    pub fn load_pending(
        &mut self,
        index: usize,
        word: PlainAccess,
        gic: &mut impl VirtualInterface,
    ) -> Option<(u64, VcpuMask)> {
        let (value, effects) = self.vgic.read_pending(index, gicd_access_to(word)?, gic)?;
        Some((value, effects.kick))
    }

    /// Answers a store of `value` to a word of the distributor by vCPU `index`, which is
    /// little-endian, if it depends on the records alone. Returns the vCPUs whose offered
    /// interrupts may have changed: vCPU `index` passes through `Vgic::enter` before its next
    /// entry, and the others must be kicked.
    ///
    /// Returns None if the store is another one: then nothing was done, and
    /// [`Whole::exit`](super::Whole::exit) must answer.
    #[inline(always)]
    pub fn store_at_once(
        &mut self,
        index: usize,
        word: PlainAccess,
        value: u32,
    ) -> Option<VcpuMask> {
        Some(self.vgic.record(index, gicd_access_to(word)?, value)?.kick)
    }

    /// Answers an access to the UART by a vCPU that is little-endian. Returns what is left to do.
    /// Its PC is as before.
    #[inline]
    pub fn uart_at_once(&mut self, core: &mut Core, access: PlainAccess) -> OfUart {
        let PlainAccess { write, width, ipa, register } = access;
        let access = device::Access { n: 0, offset: ipa - Pl011::WINDOW.base, width };
        let uart = &mut self.devices.pl011;
        let level = uart.line(0);
        let mut sent = None;
        if write {
            sent = pl011::write(uart, access, width.truncate(general(core, register)));
        } else {
            set_general(core, register, pl011::read(uart, access));
        }
        let line = Line::of(uart, 0).filter(|line| line.level != level);
        OfUart { kick: self.update_line(line), sent }
    }

    /// Answers an access to a virtio-mmio slot by a vCPU that is little-endian. Returns what is
    /// left to do. Its PC is as before.
    #[inline]
    pub fn virtio_at_once(&mut self, core: &mut Core, access: PlainAccess) -> OfVirtio {
        const SLOTS: Window = Slots::WINDOW;
        let PlainAccess { write, width, ipa, register } = access;
        let from_base = ipa - SLOTS.base;
        let n = (from_base / SLOTS.size) as u8;
        let access = device::Access { n, offset: from_base % SLOTS.size, width };
        let slots = &mut self.devices.virtio;
        if !write {
            set_general(core, register, slots.read_register(access));
            return OfVirtio { kick: VcpuMask::NONE, work: None };
        }
        let level = slots.line(n);
        let work = slots.store(access, width.truncate(general(core, register)));
        let line = Line::of(slots, n).filter(|line| line.level != level);
        OfVirtio { kick: self.update_line(line), work }
    }

    /// Answers a load or store that reaches the GIC. An error has the vCPUs that must be held
    /// first; then nothing was done.
    pub(super) fn gic_access(
        &mut self,
        exited: &mut Exited<'_, impl Host>,
        target: Target,
        access: &Access,
        held: VcpuMask,
    ) -> Result<(), VcpuMask> {
        let sctlr = exited.host.el1().sctlr_el1();
        let core = &exited.vcpu.core;
        if access.write {
            let value = access.in_device_order(core, sctlr, access.stored(core));
            return self.gic_write(exited, target, value, held);
        }
        let value = self.gic_read(exited, target, held)?;
        let core = &mut exited.vcpu.core;
        let value = access.in_device_order(core, sctlr, value);
        access.load(core, value);
        Ok(())
    }

    /// Answers a load or store that reaches a device, which may access the guest's `ram`.
    pub(super) fn device_access(
        &mut self,
        exited: &mut Exited<'_, impl Host>,
        target: Target,
        access: &Access,
        ram: &mut impl GuestMemory,
    ) -> Next {
        let sctlr = exited.host.el1().sctlr_el1();
        let core = &exited.vcpu.core;
        if access.write {
            let value = access.in_device_order(core, sctlr, access.stored(core));
            return self.device_write(exited, target, value, ram);
        }
        let value = self.device_read(exited, target, ram);
        let core = &mut exited.vcpu.core;
        let value = access.in_device_order(core, sctlr, value);
        access.load(core, value);
        if let Some(register) = access.second {
            let mut target = target;
            target.access.offset += access.width.bytes();
            let second = Access { register, second: None, ..*access };
            return self.device_access(exited, target, &second, ram);
        }
        Next::Enter
    }

    /// Reads from the distributor. GICC_DIR reads as 0. An error has the vCPUs that must be held
    /// first.
    fn gic_read(
        &mut self,
        exited: &mut Exited<'_, impl Host>,
        target: Target,
        held: VcpuMask,
    ) -> Result<u64, VcpuMask> {
        let Exited { index, ref mut host, .. } = *exited;
        let (Kind::Gicd, Ok(gicd)) =
            (target.kind, gicd_access(target.access.offset, target.access.width))
        else {
            return Ok(0);
        };
        all_held(self.vgic.needs_sync(index, gicd, false), held)?;
        let (value, effects) = self.vgic.distributor_read(index, gicd, host.gic());
        host.outbox().kick(effects.kick.without(index));
        Ok(value)
    }

    /// Writes to the distributor, or to GICC_DIR, which is alone in its page. An error has the
    /// vCPUs that must be held first.
    fn gic_write(
        &mut self,
        exited: &mut Exited<'_, impl Host>,
        target: Target,
        value: u64,
        held: VcpuMask,
    ) -> Result<(), VcpuMask> {
        let Exited { index, ref mut host, .. } = *exited;
        let (offset, width) = (target.access.offset, target.access.width);
        let effects = match target.kind {
            Kind::Gicd => {
                let Ok(gicd) = gicd_access(offset, width) else { return Ok(()) };
                all_held(self.vgic.needs_sync(index, gicd, true), held)?;
                self.vgic.distributor_write(index, gicd, value, host.gic())
            }
            _ if offset == GICC_DIR => {
                all_held(self.vgic.deactivate_needs_sync(index, value as u32), held)?;
                self.vgic.deactivate(index, value as u32, host.gic())
            }
            _ => return Ok(()),
        };
        host.outbox().kick(effects.kick.without(index));
        Ok(())
    }

    /// Reads from a device.
    fn device_read(
        &mut self,
        exited: &mut Exited<'_, impl Host>,
        target: Target,
        ram: &mut impl GuestMemory,
    ) -> u64 {
        let Exited { index, ref mut host, .. } = *exited;
        let host = &mut **host;
        let mut around = Around { record: &self.record, clock: &self.clock, host, ram };
        let (value, line) = self.devices.read(target, &mut around);
        let kick = self.update_line(line);
        host.outbox().kick(kick.without(index));
        value
    }

    /// Writes to a device, and notes what that entails outside of the guest.
    fn device_write(
        &mut self,
        exited: &mut Exited<'_, impl Host>,
        target: Target,
        value: u64,
        ram: &mut impl GuestMemory,
    ) -> Next {
        let Exited { index, ref mut vcpu, ref mut host, .. } = *exited;
        let host = &mut **host;
        let mut around = Around { record: &self.record, clock: &self.clock, host, ram };
        let (Effects { outside, due_changed }, line) =
            self.devices.write(target, value, &mut around);
        if due_changed {
            vcpu.deadline_changed = true;
            self.due = DevicesDue::UNKNOWN;
        }
        let kick = self.update_line(line);
        let outbox = host.outbox();
        outbox.kick(kick.without(index));
        match outside {
            None => {}
            Some(Outside::Transmit(byte)) => outbox.errand = Some(Errand::Send(byte)),
            Some(Outside::Ring(peer)) => {
                outbox.errand = Some(Errand::Ring { region: target.access.n, peer });
            }
            Some(Outside::Work) => outbox.has_work = true,
            Some(Outside::Crash(why)) => return Next::Crashed(Crash::Device(why)),
        }
        Next::Enter
    }
}

/// Returns an error with those of `needed` that are not held yet, if there are any.
fn all_held(needed: VcpuMask, held: VcpuMask) -> Result<(), VcpuMask> {
    let missing = VcpuMask(needed.0 & !held.0);
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// Returns the access to a word of the distributor, as it is known to be.
#[inline(always)]
fn gicd_access_to(word: PlainAccess) -> Option<stasis_vgic::Access> {
    gicd_access(word.ipa.wrapping_sub(GICD_BASE), Width::Word).ok()
}

#[inline(always)]
fn gicd_access(offset: u64, width: Width) -> Result<stasis_vgic::Access, stasis_vgic::Error> {
    stasis_vgic::Access::checked(offset, width as u8)
}
