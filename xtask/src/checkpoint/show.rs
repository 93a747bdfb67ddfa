//! A checkpoint in words: every register by the name that `docs/format.md` gives it.

use std::fmt::{self, Write};

use stasis_state::register::{Descriptor, Record, VALUE_OFFSET};
use stasis_state::{Checkpoint, PAGE_SIZE};

use crate::report;

/// All that a checkpoint holds, but for the memory's content.
pub fn show(checkpoint: &Checkpoint) -> Result<String, fmt::Error> {
    let Checkpoint { header, state, stats, skipped } = checkpoint;
    let records = state.records();
    let mut out = String::new();
    let name = String::from_utf8_lossy(&state.guest.name.value);
    writeln!(out, "format version  {}", header.version())?;
    writeln!(out, "guest           {}", name.trim_end_matches('\0'))?;
    writeln!(out, "made            {}", report::date(*state.clock.wall_time))?;
    writeln!(
        out,
        "memory          {} pages of {PAGE_SIZE} bytes stored, {} zero",
        stats.pages_stored, stats.pages_zero
    )?;
    if *skipped > 0 {
        writeln!(out, "not understood  {skipped} optional records")?;
    }
    show_record(&mut out, 0, records.guest)?;
    show_record(&mut out, 0, records.clock)?;
    show_record(&mut out, 0, records.distributor)?;
    for (index, vcpu) in records.vcpus.iter().enumerate() {
        show_record(&mut out, index, vcpu.identity)?;
        show_record(&mut out, index, vcpu.power)?;
        show_record(&mut out, index, vcpu.core)?;
        show_record(&mut out, index, vcpu.system)?;
        show_record(&mut out, index, vcpu.fp)?;
        show_record(&mut out, index, vcpu.debug)?;
        show_record(&mut out, index, vcpu.cpu_interface)?;
    }
    show_record(&mut out, 0, records.pl011)?;
    show_record(&mut out, 0, records.pl031)?;
    Ok(out)
}

fn show_record<R: Record>(out: &mut String, instance: usize, record: &R) -> fmt::Result {
    writeln!(out, "\n{:?} {instance}", R::TYPE)?;
    let reset = R::reset();
    for register in R::REGISTERS {
        show_register(out, register, record.as_bytes(), reset.as_bytes())?;
    }
    Ok(())
}

/// A register's value; of an array, the elements that are not as at reset.
fn show_register(
    out: &mut String,
    register: &Descriptor,
    record: &[u8],
    reset: &[u8],
) -> fmt::Result {
    let (width, count) = (usize::from(register.shape.width), usize::from(register.shape.count));
    let start = register.offset + VALUE_OFFSET;
    let elements = |bytes: &'_ [u8]| -> Vec<u128> {
        let value = &bytes[start..start + width * count];
        value.chunks(width).map(little_endian).collect()
    };
    let digits = width * 2;
    let (values, reset) = (elements(record), elements(reset));
    write!(out, "    {:<16}", register.name)?;
    if let [value] = values[..] {
        return writeln!(out, "{value:#0w$x}", w = digits + 2);
    }
    let changed: Vec<_> =
        values.iter().enumerate().filter(|(i, value)| reset[*i] != **value).collect();
    if changed.is_empty() {
        return writeln!(out, "{count} elements as at reset");
    }
    for (index, value) in changed {
        write!(out, "[{index}]={value:#0w$x} ", w = digits + 2)?;
    }
    writeln!(out)
}

fn little_endian(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_state::vgic::CpuInterface;

    #[test]
    fn registers_have_their_names_and_arrays_only_what_is_not_at_reset() {
        let mut record = CpuInterface::default();
        *record.cc_pmr = 0xf0;
        record.cc_apr[2] = 1;
        let mut out = String::new();
        show_record(&mut out, 3, &record).unwrap();
        assert!(out.contains("VgicCpu 3"), "{out}");
        assert!(out.contains("    cc_pmr          0xf0\n"), "{out}");
        assert!(out.contains("    cc_apr          [2]=0x00000001 \n"), "{out}");
        assert!(out.contains("    priv_prio       32 elements as at reset\n"), "{out}");
    }
}
