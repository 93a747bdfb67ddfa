//! To KVM and back.

use super::kernel::Kernel;
use super::*;
use crate::kvm::{Attribute, Line, Written, read, readable, write};
use crate::{Error, Unknown};

/// Returns what a kernel says after it was given this.
fn through_kvm(written: &Written, nr_cpus: usize) -> Vec<Attribute> {
    let mut kernel = Kernel::new(nr_cpus);
    written.attributes.iter().for_each(|&attribute| kernel.set(attribute));
    written.lines.iter().for_each(|&line| kernel.raise(line));
    let nr_irqs = written.attributes[0].value as u16;
    readable(nr_irqs, nr_cpus).into_iter().map(|attr| kernel.get(attr)).collect()
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
        let read = read(&through_kvm(&written, state.cpus.len())).unwrap();
        prop_assert_eq!(&read.vgic, &after(&state, &written.losses));
        // From here on, only lines that were high are told anew.
        let again = write(&read.vgic);
        prop_assert_eq!(&again.losses, &[]);
        prop_assert_eq!(&again.lines, &[]);
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
        if let Ok(read) = read(&list) {
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
    let read = read(&through_kvm(&written, 4)).unwrap();
    assert_eq!(*read.vgic.cpus[2].cc_pmr, 0xf0);
}

#[test]
fn an_active_interrupt_of_priority_0xa0_has_bit_20_in_kvms_apr() {
    let mut state = machine();
    activate(&mut state, 33, 0xa0, 1);
    assert_eq!(*state.cpus[1].cc_apr, [0, 0, 1 << 16, 0]);
    let written = write(&state);
    assert_eq!(value(&written.attributes, 2, 1 << 32 | 0xd0), Some(1 << 20));
    let read = read(&through_kvm(&written, 4)).unwrap();
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
    let read = read(&through_kvm(&written, 4)).unwrap();
    assert_eq!(*read.vgic.cpus[1].priv_active, 1 << 7);
    assert_eq!(read.vgic.cpus[1].sgi_active_src[7], 0);
    assert_eq!(read.vgic.cpus[1].sgi_src[7], 0b0101);
    assert!(read.unknowns.contains(&Unknown::ActiveSource { vcpu: 1, sgi: 7 }));
}

#[test]
fn kvm_gives_an_spi_to_its_first_target_whoever_holds_it() {
    let mut state = machine();
    state.distributor.spi_targets[8] = 0b0110;
    activate(&mut state, 40, 0xa0, 3);
    let written = write(&state);
    assert!(written.losses.contains(&Loss::Holder { intid: 40, holder: 3, becomes: 1 }));
    let read = read(&through_kvm(&written, 4)).unwrap();
    assert_eq!(read.vgic.holder(Interrupt::Shared { intid: 40 }), Some(1));
    assert!(read.unknowns.contains(&Unknown::Holder { intid: 40, assumed: 1 }));
}

#[test]
fn a_high_line_is_raised_rather_than_latched() {
    let mut state = machine();
    let spi = Interrupt::Shared { intid: 33 };
    let ppi = Interrupt::Private { vcpu: 2, intid: 27 };
    state.set_bit(Bits::Level, spi, true);
    state.set_bit(Bits::Level, ppi, true);
    let written = write(&state);
    assert_eq!(value(&written.attributes, 1, 0x204), Some(0));
    assert_eq!(written.lines, [Line(ppi), Line(spi)]);
    assert_eq!(Line(ppi).encoded(), 0x0202_001b);
    assert_eq!(Line(spi).encoded(), 0x0100_0021);
    // KVM shows a line and a latch as one.
    let read = read(&through_kvm(&written, 4)).unwrap();
    assert!(read.vgic.bit(Bits::Latch, spi) && !read.vgic.bit(Bits::Level, spi));
    assert!(read.unknowns.contains(&Unknown::Line { interrupt: spi }));
}

#[test]
fn iidr_comes_before_groups_and_delivery_is_enabled_last() {
    let mut state = machine();
    *state.distributor.ctlr = 1;
    let list = write(&state).attributes;
    let position = |offset| list.iter().position(|a| a.group == 1 && a.attr == offset).unwrap();
    assert!(position(0x008) < position(0x080));
    assert_eq!(list[position(0)].value, 0);
    let last = list.last().unwrap();
    assert_eq!((last.group, last.attr, last.value), (1, 0, 1));
    // Clear before set, configuration and targets before pending, pending before active.
    let order = [0x280, 0x820, 0x204, 0xf20, 0x304];
    assert!(order.map(position).is_sorted());
    let vcpu = list.iter().filter(|a| a.group == 2).map(|a| a.attr as u32);
    assert_eq!(vcpu.take(5).collect::<Vec<_>>(), [0x04, 0x08, 0x1c, 0xd0, 0x00]);
}

#[test]
fn a_list_that_lacks_something_is_refused_by_name() {
    let list = through_kvm(&write(&machine()), 4);
    for n in 0..list.len() {
        let mut list = list.clone();
        let Attribute { group, attr, .. } = list.remove(n);
        assert_eq!(read(&list), Err(Error::AttributeMissing { group, attr }));
    }
}

#[test]
fn an_attribute_that_is_there_twice_is_refused() {
    let mut list = through_kvm(&write(&machine()), 4);
    let Attribute { group, attr, .. } = list[20];
    list.push(list[20]);
    assert_eq!(read(&list), Err(Error::AttributeTwice { group, attr }));
}

#[test]
fn a_raw_priority_mask_is_no_attribute_of_kvms() {
    let mut list = through_kvm(&write(&machine()), 4);
    let pmr = list.iter_mut().find(|a| a.group == 2 && a.attr == 0x04).unwrap();
    pmr.value = 0xf0;
    assert!(matches!(read(&list), Err(Error::AttributeValue { attr: 4, value: 0xf0, .. })));
}
