//! The registers of a state as names and numbers, to show them, compare them, and print them for
//! programs.

use std::convert::Infallible;

use stasis_state::devices::{DeviceRecord, Visitor};
use stasis_state::register::{Descriptor, Record, VALUE_OFFSET};
use stasis_state::{GuestState, RecordType};

/// The registers of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The kind of the record.
    pub kind: RecordType,
    /// Index of the vCPU, if the record belongs to one.
    pub instance: usize,
    /// All registers, in the order of `docs/format.md`.
    pub registers: Vec<Register>,
}

/// A register with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The register's name in `docs/format.md`, in lower case.
    pub name: &'static str,
    /// Bytes of an element.
    pub width: usize,
    /// The values of its elements; a single one if it is no array.
    pub values: Vec<u128>,
    /// The values of its elements at reset.
    pub reset: Vec<u128>,
}

impl Register {
    /// Returns the register's name as `docs/format.md` has it.
    pub fn title(&self) -> String {
        self.name.to_uppercase()
    }

    /// Returns the value of an element with all its digits.
    pub fn digits(&self, value: u128) -> String {
        format!("{value:#0width$x}", width = 2 + 2 * self.width)
    }
}

/// Returns the registers of every record that a file has, in the order in which records are
/// written.
pub fn all(state: &GuestState) -> Vec<Registers> {
    let mut records = vec![of(0, &state.guest), of(0, &state.clock)];
    records.extend(state.power.iter().map(|power| of(0, power)));
    records.extend(state.lineage.iter().map(|lineage| of(0, lineage)));
    records.extend(state.machine.iter().map(|machine| of(0, &**machine)));
    records.push(of(0, &*state.distributor));
    for (index, vcpu) in state.vcpus.iter().enumerate() {
        records.extend([
            of(index, &vcpu.identity),
            of(index, &vcpu.power),
            of(index, &vcpu.core),
            of(index, &vcpu.system),
            of(index, &vcpu.fp),
            of(index, &vcpu.debug),
            of(index, &vcpu.cpu_interface),
        ]);
    }
    let Ok(()) = state.devices.records().visit(&mut Add(&mut records));
    records
}

/// A visitor that adds the registers of each record.
struct Add<'a>(&'a mut Vec<Registers>);

impl Visitor<'_> for Add<'_> {
    type Error = Infallible;

    fn record<R: DeviceRecord>(&mut self, record: &R) -> Result<(), Infallible> {
        if !record.is_absent() {
            self.0.push(of(0, record));
        }
        Ok(())
    }
}

/// Returns the registers of a record.
pub fn of<R: Record>(instance: usize, record: &R) -> Registers {
    let reset = R::reset();
    let registers = R::REGISTERS.iter().map(|register| Register {
        name: register.name,
        width: usize::from(register.shape.width),
        values: elements(register, record.as_bytes()),
        reset: elements(register, reset.as_bytes()),
    });
    Registers { kind: R::TYPE, instance, registers: registers.collect() }
}

fn elements(register: &Descriptor, record: &[u8]) -> Vec<u128> {
    let (width, count) = (usize::from(register.shape.width), usize::from(register.shape.count));
    let start = register.offset + VALUE_OFFSET;
    record[start..start + width * count].chunks(width).map(little_endian).collect()
}

fn little_endian(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use stasis_state::devices::Devices;

    use super::*;

    #[test]
    fn every_record_of_the_format_is_there() {
        let mut state = GuestState::reset(2);
        state.power = Some(Default::default());
        state.lineage = Some(Default::default());
        state.machine = Some(Default::default());
        state.devices = Devices::every();
        // At reset their records are absent.
        *state.devices.pl061.dir = 1;
        state.devices.virtio.device_id[0] = 4;
        let records = all(&state);
        for kind in RecordType::ALL {
            assert_eq!(
                records.iter().any(|record| record.kind == *kind),
                kind.has_registers(),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn values_have_the_digits_of_their_width() {
        let mut state = GuestState::reset(1);
        state.vcpus[0].fp.v[3] = [1, 2];
        let registers = of(0, &state.vcpus[0].fp).registers;
        assert_eq!(
            registers[0].digits(registers[0].values[3]),
            "0x00000000000000020000000000000001"
        );
        assert_eq!(registers[1].digits(5), "0x00000005");
        assert_ne!(registers[0].values, registers[0].reset);
    }
}
