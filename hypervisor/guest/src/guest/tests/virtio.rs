//! Accesses to virtio devices that are answered at once, beside those that any exit answers.

use super::*;
use crate::exit::{Syndrome, behind_aarch64};
use stasis_devices::virtio::Work;
use stasis_devices::virtio::fitting::Fitting;

/// Address of the first slot, and bytes of a slot.
const SLOTS: u64 = 0x0a00_0000;
const SLOT: u64 = 0x200;
/// Slots of a disk, of a source of random bytes, of a network card, and one that is empty.
const DISK: u64 = SLOTS;
const ENTROPY: u64 = SLOTS + SLOT;
const CARD: u64 = SLOTS + 2 * SLOT;
const EMPTY: u64 = SLOTS + 31 * SLOT;

/// Returns a guest with these devices, whose drivers have set up the first queues and have notified
/// none, and whose card has an interrupt.
fn with_devices() -> (Box<Guest>, Vec<Vcpu>, Core) {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let card = Fitting::Card { network: "lan", address: [2, 0, 0, 0, 0, 1] };
    let virtio = &[Fitting::Disk { volume: "data", sectors: 8 }, Fitting::Entropy, card][..];
    guest.equip(&Equipment { virtio, ..Equipment::default() });
    for slot in [DISK, ENTROPY, CARD] {
        // DriverFeaturesSel, DriverFeatures, Status, QueueNum, QueueReady.
        for (offset, value) in [(0x24, 1), (0x20, 1), (0x70, 0xf), (0x38, 8), (0x44, 1)] {
            vcpus[0].core.x[1] = value;
            exit(&mut guest, 0, &mut vcpus[0], abort(slot + offset, Width::Word, true), &mut core);
        }
    }
    let _ = guest.set_links(false);
    let _ = core.outbox.take();
    (guest, vcpus, core)
}

/// Returns what the vCPU makes of an access by X1, if it is answered at once.
fn at_once(guest: &mut Guest, vcpu: &mut Vcpu, access: PlainAccess) -> Option<OfVirtio> {
    let PlainAccess { write, width, ipa, .. } = access;
    let sas = u64::from(width.bytes().trailing_zeros());
    // A data abort whose syndrome describes the access, by X1, and a translation fault.
    let esr = 0x24 << 26 | ESR | 1 << 24 | sas << 22 | 1 << 16 | u64::from(write) << 6 | 4;
    let reached = virtio_access(Syndrome { esr, far: ipa, hpfar: ipa >> 12 << 4 })?;
    assert_eq!(reached, access);
    let answer = guest.virtio_at_once(&mut vcpu.core, reached);
    (*vcpu.core.pc, *vcpu.core.pstate) = behind_aarch64(*vcpu.core.pc, *vcpu.core.pstate);
    Some(answer)
}

#[test]
fn what_virtio_devices_answer_at_once_is_what_any_exit_answers() {
    let (mut lines, mut works) = (0, 0);
    for slot in [DISK, ENTROPY, CARD, EMPTY] {
        for (offset, value, write) in (0..SLOT).step_by(4).flat_map(|offset| {
            [0, 1, u64::MAX]
                .iter()
                .flat_map(move |value| [false, true].map(|write| (offset, *value, write)))
        }) {
            let what = format!("{slot:#x} {offset:#x} {value:#x} {write}");
            let access = PlainAccess { write, width: Width::Word, ipa: slot + offset, register: 1 };
            let (mut guest, mut vcpus, _) = with_devices();
            let (mut expected, mut by_exit, mut core) = with_devices();
            for vcpu in [&mut vcpus[0], &mut by_exit[0]] {
                vcpu.core.x[1] = value;
            }
            let before = guest.vgic.distributor().clone();
            let answer = at_once(&mut guest, &mut vcpus[0], access).expect(&what);
            exit(
                &mut expected,
                0,
                &mut by_exit[0],
                abort(access.ipa, Width::Word, write),
                &mut core,
            );
            assert!(vcpus[0].core == by_exit[0].core, "{what}");
            let records = |guest: &Guest| guest.devices.records().virtio.clone();
            assert!(records(&guest) == records(&expected), "{what}");
            assert!(guest.vgic.distributor() == expected.vgic.distributor(), "{what}");
            assert_eq!(core.outbox.take().has_work, answer.work.is_some(), "{what}");
            lines += usize::from(*guest.vgic.distributor() != before);
            works += usize::from(answer.work.is_some());
        }
    }
    assert!(lines > 0 && works > 0, "{lines} lines have changed, {works} times there was work");
}

#[test]
fn a_notification_says_whether_disks_alone_have_requests_and_says_it_once() {
    let (mut guest, mut vcpus, _) = with_devices();
    let mut notify = |slot| {
        vcpus[0].core.x[1] = 0;
        let ipa = slot + 0x50;
        let access = PlainAccess { write: true, width: Width::Word, ipa, register: 1 };
        at_once(&mut guest, &mut vcpus[0], access).unwrap().work
    };
    assert_eq!((notify(DISK), notify(DISK)), (Some(Work::Disks), None));
    assert_eq!((notify(ENTROPY), notify(ENTROPY)), (Some(Work::Others), None));
    assert_eq!((notify(CARD), notify(EMPTY)), (None, None), "what comes waits for its buffers");
}

#[test]
fn accesses_beside_the_slots_and_of_other_widths_are_not_answered_at_once() {
    let (mut guest, mut vcpus, _) = with_devices();
    for (ipa, width) in [
        (SLOTS - 4, Width::Word),
        (SLOTS + 32 * SLOT, Width::Word),
        (DISK + 0x101, Width::Byte),
        (DISK + 0x100, Width::Doubleword),
        (DISK + 0x102, Width::Word),
    ] {
        let access = PlainAccess { write: false, width, ipa, register: 1 };
        assert_eq!(at_once(&mut guest, &mut vcpus[0], access), None, "{ipa:#x} {width:?}");
    }
}
