//! What of the machine is Stasis's own: what no guest is given, and the devices' registers that EL2
//! maps.

use alloc::vec::Vec;

use super::{Device, Machine};
use stasis_memory::PAGE_SIZE;
use stasis_memory::range::{Pool, Range};

/// What Stasis itself uses of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Memory, and devices' registers.
    pub frames: Vec<Range>,
    /// INTIDs.
    pub interrupts: Vec<u32>,
}

impl Own {
    /// Adds a device that Stasis uses, too.
    pub fn add(&mut self, device: Device) {
        self.frames.push(device.frame);
        self.interrupts.push(device.intid);
    }
}

impl Machine<'_> {
    /// Returns the UARTs that Stasis drives: the console's, and the channel's if it has one.
    fn serial(&self) -> impl Iterator<Item = Device> {
        [self.uart].into_iter().chain(self.channel).map(|uart| uart.device)
    }

    /// Returns what no guest can be given: the image, all memory, and the devices that Stasis uses,
    /// one of them `disk` if it is a virtio one. [`Own::add`] adds what is chosen later. The random
    /// number generator is not among them: Stasis uses it at boot alone, before there is a guest.
    pub fn own(&self, image: Range, disk: Option<Device>) -> Own {
        let mut frames = Vec::from([image]);
        frames.extend(self.serial().map(|device| device.frame));
        frames.extend_from_slice(&self.memory);
        frames.extend(disk.map(|device| device.frame));
        frames.extend(self.watchdog.map(|device| device.frame));
        frames.extend(self.reserved.iter().map(|reserved| reserved.range));
        if let Ok(gic) = &self.gic {
            frames.extend([gic.gicd, gic.gicc, gic.gich, gic.gicv]);
        }
        frames.extend(self.sd_hosts.iter().map(|host| host.device.frame));
        // The other devices are polled.
        let interrupts = self.serial().chain(disk).map(|device| device.intid);
        Own { frames, interrupts: interrupts.collect() }
    }

    /// Returns the registers that EL2 maps, by whole pages: of what it drives itself, and of every
    /// virtio-mmio slot, for the device of a guest that has ended is reset.
    pub fn device_frames(&self) -> Pool {
        let mut pool = Pool::new();
        let one_each = [self.rtc, self.watchdog, self.random];
        let devices = one_each.iter().flatten().chain(&self.virtio).map(|device| device.frame);
        let gic = self.gic.iter().flat_map(|gic| [gic.gicd, gic.gicc, gic.gich]);
        let sd_hosts = self.sd_hosts.iter().map(|host| host.device.frame);
        let serial = self.serial().map(|device| device.frame);
        let all = devices.chain(serial).chain(gic).chain(sd_hosts);
        all.for_each(|frame| pool.add(frame.outward(PAGE_SIZE)));
        pool
    }
}
