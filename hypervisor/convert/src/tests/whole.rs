//! Whole guests to QEMU's sections and back, in what QEMU 10.0 has written of `-M
//! virt,gic-version=2 -cpu cortex-a57 -m 64M -nic none`, without its memory.

use stasis_state::device::{PL011_FIFO, Watchdog};
use stasis_state::guest::{GuestPower, GuestPowerState};
use stasis_state::timer::{settle, settle_lines};
use stasis_state::vcpu::{PSTATE_IS_AARCH32, sysreg};
use stasis_state::{GuestState, VcpuState};

use super::*;
use crate::Error;
use crate::qemu::read::{Origin, read};
use crate::qemu::whole::{RAM_BASE, Written, write};
use crate::qemu::{Cpu, Part, Sections};
use crate::sysreg::Sysreg;

/// What QEMU has written.
pub(super) const BASE: &[u8] = include_bytes!("virt-10.0-a57.base");

/// Registers that this QEMU's Cortex-A57 has, and that keep all of their bits here.
fn free(register: &Sysreg) -> bool {
    let is_pair = |name: &str, most: u16| {
        register.name.starts_with(name) && register.encoding >> 3 & 0xf < most
    };
    let system = register.encoding >> 14 == 3
        && !["fpexc32_el2", "cntv_ctl_el0", "cntp_ctl_el0"].contains(&register.name);
    system || is_pair("dbgb", 6) || is_pair("dbgw", 4)
}

/// Returns a guest with one vCPU, made of these bytes.
pub(super) fn guest(bytes: &[u8], words: &[u64]) -> GuestState {
    let mut state = GuestState::reset(1);
    let vgic = crate::sample::state(Shape { nr_irqs: 288, nr_cpus: 1, prio_bits: 5 }, bytes);
    *state.guest.ram_base = RAM_BASE;
    *state.guest.ram_size = 64 << 20;
    state.machine = Some(Box::new(state.machine()));
    (*state.clock.cntfrq, *state.clock.cntvct) = (62_500_000, words[0] >> 8);
    *state.distributor = vgic.distributor;
    let mut words = words.iter().copied().cycle();
    let mut word = || words.next().unwrap();
    let [vcpu] = &mut state.vcpus[..] else { panic!("one vCPU") };
    vcpu.cpu_interface = vgic.cpus[0].clone();
    *vcpu.identity.midr_el1 = Cpu::named("cortex-a57").unwrap().midr;
    vcpu.core.x.fill_with(&mut word);
    *vcpu.core.pc = word();
    *vcpu.core.pstate = 0x6000_03c0 | [0, 4, 5][word() as usize % 3];
    vcpu.fp.v.iter_mut().flatten().for_each(|half| *half = word());
    (*vcpu.fp.fpsr, *vcpu.fp.fpcr) = (word() as u32 & 0x9f, word() as u32 & 0x07f7_9f00);
    Sysreg::all().filter(free).for_each(|register| register.set(vcpu, word()));
    (*vcpu.system.cntv_ctl_el0, *vcpu.system.cntp_ctl_el0) = (word() & 3, word() & 3);
    for special in [&mut *vcpu.system.sp_el0, &mut *vcpu.system.sp_el1, &mut *vcpu.system.elr_el1] {
        *special = word();
    }
    *vcpu.system.spsr_el1 = word();
    *vcpu.debug.os_lock = word() & 1;
    let uart = &mut state.devices.pl011;
    (*uart.lcr_h, *uart.cr, *uart.imsc) = (0x70, word() as u32 & 0xffff, word() as u32 & 0x7ff);
    *uart.rx_count = (word() as usize % (PL011_FIFO + 1)) as u8;
    for n in 0..usize::from(*uart.rx_count) {
        uart.rx_fifo[n] = word() as u16 & 0xfff;
    }
    *uart.ris = if *uart.rx_count > 0 { 0x10 } else { 0 } | word() as u32 & 0x7ef;
    (*state.devices.pl031.offset, *state.devices.pl031.mr) = (word() as u32, word() as u32);
    let gpio = &mut state.devices.pl061;
    (*gpio.dir, *gpio.is, *gpio.ie, *gpio.iev) = (word() as u8, word() as u8, word() as u8, 8);
    (*gpio.data, *gpio.edges) = (word() as u8 & *gpio.dir, word() as u8 & !*gpio.is);
    let (now, vcpu) = (*state.clock.cntvct, &mut state.vcpus[0]);
    settle(&mut vcpu.system, now);
    settle_lines(&mut vcpu.cpu_interface, &vcpu.system, now);
    state
}

/// Returns a guest with one vCPU and little in it.
pub(super) fn plain() -> GuestState {
    guest(&[], &[1 << 20])
}

fn to_qemu(state: &GuestState) -> Result<(Vec<u8>, Written), Error> {
    let mut stream = BASE.to_vec();
    let sections = Sections::find(&stream)?;
    let written = write(state, &[], &mut stream, &sections, Backend::Tcg)?;
    Ok((stream, written))
}

fn from_qemu(stream: &[u8]) -> Result<crate::qemu::read::Read, Error> {
    let (mut bytes, mut base) = (stream.to_vec(), BASE.to_vec());
    let (sections, fresh) = (Sections::find(&bytes)?, Sections::find(&base)?);
    let cpu = Cpu::named("cortex-a57")?;
    read(
        &mut Part { bytes: &mut bytes, sections: &sections },
        &mut Part { bytes: &mut base, sections: &fresh },
        Origin::Tcg(&cpu),
        &|_| Some(0),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_comes_back_from_qemu_is_the_guest_with_its_losses(
        bytes in vec(any::<u8>(), 0..1500),
        words in vec(any::<u64>(), 1..150),
    ) {
        let state = guest(&bytes, &words);
        let (stream, written) = to_qemu(&state).unwrap();
        let mut back = from_qemu(&stream).unwrap();
        let mut expected = Vgic::from(&state);
        written.losses.iter().for_each(|loss| loss.apply(&mut expected));
        prop_assert_eq!(&Vgic::from(&back.state), &expected);
        // The GIC is compared, and the identity is QEMU's.
        let mut was = state;
        for state in [&mut was, &mut back.state] {
            // The caller says what the machine is, with what is behind its devices.
            state.machine = None;
            *state.distributor = Default::default();
            state.vcpus[0].cpu_interface = Default::default();
            state.vcpus[0].identity = Default::default();
        }
        *back.state.guest.ram_size = 64 << 20;
        prop_assert_eq!(&was, &back.state);
        prop_assert!(back.left_behind.is_empty());
    }

    #[test]
    fn any_damage_to_a_machine_is_survived(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut stream = BASE.to_vec();
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        if cut {
            stream.truncate(end.index(stream.len()));
        }
        if let Err(error) = from_qemu(&stream) {
            let line = error.to_string();
            prop_assert!(line.lines().count() == 1, "{line}");
        }
        if let Ok(sections) = Sections::find(&stream) {
            let _ = write(&plain(), &[], &mut stream, &sections, Backend::Tcg);
            let _ = write(&plain(), &[], &mut stream, &sections, Backend::Kvm);
        }
    }
}

fn refused(change: impl Fn(&mut GuestState)) -> String {
    let mut state = plain();
    change(&mut state);
    to_qemu(&state).unwrap_err().to_string()
}

#[test]
fn what_qemu_does_not_have_is_refused_by_its_name() {
    let off = |state: &mut GuestState| state.power = GuestPower::of(GuestPowerState::Off);
    assert_eq!(refused(off), Error::NotOn.to_string());
    let watchdog = |state: &mut GuestState| state.devices.watchdog = Some(Watchdog::default());
    assert!(refused(watchdog).contains("DEVICE_WATCHDOG"));
    let device = |state: &mut GuestState| {
        let mut machine = state.machine();
        machine.base[4] += 0x1000;
        state.machine = Some(Box::new(machine));
    };
    assert!(refused(device).contains("0x9001000"), "{}", refused(device));
    assert_eq!(
        refused(|state| *state.vcpus[0].power.serror_pending = 1),
        Error::SError.to_string()
    );
    assert_eq!(refused(|state| *state.devices.pl061.key_until = 1), Error::PowerKey.to_string());
    assert!(refused(|state| *state.guest.ram_base = 0).contains("RAM begins at 0x0"));
    assert!(refused(|state| *state.clock.cntfrq = 54_000_000).contains("54000000 Hz"));
    assert!(refused(|state| *state.clock.cntfrq = 50_000_000).contains("62500000 Hz"));
    assert!(refused(|state| *state.clock.cntvct = 1 << 62).contains("0x4000000000000000"));
    assert!(
        refused(|state| *state.vcpus[0].identity.midr_el1 = 0x414f_d0b1).contains("0x414fd0b1")
    );
    let aarch32 = |state: &mut GuestState| *state.vcpus[0].core.pstate |= PSTATE_IS_AARCH32;
    assert_eq!(refused(aarch32), Error::AArch32.to_string());
    let breakpoint = |state: &mut GuestState| state.vcpus[0].debug.dbgbcr[9] = 1;
    assert_eq!(refused(breakpoint), "dbgbcr is 0x1, and QEMU's CPU has no such register");
    assert!(
        refused(|state| state.vcpus.push(VcpuState::default()))
            .contains("the stream's machine has 1 CPUs")
    );
}

/// Returns the offset of the first byte of the value of a register in the list of the base.
fn listed(stream: &[u8], encoding: u16) -> usize {
    let id = (0x6030_0000_0013_0000 | u64::from(encoding)).to_be_bytes();
    let index = stream.windows(8).position(|bytes| bytes == id).unwrap();
    // The values follow the ids, of which this QEMU has so many.
    index + 274 * 8
}

#[test]
fn what_stasis_does_not_have_is_refused_by_its_name() {
    let mut stream = BASE.to_vec();
    // PMCNTENSET_EL0: a counter of the PMU counts.
    let at = listed(&stream, sysreg(3, 3, 9, 12, 1));
    stream[at + 7] = 1;
    assert_eq!(from_qemu(&stream), Err(Error::Pmu { vcpu: 0 }));
    let mut stream = BASE.to_vec();
    // L2ACTLR_EL1, which only this CPU has.
    let at = listed(&stream, sysreg(3, 1, 15, 0, 0));
    let (id, neutral) = (0x6030_0000_0013_cf80, u64::from(stream[at + 7]));
    stream[at + 7] ^= 1;
    let found = neutral ^ 1;
    assert_eq!(from_qemu(&stream), Err(Error::NotNeutral { vcpu: 0, id, found, neutral }));

    let mut stream = BASE.to_vec();
    let at = listed(&stream, sysreg(3, 0, 0, 7, 0));
    stream[at + 7] ^= 1;
    assert_eq!(from_qemu(&stream), Err(Error::OtherMachine), "another CPU");

    let name = |stream: &mut Vec<u8>, from: &[u8], to: &[u8]| {
        while let Some(at) = stream.windows(from.len()).position(|bytes| bytes == from) {
            stream[at..at + to.len()].copy_from_slice(to);
        }
    };
    let mut stream = BASE.to_vec();
    name(&mut stream, b"gpio-key", b"usb-disk");
    let error = Error::UnknownDevice { name: "usb-disk".into() };
    assert_eq!(from_qemu(&stream), Err(error));
    let mut stream = BASE.to_vec();
    name(&mut stream, b"read_fifo", b"read_lifo");
    let (section, field) = ("pl011".into(), "read_fifo".into());
    assert_eq!(from_qemu(&stream), Err(Error::FieldMissing { section, field }));
}

#[test]
fn a_stream_of_the_other_accelerator_is_refused_in_both_directions() {
    let by = |by, name| Error::OtherBackend { by, name };
    let (mut stream, mut base) = (BASE.to_vec(), BASE.to_vec());
    let sections = Sections::find(&base).unwrap();
    let error = by("QEMU itself", "tcg");
    assert_eq!(write(&plain(), &[], &mut base, &sections, Backend::Kvm), Err(error.clone()));
    let mut parts = [&mut stream, &mut base].map(|bytes| Part { bytes, sections: &sections });
    let [part, fresh] = &mut parts;
    assert_eq!(
        read(part, fresh, Origin::Kvm { cntfrq: 62_500_000 }, &|_| Some(0)).unwrap_err(),
        error
    );

    // A KVM lists the comparison value of the virtual timer by this id.
    let mut stream = BASE.to_vec();
    let ours = (0x6030_0000_0013_0000 | u64::from(sysreg(3, 3, 14, 3, 2))).to_be_bytes();
    let at = stream.windows(8).position(|bytes| bytes == ours).unwrap();
    stream[at..at + 8].copy_from_slice(&0x6030_0000_0013_df02_u64.to_be_bytes());
    let error = by("a KVM", "kvm");
    assert_eq!(from_qemu(&stream), Err(error.clone()));
    assert_eq!(write(&plain(), &[], &mut stream, &sections, Backend::Tcg), Err(error));
}

#[test]
fn a_cpu_that_waits_is_told_of_its_interrupt() {
    let mut state = plain();
    *state.distributor = Vgic::new(288, 1).distributor;
    *state.distributor.ctlr = 1;
    let cpu = &mut state.vcpus[0].cpu_interface;
    *cpu = Default::default();
    (*cpu.cc_ctlr, *cpu.cc_pmr, *cpu.priv_enable) = (1, 0xf0, 1 << 27);
    let lines = |state: &GuestState| {
        let (mut stream, _) = to_qemu(state).unwrap();
        let sections = Sections::find(&stream).unwrap();
        let section = sections.get("cpu_common", 0).unwrap();
        stream.drain(section.contents.clone()).collect::<Vec<u8>>()
    };
    (*state.vcpus[0].system.cntv_ctl_el0, *state.vcpus[0].system.cntv_cval_el0) = (1, 0);
    assert_eq!(lines(&state), [0, 0, 0, 0, 0, 0, 0, 2]);
    *state.vcpus[0].system.cntv_ctl_el0 = 3;
    assert_eq!(lines(&state), [0; 8]);
    (*state.vcpus[0].system.cntv_ctl_el0, *state.vcpus[0].cpu_interface.cc_ctlr) = (1, 9);
    assert_eq!(lines(&state), [0, 0, 0, 0, 0, 0, 0, 0x10], "group 0 with FIQEn is an FIQ");
}
