//! The network card of QEMU's `virt`: virtio-net over virtio-mmio, legacy and modern (virtio 1.2,
//! 4.2 and 5.1).
//!
//! Queues and transport are those of `virtio-drivers`; its network driver is not used, for it
//! believes what the device says. [`VirtioNet`] has a [`Lane`](lane::Lane) for each direction.
//! Nothing is negotiated beside the version: no offload, so that each frame is as on the wire, and
//! no filter, so that the card takes frames for every guest (5.1.6.5.1). A device that gives back
//! what it does not have is reset, and not used again.

mod lane;
#[cfg(test)]
mod tests;

use crate::network_card::{ADDRESS, MAX_FRAME, NetworkCard};
use crate::virtio_blk::Slot;
use crate::virtio_dma::{Page, with_pages};
use crate::virtio_setup::negotiate;
use core::fmt;
use core::ptr::NonNull;
use lane::{BUFFER, Buffer, LANE, Lane};
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

/// The device is not a legacy device (6).
const VERSION_1: u64 = 1 << 32;
/// The device has an address (5.1.3).
const MAC: u64 = 1 << 5;

/// Numbers of the queues (5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// Bytes of the header before each frame (5.1.6.1): a legacy device without merged buffers leaves
/// out the last field.
const HEADER: usize = 12;
const LEGACY_HEADER: usize = 10;
/// Pages that both queues take: each two at once of a legacy device, one twice of a modern one.
const QUEUE_PAGES: usize = 4;

/// All memory that the device may use.
#[repr(C)]
pub struct CardMemory {
    queues: [Page; QUEUE_PAGES],
    receive: [Buffer; LANE],
    transmit: [Buffer; LANE],
}

impl CardMemory {
    /// Returns zeroed memory for a card.
    pub const fn new() -> Self {
        Self {
            queues: [Page::ZERO; QUEUE_PAGES],
            receive: [const { Buffer::new() }; LANE],
            transmit: [const { Buffer::new() }; LANE],
        }
    }
}

impl Default for CardMemory {
    fn default() -> Self {
        Self::new()
    }
}

/// Reason why there is no network card in a slot, or it can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The slot is empty.
    #[error("the virtio slot at {0:#x} is empty")]
    Empty(usize),
    /// The slot has something else.
    #[error("the virtio device at {address:#x} is no network card, but has the type {kind:?}")]
    NoCard {
        /// Address of the slot.
        address: usize,
        /// Type of the device.
        kind: DeviceType,
    },
    /// The device did not agree to what the driver accepts.
    #[error("the network card at {address:#x} does not accept features {features:#x}")]
    Features {
        /// Address of the device's registers.
        address: usize,
        /// Features that the driver accepts.
        features: u64,
    },
    /// A queue or the configuration space is not as it must be.
    #[error("the network card at {address:#x} can't be set up: {error}")]
    Setup {
        /// Address of the device's registers.
        address: usize,
        /// Error of `virtio-drivers`.
        error: virtio_drivers::Error,
    },
}

impl Error {
    /// Returns whether the slot has no network card, and was left as it was found: others can have
    /// it.
    pub fn is_no_card(&self) -> bool {
        matches!(self, Self::Empty(_) | Self::NoCard { .. })
    }
}

/// A virtio network card.
pub struct VirtioNet<T: Transport = MmioTransport<'static>> {
    transport: T,
    address: [u8; ADDRESS],
    header: usize,
    receive: Lane,
    transmit: Lane,
    /// Whether the device gave back what it did not have. It was reset then.
    has_lied: bool,
}

impl VirtioNet {
    /// Sets up the network card in `slot`, and returns its driver. A slot with something else is
    /// left as it is.
    ///
    /// # Errors
    ///
    /// [`Error`]; the memory is not used again then, for the device may know it.
    ///
    /// # Safety
    ///
    /// 1. The slot is the address of a virtio-mmio device's registers, mapped as device memory for
    ///    as long as the machine runs; nobody else uses those of a network card.
    /// 2. The MMU maps `memory` at its physical address.
    pub unsafe fn start(slot: Slot, memory: &'static mut CardMemory) -> Result<Self, Error> {
        let address = slot.address;
        let header = NonNull::new(address as *mut _).ok_or(Error::Empty(address))?;
        // SAFETY: `header` points to the registers of a virtio-mmio device, `slot.size` bytes of
        // device memory that stay mapped, by condition 1.
        let transport = unsafe { MmioTransport::new(header, slot.size) };
        let transport = transport.map_err(|_| Error::Empty(address))?;
        match transport.device_type() {
            DeviceType::Network => Self::new(address, transport, memory),
            kind => {
                // Do not drop the transport: that would reset a device that is not ours.
                core::mem::forget(transport);
                Err(Error::NoCard { address, kind })
            }
        }
    }
}

impl<T: Transport> VirtioNet<T> {
    /// Initializes the device (3.1.1), gives it all buffers for what comes, and returns its driver.
    fn new(at: usize, mut transport: T, memory: &'static mut CardMemory) -> Result<Self, Error> {
        let setup = |error| Error::Setup { address: at, error };
        let (status, features) = negotiate(&mut transport, VERSION_1 | MAC)
            .map_err(|features| Error::Features { address: at, features })?;
        let mut address = [0; ADDRESS];
        if features & MAC != 0 {
            for (byte, offset) in address.iter_mut().zip(0..) {
                *byte = transport.read_config_space(offset).map_err(setup)?;
            }
        }
        let CardMemory { queues, receive, transmit } = memory;
        let lanes = with_pages(queues, || {
            let receive = Lane::new(&mut transport, RECEIVE, receive)?;
            Ok((receive, Lane::new(&mut transport, TRANSMIT, transmit)?))
        });
        let (mut receive, mut transmit) = lanes.map_err(setup)?;
        transmit.be_quiet();
        while receive.offer(BUFFER).map_err(setup)? {}
        transport.set_status(status | DeviceStatus::DRIVER_OK);
        receive.notify(&mut transport);
        let header = if features & VERSION_1 == 0 { LEGACY_HEADER } else { HEADER };
        Ok(Self { transport, address, header, receive, transmit, has_lied: false })
    }

    fn try_send(&mut self, frame: &[u8]) -> Result<bool, virtio_drivers::Error> {
        while self.transmit.take_back()?.is_some() {}
        let Some(buffer) = self.transmit.next() else { return Ok(false) };
        let (header, frame) = (self.header, &frame[..frame.len().min(MAX_FRAME)]);
        let len = header + frame.len();
        buffer[..header].fill(0);
        buffer[header..len].copy_from_slice(frame);
        self.transmit.offer(len)?;
        self.transmit.notify(&mut self.transport);
        Ok(true)
    }

    fn try_receive(
        &mut self,
        into: &mut [u8; MAX_FRAME],
    ) -> Result<Option<usize>, virtio_drivers::Error> {
        let Some(written) = self.receive.take_back()? else { return Ok(None) };
        let buffer = self.receive.next().unwrap_or_default();
        let frame = buffer.get(self.header..written).unwrap_or_default();
        let len = frame.len().min(MAX_FRAME);
        into[..len].copy_from_slice(&frame[..len]);
        self.receive.offer(BUFFER)?;
        self.receive.notify(&mut self.transport);
        Ok(Some(len))
    }

    /// Returns what a queue has said; `nothing` if its device must be given up, and was.
    fn believe<R>(&mut self, said: Result<R, virtio_drivers::Error>, nothing: R) -> R {
        said.unwrap_or_else(|_| {
            self.give_up();
            nothing
        })
    }

    /// Resets the device, which is not used again.
    #[cold]
    fn give_up(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
        self.has_lied = true;
    }
}

impl<T: Transport + Send> NetworkCard for VirtioNet<T> {
    fn address(&self) -> [u8; ADDRESS] {
        self.address
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        if self.has_lied {
            return false;
        }
        let sent = self.try_send(frame);
        self.believe(sent, false)
    }

    fn receive(&mut self, into: &mut [u8; MAX_FRAME]) -> Option<usize> {
        if self.has_lied {
            return None;
        }
        let received = self.try_receive(into);
        self.believe(received, None)
    }

    fn acknowledge(&mut self) {
        self.transport.ack_interrupt();
    }

    fn fault(&self) -> Option<&'static str> {
        self.has_lied.then_some("it gave back a buffer that it did not have, and was reset")
    }
}

impl<T: Transport> fmt::Debug for VirtioNet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtioNet")
            .field("address", &self.address)
            .field("has_lied", &self.has_lied)
            .finish_non_exhaustive()
    }
}
