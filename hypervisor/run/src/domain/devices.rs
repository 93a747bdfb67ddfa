//! The requests of a guest's virtio devices: steps of their own, each of which locks the guest.
//!
//! What a device can do by itself is done in its guest's own time: by a vCPU that is loaded, before
//! it enters its guest ([`Domain::serve_devices`]). A batch of steps is bounded, and the vCPU
//! enters between two batches, so that its core takes the interrupts that others wait for. What
//! needs a disk is done by the console's task, which is woken for it ([`take_disk_work`]) and works
//! while the guest goes on.
//!
//! While a guest's memory is still loaded, a device that needs some that is not there asks for it
//! and stands still until something has arrived ([`Resident::before_step`], [`Domain::arrive`]). So
//! does a frame that has come for one of the guest's cards.

use super::first_look::fill;
use super::host::RunningOn;
use super::lock::Unlocked;
use super::terminal::Terminal;
use super::{Domain, Resident, VcpuPlace};
use crate::gic::ThisCore;
use crate::{above, network, random, roster};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use stasis_arch::timer;
use stasis_cores::sync::LockGuard;
use stasis_devices::virtio::ahead::Buffer;
use stasis_devices::virtio::block::{NotMoved, Outcome, Request, Transfer, Turn};
use stasis_devices::virtio::chain::Bytes;
use stasis_devices::virtio::late::Late;
use stasis_devices::virtio::net::MAX_FRAME;
use stasis_devices::virtio::{Outward, Work};
use stasis_guest::{Guest, Whole};
use stasis_host::run_state::RunState;
use stasis_memory::GuestMemory;
use stasis_vgic::VcpuMask;

/// Most steps of a batch.
const BATCH: usize = 16;
/// Most requests of disks that are done at an exit, each of them of
/// [`SMALL`](stasis_devices::virtio::ahead::SMALL) bytes at most.
const AT_ONCE: usize = 4;

/// Whether a guest's disk may have requests. Written by any core, taken by the console's; released
/// and acquired with what the guest's lock protects anyway.
static DISK_WORK: AtomicBool = AtomicBool::new(false);

/// Returns whether a guest's disk may have requests, and forgets it. The caller looks at all guests
/// then.
pub fn take_disk_work() -> bool {
    DISK_WORK.swap(false, Ordering::Acquire)
}

/// Makes the console's task look at the disks of all guests.
pub fn announce_disk_work() {
    DISK_WORK.store(true, Ordering::Release);
    roster::wake_console();
}

/// What devices reach outside of their guest.
struct Machine<'a> {
    /// A frame that the card in a slot sends, by its length. A step sends one at the most.
    sent: Option<(u8, usize)>,
    /// Place of a frame; None as long as there was none: it would have to be cleared for each
    /// request of a disk.
    frame: Option<[u8; MAX_FRAME]>,
    terminal: &'a Terminal,
    /// Bytes of the text that is printed.
    printed: usize,
    /// Place of the text; None as long as there was none.
    text: Option<Box<[u8]>>,
}

impl<'a> Machine<'a> {
    /// Returns what devices of the guest with this terminal reach.
    fn none(terminal: &'a Terminal) -> Self {
        Self { sent: None, frame: None, terminal, printed: 0, text: None }
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.text.take() {
            self.terminal.put_back(place);
        }
    }
}

impl Outward for Machine<'_> {
    fn random(&mut self, into: &mut [u8]) -> bool {
        random::fill(into)
    }

    fn frame(&mut self, len: usize) -> &mut [u8] {
        &mut self.frame.get_or_insert([0; MAX_FRAME])[..len]
    }

    fn send(&mut self, slot: u8, len: usize) {
        self.sent = Some((slot, len));
    }

    fn text(&mut self, len: usize) -> &mut [u8] {
        let place = self.text.get_or_insert_with(|| self.terminal.take_place());
        &mut place[..len]
    }

    fn print(&mut self, len: usize) {
        self.printed = len;
    }

    fn typed(&mut self, into: &mut [u8]) -> usize {
        self.terminal.typed(into)
    }

    fn take_typed(&mut self, count: usize) {
        self.terminal.take_typed(count);
    }
}

/// The next step for the disks of a guest.
#[derive(Debug)]
pub enum DiskStep {
    /// No disk has a request, or the guest does not run.
    Nothing,
    /// A request was done.
    Done,
    /// The caller does a turn of this request, and [ends](Domain::end_disk_turn) it.
    Take(Request),
}

/// What became of a step.
enum Step {
    /// The step was done; there may be another one.
    Done,
    /// There is nothing to do, or nothing now, if there was.
    Idle,
    /// Only disks have requests.
    Disk,
}

impl Resident {
    /// Returns whether devices can work: the guest runs, and it does not lack a frame for what they
    /// write.
    pub(super) fn is_served(&self) -> bool {
        self.state == RunState::Running && !self.ram.lacks_frame()
    }

    /// Does what must be done before a step of a disk or of another device, as `work` says, under
    /// the same lock: while some of the guest's memory is missing, a request that needs what is not
    /// there stands still until something has arrived, and the loader is woken for it.
    fn before_step(&mut self, work: Work) {
        if self.ram.missing().is_some() {
            self.await_missing(work);
        }
    }

    #[cold]
    fn await_missing(&mut self, work: Work) {
        let (guest, ram) = self.parts();
        if guest.await_missing(ram, work) {
            roster::wake_console();
        }
    }

    /// Returns whether a frame that has come for the card in `slot` must wait until some of the
    /// guest's memory has arrived: then the loader is woken for what the card needs.
    pub(super) fn frame_must_wait(&mut self, slot: u8) -> bool {
        self.ram.missing().is_some() && self.card_lacks(slot)
    }

    #[cold]
    fn card_lacks(&mut self, slot: u8) -> bool {
        let (guest, ram) = self.parts();
        let must_wait = guest.frame_must_wait(ram, slot);
        if must_wait {
            roster::wake_console();
        }
        must_wait
    }

    /// Does some small requests of disks, reads of what was read ahead and late writes, for a vCPU
    /// that has made one: the guest [is served](Self::is_served). Returns the vCPUs that must be
    /// kicked. Where pages may move as they are written, it does nothing: a vCPU that goes on after
    /// a look would not see where they are. The turn of the vCPU ends when the counter reads
    /// `turn_ends`.
    pub(super) fn serve_small(&mut self, turn_ends: u64) -> VcpuMask {
        let mut kick = VcpuMask::NONE;
        self.before_step(Work::Disks);
        let (guest, ram) = self.parts();
        if ram.is_mapped() {
            return kick;
        }
        for _ in 0..AT_ONCE {
            let Some(more) = guest.serve_small(ram) else { break };
            kick.0 |= more.0;
            if !guest.has_disk_work() || timer::counter() >= turn_ends {
                break;
            }
        }
        kick
    }
}

impl Domain {
    /// Gives the guest the frames that wait for it, and does requests of its devices, for a vCPU
    /// that enters its guest next. If more are left, the vCPU leaves the guest at once, and serves
    /// them then.
    #[cold]
    pub(super) fn serve_devices(&self, _: &Unlocked, host: &mut RunningOn) {
        host.errands.outbox.has_work = false;
        let machine = &mut Machine::none(&self.terminal);
        for _ in 0..BATCH {
            if host.turn_is_over() {
                break;
            }
            // One of each, so that neither keeps the other waiting.
            let has_arrived = self.inbox.is_ready() && self.take_arrival();
            // The list registers are filled before the entry.
            let resident = self.resident.lock();
            match self.serve_device(resident, host.index, machine, |_| VcpuMask::NONE) {
                Step::Done => {}
                _ if has_arrived => {}
                Step::Idle => return,
                Step::Disk => return announce_disk_work(),
            }
        }
        self.news.announce();
        host.come_back();
    }

    /// Does a few requests of the guest's devices at an exit of the vCPU in `place`, on the core of
    /// `gic`, before all registers are saved, and no more when the counter reads `turn_ends`.
    /// Returns whether there may be more, as there are in memory that is shared page by page:
    /// nothing is done there.
    #[inline(never)]
    pub(super) fn serve_at_exit(
        &self,
        _: &Unlocked,
        place: &VcpuPlace,
        gic: &mut ThisCore,
        turn_ends: u64,
    ) -> bool {
        let machine = &mut Machine::none(&self.terminal);
        for _ in 0..AT_ONCE {
            let fill = |guest: &mut Guest| fill(guest, place.index, gic);
            // Whoever waits for the lock has all registers saved.
            let Some(resident) = self.resident.try_lock() else { break };
            // Such pages may move as a device writes them, and only the entry of a whole vCPU shows
            // where they are.
            if resident.ram.is_mapped() {
                break;
            }
            match self.serve_device(resident, place.index, machine, fill) {
                Step::Done if place.roster.must_decide() => break,
                Step::Done if timer::counter() >= turn_ends => break,
                Step::Done => {}
                Step::Idle => return false,
                Step::Disk => {
                    announce_disk_work();
                    return false;
                }
            }
        }
        true
    }

    /// Does the next step of the guest's devices, and kicks the vCPUs whose interrupts it has
    /// changed, and those that `fill` returns, which passes on to vCPU `index` what has changed for
    /// it; but not `index`.
    #[inline]
    fn serve_device(
        &self,
        mut resident: LockGuard<'_, Resident>,
        index: usize,
        machine: &mut Machine<'_>,
        fill: impl FnOnce(&mut Guest) -> VcpuMask,
    ) -> Step {
        if !resident.is_served() {
            // The guest is told when it can be served.
            return Step::Idle;
        }
        resident.before_step(Work::Others);
        let (guest, ram) = resident.parts();
        let Some(kick) = guest.serve(ram, machine) else {
            return if guest.has_disk_work() { Step::Disk } else { Step::Idle };
        };
        let kick = VcpuMask(kick.0 | fill(guest).0);
        let step = if guest.has_work() { Step::Done } else { Step::Idle };
        drop(resident);
        self.kick(kick.without(index));
        if let Some((slot, len)) = machine.sent.take()
            && let Some(frame) = &machine.frame
        {
            network::forward(self, slot, &frame[..len]);
        }
        if let Some(place) = machine.text.as_deref()
            && machine.printed > 0
        {
            above::get().print(self, &place[..machine.printed]);
            machine.printed = 0;
        }
        step
    }

    /// Takes the first request of the guest's disks that is not completed, or does it, if it is a
    /// small one that needs no disk. Panics if the caller has the guest parked.
    pub fn take_disk_request(&self) -> DiskStep {
        loop {
            let mut resident = self.resident.lock();
            if !resident.is_served() {
                return DiskStep::Nothing;
            }
            resident.before_step(Work::Disks);
            let (guest, ram) = resident.parts();
            if let Some(kick) = guest.serve_small(ram) {
                self.release(resident, kick);
                return DiskStep::Done;
            }
            let Some(taken) = guest.disk_request(ram) else { return DiskStep::Nothing };
            drop(resident);
            self.kick(taken.kick);
            if let Some(request) = taken.request {
                return DiskStep::Take(request);
            }
        }
    }

    /// Returns a buffer for what is read [ahead](Request::ahead) of a request that is completed;
    /// `None` if there is none. Panics if the caller has the guest parked.
    pub fn begin_ahead(&self, request: &Request) -> Option<Buffer> {
        self.resident.lock().guest.begin_ahead(request)
    }

    /// Keeps what was read [ahead](Request::ahead) of a request: the guest's next requests are done
    /// with it. Panics if the caller has the guest parked.
    pub fn end_ahead(&self, request: &Request, buffer: Buffer) {
        self.resident.lock().guest.end_ahead(request, buffer);
    }

    /// Returns the place of late writes that [begin](Request::begins_late) with a request; `None`
    /// if there is none. Panics if the caller has the guest parked.
    pub fn begin_late(&self, request: &Request) -> Option<Arc<Late>> {
        self.resident.lock().guest.begin_late(request)
    }

    /// Does a request with which late writes have begun, and completes it. Returns whether it did.
    /// Panics if the caller has the guest parked.
    pub fn write_late(&self, request: &Request) -> bool {
        let mut resident = self.resident.lock();
        // As any other request, it is done when there are frames.
        if resident.ram.lacks_frame() {
            return false;
        }
        let (guest, ram) = resident.parts();
        let Some(kick) = guest.disk_late(ram, request) else { return false };
        self.release(resident, kick);
        true
    }

    /// Ends a turn of a request, which has moved what `transfer` has: completes it, or keeps what
    /// is left of it. Panics if the caller has the guest parked.
    pub fn end_disk_turn(&self, transfer: DiskTransfer<'_>, turn: Turn) {
        let DiskTransfer { request, data, .. } = transfer;
        match turn {
            Turn::Ended(outcome) => self.complete_disk_request(request, outcome),
            Turn::Part(done) => self.resident.lock().guest.disk_goes_on(request, done, data),
            Turn::Starved => {}
        }
    }

    /// Completes a request.
    fn complete_disk_request(&self, request: &Request, outcome: Outcome) {
        let mut resident = self.resident.lock();
        let mut kick = VcpuMask::NONE;
        // A turn that lacks a frame is done again, from its beginning.
        if !resident.ram.lacks_frame() {
            let (guest, ram) = resident.parts();
            kick = guest.disk_done(ram, request, outcome);
        }
        self.release(resident, kick);
    }

    /// Releases the lock of the guest, to whose memory a device has written, and kicks `vcpus`. If
    /// pages have moved thereby, all vCPUs are kicked: one that polls a queue looks at where the
    /// page was, until some vCPU shows stage 2 where it is. So they are if there was no frame for
    /// one: the guest waits for it.
    pub(super) fn release(&self, resident: LockGuard<'_, Resident>, vcpus: VcpuMask) {
        let has_moved = resident.ram.has_unseen();
        drop(resident);
        match has_moved {
            true => self.kick_all(),
            false => self.kick(vcpus),
        }
    }

    /// Returns the names of the volumes behind the guest's disks. Panics if the caller has the
    /// guest parked.
    pub fn volumes(&self) -> Vec<String> {
        self.resident.lock().guest.volumes().map(String::from).collect()
    }

    /// Returns whether the guest has a volume behind a disk. Panics if the caller has the guest
    /// parked.
    pub fn has_volume(&self, volume: &str) -> bool {
        self.resident.lock().guest.volumes().any(|name| name == volume)
    }
}

/// Most bytes that are copied while a guest is locked: an SD card has pieces that are larger.
const LOCKED_COPY: usize = 64 << 10;

/// The guest's side of a request of a disk, which locks the guest for [`LOCKED_COPY`] at a time.
pub struct DiskTransfer<'a> {
    domain: &'a Domain,
    request: &'a Request,
    /// The data that are still to be copied.
    data: Bytes,
}

impl<'a> DiskTransfer<'a> {
    /// Returns that of a request's next turn, in which nothing was copied yet.
    pub fn new(domain: &'a Domain, request: &'a Request) -> Self {
        Self { domain, request, data: request.data() }
    }
}

impl Transfer for DiskTransfer<'_> {
    fn from_guest(&mut self, into: &mut [u8]) -> Result<(), NotMoved> {
        for into in into.chunks_mut(LOCKED_COPY) {
            let mut resident = self.domain.resident.lock();
            let (guest, ram) = resident.parts();
            guest.disk_from_guest(ram, self.request, &mut self.data, into)?;
        }
        Ok(())
    }

    fn to_guest(&mut self, from: &[u8]) -> Result<(), NotMoved> {
        for from in from.chunks(LOCKED_COPY) {
            let mut resident = self.domain.resident.lock();
            let (guest, ram) = resident.parts();
            let given = guest.disk_to_guest(ram, self.request, &mut self.data, from);
            self.domain.release(resident, VcpuMask::NONE);
            given?;
        }
        Ok(())
    }
}
