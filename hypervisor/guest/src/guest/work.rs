//! The requests of a guest's virtio devices: each is a step, for which the caller locks the guest.

use super::{Guest, Line};
use alloc::sync::Arc;
use stasis_devices::device::Memory;
use stasis_devices::generation;
use stasis_devices::virtio::ahead::Buffer;
use stasis_devices::virtio::block::{NotMoved, Outcome, Request};
use stasis_devices::virtio::chain::Bytes;
use stasis_devices::virtio::late::Late;
use stasis_devices::virtio::net::Card;
use stasis_devices::virtio::{Outward, Work};
use stasis_memory::GuestMemory;
use stasis_vgic::VcpuMask;

/// A request of a disk's that was taken, and the vCPUs that must be kicked.
#[derive(Debug)]
pub struct Taken {
    /// The request; None if what the driver had put into the queue was none.
    pub request: Option<Request>,
    /// The vCPUs that must be kicked.
    pub kick: VcpuMask,
}

impl Guest {
    /// Returns whether a virtio device may have requests that it can do now.
    pub fn has_work(&self) -> bool {
        self.devices.virtio.has_work()
    }

    /// Returns whether a disk may have requests that it can do now.
    pub fn has_disk_work(&self) -> bool {
        self.devices.virtio.has_disk_work()
    }

    /// Looks at the next request of a disk, or of another virtio device, before that does a step,
    /// while some of the RAM is still to be loaded. Asks for what is missing of what it needs, and
    /// returns whether anything is: what needs it stands still until it [goes on](Self::go_on).
    #[cold]
    pub fn await_missing(&mut self, ram: &mut impl GuestMemory, work: Work) -> bool {
        let memory = &Memory { base: *self.record.ram_base, ram };
        self.devices.virtio.await_missing(work, memory)
    }

    /// Makes virtio devices look again at the requests that have stood still, as some of the RAM
    /// has arrived.
    pub fn go_on(&mut self) {
        self.devices.virtio.go_on();
    }

    /// Returns whether a frame that has come for the card in `slot` must wait until some of the RAM
    /// has arrived. Asks for what is missing of what the card needs.
    #[cold]
    pub fn frame_must_wait(&self, ram: &mut impl GuestMemory, slot: u8) -> bool {
        let memory = &Memory { base: *self.record.ram_base, ram };
        self.devices.virtio.frame_must_wait(slot, memory)
    }

    /// Does the next step of a virtio device that is no disk. Returns the vCPUs that must be
    /// kicked; None if there is nothing to do.
    pub fn serve(
        &mut self,
        ram: &mut impl GuestMemory,
        outward: &mut impl Outward,
    ) -> Option<VcpuMask> {
        let memory = &mut Memory { base: *self.record.ram_base, ram };
        let slot = self.devices.virtio.serve(memory, outward)?;
        Some(self.update_line(Line::of(&self.devices.virtio, slot)))
    }

    /// Returns whether the guest has a terminal: a virtio console.
    pub fn has_terminal(&self) -> bool {
        self.devices.virtio.has_terminal()
    }

    /// Notes that something was typed at the guest's terminal: [`Guest::serve`] takes it.
    pub fn note_typed(&mut self) {
        self.devices.virtio.note_typed();
    }

    /// Returns the network cards.
    pub fn cards(&self) -> impl Iterator<Item = Card<'_>> {
        self.devices.virtio.cards()
    }

    /// Sets the links of all network cards up or down. Returns the vCPUs that must be kicked.
    pub fn set_links(&mut self, up: bool) -> VcpuMask {
        self.devices.virtio.set_links(up);
        self.update_lines()
    }

    /// Gives the card in `slot` a frame that has come for it. Without a buffer for it, the frame is
    /// lost; but if the RAM [lacks a frame](GuestMemory::lacks_frame) of memory then, the caller
    /// keeps it. Returns the vCPUs that must be kicked.
    pub fn receive_frame(
        &mut self,
        ram: &mut impl GuestMemory,
        slot: u8,
        frame: &[u8],
    ) -> VcpuMask {
        let memory = &mut Memory { base: *self.record.ram_base, ram };
        self.devices.virtio.receive(slot, memory, frame);
        self.update_line(Line::of(&self.devices.virtio, slot))
    }

    /// Makes the guest announce itself to its networks: after a resume. Returns the vCPUs that must
    /// be kicked.
    pub fn announce(&mut self) -> VcpuMask {
        self.devices.virtio.announce();
        self.update_lines()
    }

    /// Takes the first request of a disk that is not completed; None if there is none.
    pub fn disk_request(&mut self, ram: &mut impl GuestMemory) -> Option<Taken> {
        let memory = &Memory { base: *self.record.ram_base, ram };
        let (slot, request) = self.devices.virtio.disk_request(memory)?;
        let kick = self.update_line(Line::of(&self.devices.virtio, slot));
        Some(Taken { request, kick })
    }

    /// Does the next request of a disk, if it is small, and what was [read
    /// ahead](Self::begin_ahead) is enough for it, or it is a [late write](Self::begin_late).
    /// Returns the vCPUs that must be kicked; None if nothing was done.
    pub fn serve_small(&mut self, ram: &mut impl GuestMemory) -> Option<VcpuMask> {
        let memory = &mut Memory { base: *self.record.ram_base, ram };
        let slot = self.devices.virtio.serve_small(memory)?;
        Some(self.update_line(Line::of(&self.devices.virtio, slot)))
    }

    /// Returns a buffer for what is read ahead of a disk's request that is completed; None if there
    /// is none.
    pub fn begin_ahead(&mut self, request: &Request) -> Option<Buffer> {
        self.devices.virtio.begin_ahead(request)
    }

    /// Keeps what was read ahead of a disk's request. The caller has taken no request of the disk
    /// since.
    pub fn end_ahead(&mut self, request: &Request, buffer: Buffer) {
        self.devices.virtio.end_ahead(request, buffer);
    }

    /// Returns the place of late writes that [begin](Request::begins_late) with a disk's request;
    /// None if there is none.
    pub fn begin_late(&mut self, request: &Request) -> Option<Arc<Late>> {
        self.devices.virtio.begin_late(request)
    }

    /// Does a disk's request with which late writes have begun, and completes it. Returns the vCPUs
    /// that must be kicked; None if it was not done.
    pub fn disk_late(&mut self, ram: &mut impl GuestMemory, request: &Request) -> Option<VcpuMask> {
        let memory = &mut Memory { base: *self.record.ram_base, ram };
        let is_done = self.devices.virtio.disk_late(memory, request);
        is_done.then(|| self.update_line(Line::of(&self.devices.virtio, request.slot())))
    }

    /// Makes no late writes until they begin again: at the instant of a checkpoint, all that was
    /// completed is the volumes'.
    pub fn end_late(&self) {
        self.devices.virtio.end_late();
    }

    /// Returns the names of the volumes behind the disks.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.devices.virtio.volumes()
    }

    /// Copies the next bytes of `data` that a request writes to the disk.
    ///
    /// # Errors
    ///
    /// [`NotMoved`].
    pub fn disk_from_guest(
        &self,
        ram: &mut impl GuestMemory,
        request: &Request,
        data: &mut Bytes,
        into: &mut [u8],
    ) -> Result<(), NotMoved> {
        let memory = &Memory { base: *self.record.ram_base, ram };
        self.devices.virtio.disk_from_guest(memory, request, data, into)
    }

    /// Gives the guest the next bytes of `data` that a request reads from the disk.
    ///
    /// # Errors
    ///
    /// [`NotMoved`].
    pub fn disk_to_guest(
        &self,
        ram: &mut impl GuestMemory,
        request: &Request,
        data: &mut Bytes,
        from: &[u8],
    ) -> Result<(), NotMoved> {
        let memory = &mut Memory { base: *self.record.ram_base, ram };
        self.devices.virtio.disk_to_guest(memory, request, data, from)
    }

    /// Keeps a disk's request of which turns have done the first `done` bytes, and whose other
    /// `data` are still to be moved, unless the disk was reset meanwhile.
    pub fn disk_goes_on(&mut self, request: &Request, done: u64, data: Bytes) {
        self.devices.virtio.disk_goes_on(request, done, data);
    }

    /// Completes a disk's request, unless the disk was reset meanwhile. Returns the vCPUs that must
    /// be kicked.
    pub fn disk_done(
        &mut self,
        ram: &mut impl GuestMemory,
        request: &Request,
        outcome: Outcome,
    ) -> VcpuMask {
        let memory = &mut Memory { base: *self.record.ram_base, ram };
        self.devices.virtio.disk_done(memory, request, outcome);
        self.update_line(Line::of(&self.devices.virtio, request.slot()))
    }

    /// Returns whether the guest has a generation ID.
    pub fn has_generation(&self) -> bool {
        self.devices.generation.is_some()
    }

    /// Gives the guest a new generation ID, if it has one, and raises its interrupt: for a guest
    /// that was resumed or copied, before it runs. Returns the vCPUs that must be kicked.
    pub fn new_generation(&mut self, id: [u8; 16]) -> VcpuMask {
        let Some(record) = &mut self.devices.generation else { return VcpuMask::NONE };
        generation::renew(record, id);
        let line = Line::of(record, 0);
        self.update_line(line)
    }
}
