//! To KVM and back.

use super::kernel::Kernel;
use super::*;
use crate::kvm::{Attribute, Line, Written, read, readable, write};
use crate::{Error, Unknown};

/// Returns a kernel that was given this.
fn kernel(written: &Written, nr_cpus: usize) -> Kernel {
    let mut kernel = Kernel::new(nr_cpus);
    written.attributes.iter().for_each(|&attribute| kernel.set(attribute));
    written.lines.iter().for_each(|&line| kernel.raise(line));
    kernel
}

/// Returns what a kernel says after it was given this.
fn through_kvm(written: &Written, nr_cpus: usize) -> Vec<Attribute> {
    let mut kernel = kernel(written, nr_cpus);
    let nr_irqs = written.attributes[0].value as u16;
    readable(nr_irqs, nr_cpus).into_iter().map(|attr| kernel.get(attr)).collect()
}

/// Returns the interrupts whose lines are high.
fn high(state: &Vgic) -> Vec<Interrupt> {
    state.interrupts().filter(|&interrupt| state.bit(Bits::Level, interrupt)).collect()
}

/// Returns the vCPU that must get an interrupt, or has it active. The lines of the timers are no
/// state of the GIC's there.
fn receiver(state: &Vgic, interrupt: Interrupt) -> Option<usize> {
    let (vcpu, intid) = match interrupt {
        Interrupt::Private { vcpu, intid } => (Some(vcpu), intid),
        Interrupt::Shared { intid } => (None, intid),
    };
    let of_timer = vcpu.is_some() && [27, 30].contains(&intid);
    let line = !state.bit(Bits::Edge, interrupt) && !of_timer;
    let pending = state.bit(Bits::Latch, interrupt)
        || state.bit(Bits::Level, interrupt) && line
        || vcpu.is_some_and(|vcpu| intid < 16 && state.cpus[vcpu].sgi_src[intid] != 0);
    let comes = pending && state.bit(Bits::Enable, interrupt) && *state.distributor.ctlr & 1 != 0;
    let target = || vcpu.unwrap_or_else(|| state.likely_holder(intid));
    state.holder(interrupt).or_else(|| comes.then(target))
}

fn value(attributes: &[Attribute], group: u32, attr: u64) -> Option<u64> {
    let found = attributes.iter().rev().find(|a| a.group == group && a.attr == attr);
    found.map(|attribute| attribute.value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_comes_back_from_kvm_is_the_state_with_its_losses(state in any_state()) {
        let written = write(&state);
        let mut expected = after(&state, &written.losses);
        let read = read(&through_kvm(&written, state.cpus.len()), &high(&expected)).unwrap();
        if state.cpus.len() == 1 {
            let spis = expected.nr_irqs() - 32;
            expected.distributor.spi_targets[..spis].fill(1);
        }
        for unknown in &read.unknowns {
            if let Unknown::Holder { intid, assumed } = *unknown {
                expected.set_holder(intid, Some(assumed));
            }
        }
        prop_assert_eq!(&read.vgic, &expected);
    }

    #[test]
    fn each_interrupt_that_is_pending_or_active_is_queued_for_the_vcpu_that_must_have_it(state in any_state()) {
        let written = write(&state);
        let mut kernel = kernel(&written, state.cpus.len());
        let state = after(&state, &written.losses);
        for interrupt in state.interrupts() {
            let expected = receiver(&state, interrupt);
            prop_assert_eq!(kernel.queued(interrupt), expected, "{}", interrupt);
        }
    }

    #[test]
    fn any_list_of_attributes_is_read_or_refused(
        state in any_state(),
        at in any::<prop::sample::Index>(),
        change in any::<Option<u64>>(),
    ) {
        let mut list = through_kvm(&write(&state), state.cpus.len());
        let at = at.index(list.len());
        match change {
            Some(value) => list[at].value = value,
            None => { list.remove(at); }
        }
        if let Ok(read) = read(&list, &[]) {
            check(&read.vgic);
        }
    }
}

#[test]
fn a_priority_mask_of_0xf0_is_0x1e_for_kvm() {
    let mut state = machine();
    *state.cpus[2].cc_pmr = 0xf0;
    let written = write(&state);
    assert_eq!(value(&written.attributes, 2, 2 << 32 | 0x04), Some(0x1e));
    let read = read(&through_kvm(&written, 4), &[]).unwrap();
    assert_eq!(*read.vgic.cpus[2].cc_pmr, 0xf0);
}

#[test]
fn an_active_interrupt_of_priority_0xa0_has_bit_20_in_kvms_apr() {
    let mut state = machine();
    activate(&mut state, 33, 0xa0, 1);
    assert_eq!(*state.cpus[1].cc_apr, [0, 0, 1 << 16, 0]);
    let written = write(&state);
    assert_eq!(value(&written.attributes, 2, 1 << 32 | 0xd0), Some(1 << 20));
    let read = read(&through_kvm(&written, 4), &[]).unwrap();
    assert_eq!(*read.vgic.cpus[1].cc_apr, [0, 0, 1 << 16, 0]);
}

#[test]
fn kvm_forgets_that_an_active_sgi_came_from_vcpu_3() {
    let mut state = machine();
    *state.cpus[1].priv_active = 1 << 7;
    state.cpus[1].sgi_active_src[7] = 3;
    state.cpus[1].sgi_src[7] = 0b0101;
    let written = write(&state);
    assert!(written.losses.contains(&Loss::ActiveSource { vcpu: 1, sgi: 7, from: 3 }));
    let read = read(&through_kvm(&written, 4), &[]).unwrap();
    assert_eq!(*read.vgic.cpus[1].priv_active, 1 << 7);
    assert_eq!(read.vgic.cpus[1].sgi_active_src[7], 0);
    assert_eq!(read.vgic.cpus[1].sgi_src[7], 0b0101);
    assert!(read.unknowns.contains(&Unknown::ActiveSource { vcpu: 1, sgi: 7 }));
}

#[test]
fn an_spi_stays_with_the_vcpu_that_holds_it_whoever_its_targets_are() {
    let mut state = machine();
    state.distributor.spi_targets[8] = 0b0110;
    activate(&mut state, 40, 0xa0, 3);
    let spi = Interrupt::Shared { intid: 40 };
    state.set_bit(Bits::Latch, spi, true);
    let written = write(&state);
    let mut kernel = kernel(&written, 4);
    assert_eq!(kernel.queued(spi), Some(3));
    assert_eq!(kernel.get((1, 0x828)).value, 0b0110);
    // KVM does not say who holds it.
    let read = read(&through_kvm(&written, 4), &[]).unwrap();
    assert_eq!(read.vgic.holder(spi), Some(1));
    assert!(read.unknowns.contains(&Unknown::Holder { intid: 40, assumed: 1 }));
}

#[test]
fn pending_sgis_and_latches_are_delivered() {
    let mut state = machine();
    *state.distributor.ctlr = 1;
    state.cpus[1].sgi_src[2] = 0b0001;
    let (sgi, spi) = (Interrupt::Private { vcpu: 1, intid: 2 }, Interrupt::Shared { intid: 50 });
    state.set_bit(Bits::Enable, spi, true);
    state.set_bit(Bits::Latch, spi, true);
    state.distributor.spi_targets[50 - 32] = 0b1000;
    let mut kernel = kernel(&write(&state), 4);
    assert_eq!((kernel.queued(sgi), kernel.queued(spi)), (Some(1), Some(3)));

    *state.distributor.ctlr = 0;
    assert!(write(&state).losses.contains(&Loss::NeverDelivered));
}

#[test]
fn a_high_line_is_raised_rather_than_latched_and_a_timers_is_kvms() {
    let mut state = machine();
    let spi = Interrupt::Shared { intid: 33 };
    let ppi = Interrupt::Private { vcpu: 2, intid: 20 };
    let timers = [27, 30].map(|intid| Interrupt::Private { vcpu: 2, intid });
    for line in [spi, ppi, timers[0], timers[1]] {
        state.set_bit(Bits::Level, line, true);
    }
    let written = write(&state);
    assert_eq!(value(&written.attributes, 1, 0x204), Some(0));
    assert_eq!(written.lines, [Line(ppi), Line(spi)]);
    assert_eq!(Line(ppi).encoded(), 0x0202_0014);
    assert_eq!(Line(spi).encoded(), 0x0100_0021);
    // KVM shows a line and a latch as one.
    let attributes = through_kvm(&written, 4);
    assert!(read(&attributes, &[]).unwrap().vgic.bit(Bits::Latch, spi));
    let vgic = read(&attributes, &high(&state)).unwrap().vgic;
    assert!(!vgic.bit(Bits::Latch, spi) && vgic.bit(Bits::Level, spi));
    assert!(vgic.bit(Bits::Level, timers[0]));
}

#[test]
fn the_targets_of_one_vcpus_interrupts_read_as_zero() {
    let mut state = state(Shape { nr_irqs: 64, nr_cpus: 1, prio_bits: 5 }, &[]);
    state.distributor.spi_targets[8] = 1;
    state.set_holder(40, Some(0));
    let written = write(&state);
    assert_eq!(kernel(&written, 1).get((1, 0x828)).value, 0);
    assert_eq!(kernel(&written, 1).queued(Interrupt::Shared { intid: 40 }), Some(0));
    assert_eq!(read(&through_kvm(&written, 1), &[]).unwrap().vgic.targets(40), 1);
}

#[test]
fn a_latch_under_a_high_line_is_a_loss() {
    let mut state = machine();
    let spi = Interrupt::Shared { intid: 33 };
    state.set_bit(Bits::Level, spi, true);
    state.set_bit(Bits::Latch, spi, true);
    assert!(write(&state).losses.contains(&Loss::Latch { interrupt: spi }));
}

#[test]
fn what_decides_comes_before_what_is_pending_and_delivery_is_on_by_then() {
    let mut state = machine();
    *state.distributor.ctlr = 1;
    let list = write(&state).attributes;
    assert_eq!((list[0].group, list[0].value), (3, 288));
    let position = |offset| list.iter().position(|a| a.group == 1 && a.attr == offset).unwrap();
    let order = [0x008, 0x080, 0x820, 0x000, 0x104, 0x304, 0x204, 0xf20];
    assert!(order.map(position).is_sorted());
    assert_eq!(list[position(0)].value, 1);
    let vcpu = list.iter().filter(|a| a.group == 2).map(|a| a.attr as u32);
    assert_eq!(vcpu.take(5).collect::<Vec<_>>(), [0x04, 0x08, 0x1c, 0xd0, 0x00]);
}

#[test]
fn a_gic_of_1020_interrupts_has_992_with_kvm() {
    let mut state = state(Shape { nr_irqs: 1020, nr_cpus: 2, prio_bits: 5 }, &[]);
    state.set_holder(1010, Some(1));
    let written = write(&state);
    assert_eq!(written.attributes[0].value, 992);
    assert!(written.losses.contains(&Loss::Interrupts { found: 1020, becomes: 992 }));
    assert_eq!(read(&through_kvm(&written, 2), &[]).unwrap().vgic.nr_irqs(), 992);
}

#[test]
fn a_list_that_lacks_something_is_refused_by_name() {
    let list = through_kvm(&write(&machine()), 4);
    for n in 0..list.len() {
        let mut list = list.clone();
        let Attribute { group, attr, .. } = list.remove(n);
        assert_eq!(read(&list, &[]), Err(Error::AttributeMissing { group, attr }));
    }
}

#[test]
fn an_attribute_that_is_there_twice_is_refused() {
    let mut list = through_kvm(&write(&machine()), 4);
    let Attribute { group, attr, .. } = list[20];
    list.push(list[20]);
    assert_eq!(read(&list, &[]), Err(Error::AttributeTwice { group, attr }));
}

#[test]
fn a_raw_priority_mask_is_no_attribute_of_kvms() {
    let mut list = through_kvm(&write(&machine()), 4);
    let pmr = list.iter_mut().find(|a| a.group == 2 && a.attr == 0x04).unwrap();
    pmr.value = 0xf0;
    assert!(matches!(read(&list, &[]), Err(Error::AttributeValue { attr: 4, value: 0xf0, .. })));
}
