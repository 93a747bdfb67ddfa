//! Whole guests to QEMU with `-accel kvm` and back, in what QEMU 10.0 has written on Debian's
//! kernels of `-M virt,gic-version=2 -cpu host,pmu=off -nic none`, without its memory.

use stasis_state::vcpu::{Identity, sysreg};

use super::whole::{BASE as TCG, guest, plain};
use super::*;
use crate::qemu::cpus::check_backend;
use crate::qemu::read::{Origin, Read, read};
use crate::qemu::whole::{Written, write};
use crate::qemu::{Cpu, Part, Sections};
use crate::{Error, Loss, Unknown};

/// What Linux 6.12 and 6.1 have on a Cortex-A72.
const NEW: &[u8] = include_bytes!("virt-10.0-kvm-6.12.base");
const OLD: &[u8] = include_bytes!("virt-10.0-kvm-6.1.base");
const OF_KVM: Error = Error::OtherBackend { by: "a KVM", name: "kvm" };
const OF_TCG: Error = Error::OtherBackend { by: "QEMU itself", name: "tcg" };
const CNTFRQ: u64 = 62_500_000;

fn to_qemu(state: &GuestState, base: &[u8]) -> Result<(Vec<u8>, Written), Error> {
    let mut stream = base.to_vec();
    let sections = Sections::find(&stream)?;
    let written = write(state, &[], &mut stream, &sections, Backend::Kvm)?;
    Ok((stream, written))
}

fn from(stream: &[u8], base: &[u8], origin: Origin<'_>) -> Result<Read, Error> {
    let (mut bytes, mut base) = (stream.to_vec(), base.to_vec());
    let (sections, fresh) = (Sections::find(&bytes)?, Sections::find(&base)?);
    let mut stream = Part { bytes: &mut bytes, sections: &sections };
    read(&mut stream, &mut Part { bytes: &mut base, sections: &fresh }, origin, &|_| Some(0))
}

fn from_qemu(stream: &[u8], base: &[u8]) -> Result<Read, Error> {
    from(stream, base, Origin::Kvm { cntfrq: CNTFRQ })
}

/// Registers in the list of [`NEW`]. Their values follow their ids.
const NEW_REGISTERS: usize = 184;

/// Writes the value of a register in the list of the only CPU of a stream like [`NEW`].
fn set_listed(stream: &mut [u8], encoding: u16, value: u64) {
    let id = (0x6030_0000_0013_0000 | u64::from(encoding)).to_be_bytes();
    let at = stream.windows(8).position(|bytes| bytes == id).unwrap();
    stream[at + NEW_REGISTERS * 8..][..8].copy_from_slice(&value.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_comes_back_from_qemu_with_kvm_is_the_guest_with_its_losses(
        bytes in vec(any::<u8>(), 0..1500),
        words in vec(any::<u64>(), 1..150),
        old in any::<bool>(),
    ) {
        let mut was = guest(&bytes, &words);
        let base = if old { OLD } else { NEW };
        if old {
            // One that is on is refused.
            *was.vcpus[0].system.cntp_ctl_el0 &= !1;
        }
        let (stream, written) = to_qemu(&was, base).unwrap();
        let back = from_qemu(&stream, base).unwrap();
        let mut expected = Vgic::settled(&was);
        written.losses.iter().for_each(|loss| loss.apply(&mut expected));
        let physical = written.losses.iter().any(|loss| matches!(loss, Loss::PhysicalTimer { .. }));
        prop_assert!(old || !physical);
        if physical {
            (*was.vcpus[0].system.cntp_ctl_el0, *was.vcpus[0].system.cntp_cval_el0) = (0, 0);
        }
        prop_assert_eq!(back.unknowns.contains(&Unknown::PhysicalTimer { vcpu: 0 }), old);
        let mut is = back.state;
        // A timer's line is high, whatever else made its interrupt pending.
        let lines = *Vgic::settled(&was).cpus[0].priv_level & (1 << 27 | 1 << 30);
        *expected.cpus[0].priv_level |= lines;
        *expected.cpus[0].priv_latch &= !lines;
        prop_assert_eq!(Vgic::from(&is), expected);
        for state in [&mut was, &mut is] {
            state.machine = None;
            *state.distributor = Default::default();
            state.vcpus[0].cpu_interface = Default::default();
            state.vcpus[0].identity = Default::default();
        }
        *is.guest.ram_size = 64 << 20;
        prop_assert_eq!(&was, &is);
    }

    #[test]
    fn any_damage_to_a_machine_with_kvm_is_survived(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        old in any::<bool>(),
    ) {
        let base = if old { OLD } else { NEW };
        let mut stream = base.to_vec();
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        if let Err(error) = from_qemu(&stream, base) {
            let line = error.to_string();
            prop_assert!(line.lines().count() == 1, "{line}");
        }
        let _ = to_qemu(&plain(), &stream);
    }
}

#[test]
fn streams_of_the_two_accelerators_do_not_cross() {
    let a72 = Cpu::named("cortex-a72").unwrap();
    for base in [NEW, OLD] {
        let sections = Sections::find(base).unwrap();
        let mut bytes = base.to_vec();
        let mut part = Part { bytes: &mut bytes, sections: &sections };
        assert_eq!(check_backend(&mut part, Backend::Kvm), Ok(()));
        assert_eq!(from(base, base, Origin::Tcg(&a72)), Err(OF_KVM));
        assert_eq!(from_qemu(base, TCG), Err(OF_TCG), "the base is TCG's");
        let to_tcg = write(&plain(), &[], &mut base.to_vec(), &sections, Backend::Tcg);
        assert_eq!(to_tcg, Err(OF_KVM));
    }
    assert_eq!(from_qemu(TCG, TCG), Err(OF_TCG));
    assert_eq!(to_qemu(&plain(), TCG).unwrap_err(), OF_TCG);
    assert_eq!(from_qemu(OLD, NEW), Err(Error::OtherMachine), "two kernels");
    assert_eq!(from_qemu(NEW, OLD), Err(Error::OtherMachine), "two kernels");
}

#[test]
fn a_physical_timer_that_is_on_goes_to_no_kernel_that_does_not_keep_it() {
    let mut state = plain();
    (*state.vcpus[0].system.cntp_ctl_el0, *state.vcpus[0].system.cntp_cval_el0) = (3, 1 << 40);
    assert_eq!(to_qemu(&state, OLD).unwrap_err(), Error::PhysicalTimer { vcpu: 0 });
    assert!(to_qemu(&state, NEW).is_ok());
    *state.vcpus[0].system.cntp_ctl_el0 = 2;
    let (_, written) = to_qemu(&state, OLD).unwrap();
    let lost = Loss::PhysicalTimer { vcpu: 0, ctl: 2, cval: 1 << 40 };
    assert!(written.losses.contains(&lost), "{:?}", written.losses);
}

#[test]
fn a_guest_that_waits_for_the_physical_counter_goes_on_from_it() {
    const PHYSICAL: u16 = sysreg(3, 3, 14, 0, 1);
    let mut state = plain();
    let cntvct = *state.clock.cntvct;
    let counter = |state: &GuestState, physical| {
        let (mut stream, _) = to_qemu(state, NEW).unwrap();
        set_listed(&mut stream, PHYSICAL, physical);
        from_qemu(&stream, NEW).map(|read| *read.state.clock.cntvct)
    };
    assert_eq!(counter(&state, cntvct + 5 * CNTFRQ), Ok(cntvct), "no timer is on");
    (*state.vcpus[0].system.cntp_ctl_el0, *state.vcpus[0].system.cntp_cval_el0) = (1, 1 << 40);
    assert_eq!(counter(&state, cntvct + CNTFRQ), Ok(cntvct + CNTFRQ));
    for physical in [cntvct + CNTFRQ + 1, cntvct - 1] {
        let two = Error::TwoCounters { vcpu: 0, physical, cntvct };
        assert_eq!(counter(&state, physical), Err(two));
    }
}

#[test]
fn a_counter_of_any_frequency_goes_to_a_kvm() {
    let mut state = plain();
    *state.clock.cntfrq = 54_000_000;
    let (stream, _) = to_qemu(&state, NEW).unwrap();
    let back = from(&stream, NEW, Origin::Kvm { cntfrq: 54_000_000 }).unwrap().state;
    assert_eq!((*back.clock.cntfrq, *back.clock.cntvct), (54_000_000, *state.clock.cntvct));
    *state.clock.cntfrq = 0;
    assert_eq!(to_qemu(&state, NEW).unwrap_err(), Error::Frequency { cntfrq: 0 });
}

#[test]
fn a_cpu_that_has_more_than_stasis_shows_is_refused() {
    let identity = |base| from_qemu(base, base).map(|read| read.state.vcpus[0].identity.clone());
    let Identity { midr_el1, dczid_el0, .. } = identity(OLD).unwrap();
    assert_eq!((*midr_el1, *dczid_el0), (0x410f_d083, 4));
    let mut base = NEW.to_vec();
    // ID_AA64ISAR2_EL1.
    set_listed(&mut base, sysreg(3, 0, 0, 6, 2), 1);
    let newer = Error::Newer { vcpu: 0, id: 0x6030_0000_0013_c032, found: 1 };
    assert_eq!(identity(&base[..]), Err(newer));
}
