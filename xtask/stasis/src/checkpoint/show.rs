//! A checkpoint in words for a person: registers by the names of the manuals, interrupts as a table.

use std::fmt::{self, Write};

use stasis_state::guest::GuestPowerState;
use stasis_state::{GuestState, PAGE_SIZE, RecordType, warnings::warnings};

use super::interrupts::{self, Row};
use super::memory::ram;
use super::registers::{self, Register, Registers};
use super::source::Loaded;
use crate::report;

/// Returns everything that a checkpoint holds, except for the content of the memory.
pub fn show(loaded: &Loaded) -> Result<String, fmt::Error> {
    let checkpoint = &loaded.checkpoint;
    let (state, stats) = (&checkpoint.state, checkpoint.stats);
    let mut out = String::new();
    writeln!(out, "format   {}, {} bytes", checkpoint.header.version(), stats.bytes)?;
    if !checkpoint.skipped.is_empty() {
        writeln!(out, "         without {}", checkpoint.skipped)?;
    }
    let vcpus = state.vcpus.len();
    let plural = if vcpus == 1 { "" } else { "s" };
    writeln!(out, "guest    {}, {vcpus} vCPU{plural}", loaded.guest())?;
    match state.power_state() {
        GuestPowerState::On => {}
        GuestPowerState::Off => writeln!(out, "         it has switched its machine off")?,
        GuestPowerState::Reset => {
            writeln!(out, "         it has reset its machine, and has not started again")?
        }
    }
    writeln!(out, "made     {}", report::date(*state.clock.wall_time))?;
    let ram = ram(checkpoint);
    let size = report::size(ram.end - ram.start);
    writeln!(out, "memory   {size} at {:#x}", ram.start)?;
    let regions = state.devices.shared.iter().flat_map(|shared| {
        shared.ranges().enumerate().map(|(n, range)| (shared.shown_name(n), range))
    });
    for (name, range) in regions {
        let size = report::size(range.end - range.start);
        writeln!(out, "         {size} at {:#x}, shared as {name}", range.start)?;
    }
    let (stored, zero) = (stats.pages_with_content(), stats.pages_zero);
    write!(out, "         {stored} pages of {PAGE_SIZE} bytes stored, {zero} zero")?;
    match stats.pages_word {
        0 => writeln!(out)?,
        words => writeln!(out, "; {words} are one word over and over")?,
    }
    let (ticks, frequency) = (*state.clock.cntvct, *state.clock.cntfrq);
    // People read this, so whole milliseconds are enough.
    let milliseconds = u128::from(ticks) * 1000 / u128::from(frequency.max(1));
    writeln!(
        out,
        "clock    CNTVCT {ticks:#x} at {frequency} Hz: {}.{:03} s",
        milliseconds / 1000,
        milliseconds % 1000
    )?;
    let mut title = "machine";
    for entry in state.machine().entries() {
        writeln!(out, "{title:<8} {entry}")?;
        title = "";
    }
    if state.machine.is_none() {
        writeln!(out, "         as every guest's before format 1.6: the file does not say it")?;
    }
    for warning in warnings(&state.records()) {
        writeln!(out, "warning  {warning}")?;
    }
    let records = registers::all(state);
    for (index, vcpu) in state.vcpus.iter().enumerate() {
        writeln!(
            out,
            "\nvCPU {index}: {}, {}",
            power(*vcpu.power.state),
            pstate(*vcpu.core.pstate)
        )?;
        let is_own = |record: &&Registers| {
            record.instance == index && record.kind.scope() == stasis_state::envelope::Scope::Vcpu
        };
        for record in records.iter().filter(is_own) {
            show_record(&mut out, record)?;
        }
    }
    writeln!(out)?;
    for record in &records {
        if record.kind == RecordType::VgicDistributor || record.kind.is_device() {
            show_record(&mut out, record)?;
        }
    }
    show_interrupts(&mut out, state)?;
    Ok(out)
}

/// Returns the name of a vCPU's PSCI state.
fn power(state: u8) -> &'static str {
    match state {
        0 => "on",
        1 => "off",
        2 => "about to be entered",
        _ => "suspended",
    }
}

/// Returns a PSTATE in words; its layout is that of SPSR_EL2 (DDI 0487, C5.2.19).
fn pstate(value: u64) -> String {
    let mode = match value & 0x1f {
        0x0 => "EL0t",
        0x4 => "EL1t",
        0x5 => "EL1h",
        _ => "AArch32 User",
    };
    let masks = [(9, 'D'), (8, 'A'), (7, 'I'), (6, 'F')];
    let masked: String =
        masks.iter().filter(|(bit, _)| value >> bit & 1 != 0).map(|(_, letter)| letter).collect();
    let flags = [(31, 'N'), (30, 'Z'), (29, 'C'), (28, 'V')];
    let set: String =
        flags.iter().filter(|(bit, _)| value >> bit & 1 != 0).map(|(_, letter)| letter).collect();
    let or_none = |letters: String| if letters.is_empty() { "-".to_owned() } else { letters };
    format!("{mode}, masked {}, flags {}", or_none(masked), or_none(set))
}

/// Returns the manual's name of a register, for which the format may have a name of its own.
pub fn manual_name(kind: RecordType, name: &str) -> String {
    let name = name.to_uppercase();
    match (kind, name.as_str()) {
        (RecordType::VgicDistributor, "CTLR" | "IIDR") => format!("GICD_{name}"),
        (RecordType::VgicCpu, _) if name.starts_with("CC_") => name.replacen("CC", "GICC", 1),
        (RecordType::DevicePl011, "RX_FIFO" | "RX_COUNT") => format!("UART {name}"),
        (RecordType::DevicePl011, _) => format!("UART{name}"),
        (RecordType::DevicePl031, "OFFSET") => format!("RTC {name}"),
        (RecordType::DevicePl031, _) => format!("RTC{name}"),
        (RecordType::VcpuPower, _) => format!("PSCI {name}"),
        _ => name,
    }
}

/// Returns whether the table of interrupts shows all of the register.
pub fn is_in_table(kind: RecordType, name: &str) -> bool {
    let prefixes: &[&str] = match kind {
        RecordType::VgicDistributor => &["spi_"],
        RecordType::VgicCpu => &["priv_", "sgi_"],
        _ => &[],
    };
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn show_record(out: &mut String, record: &Registers) -> fmt::Result {
    for register in record.registers.iter().filter(|r| !is_in_table(record.kind, r.name)) {
        show_register(out, &manual_name(record.kind, register.name), register)?;
    }
    Ok(())
}

/// Writes the value of a register; of an array, only the elements that differ from reset.
fn show_register(out: &mut String, name: &str, register: &Register) -> fmt::Result {
    if let [value] = register.values[..] {
        return writeln!(out, "    {name:<20} {}", register.digits(value));
    }
    let changed: Vec<_> = (0..register.values.len())
        .filter(|&i| name == "X" || register.values[i] != register.reset[i])
        .map(|i| {
            let name = match name {
                "X" | "V" => format!("{name}{i}"),
                _ => format!("{name}[{i}]"),
            };
            format!("{name:<4} {}", register.digits(register.values[i]))
        })
        .collect();
    if changed.is_empty() {
        return writeln!(out, "    {name:<20} {} elements as at reset", register.values.len());
    }
    // A line has about a hundred characters.
    let per_line = (96 / (9 + 2 * register.width)).max(1);
    for line in changed.chunks(per_line) {
        writeln!(out, "    {}", line.join("  "))?;
    }
    Ok(())
}

/// The heads of the columns of [`interrupt_row`].
pub const INTERRUPT_COLUMNS: &str =
    "INTID  VCPU  ENABLED  PENDING  ACTIVE  LEVEL  TRIGGER  PRIORITY  GROUP  TARGET   SOURCE";

fn show_interrupts(out: &mut String, state: &GuestState) -> fmt::Result {
    let rows = interrupts::all(state);
    let used: Vec<_> = rows.iter().filter(|row| row.is_in_use()).collect();
    writeln!(
        out,
        "\n{} interrupts are enabled, pending, active or high; of {}",
        used.len(),
        rows.len()
    )?;
    if !used.is_empty() {
        writeln!(out, "    {INTERRUPT_COLUMNS}")?;
    }
    for row in used {
        writeln!(out, "    {}", interrupt_row(row))?;
    }
    Ok(())
}

/// Returns the line of an interrupt in the table.
pub fn interrupt_row(row: &Row) -> String {
    let yes = |is: bool| if is { "yes" } else { "-" };
    let cpus = |mask: u8| {
        let cpus: Vec<_> = interrupts::mask(mask).iter().map(ToString::to_string).collect();
        if cpus.is_empty() { "-".to_owned() } else { cpus.join(",") }
    };
    let active = match (row.vcpu, row.holder) {
        (None, Some(holder)) => format!("on {holder}"),
        _ => yes(row.active).to_owned(),
    };
    let vcpu = row.vcpu.map_or("-".to_owned(), |vcpu| vcpu.to_string());
    let pending = (row.sources != 0).then(|| cpus(row.sources));
    let being_handled = row.active_source.map(|source| format!("{source} (active)"));
    let sources: Vec<_> = pending.into_iter().chain(being_handled).collect();
    let source = if sources.is_empty() { "-".to_owned() } else { sources.join(", ") };
    format!(
        "{:>5}  {vcpu:>4}  {:<7}  {:<7}  {active:<6}  {:<5}  {:<7}  {:#04x}      {:<5}  {:<7}  {source}",
        row.intid,
        yes(row.enabled),
        yes(row.pending),
        if row.level { "high" } else { "low" },
        if row.edge { "edge" } else { "level" },
        row.priority,
        row.group,
        cpus(row.targets),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_state::vgic::CpuInterface;

    #[test]
    fn registers_have_the_manuals_names_and_arrays_only_what_is_not_at_reset() {
        let mut record = CpuInterface::default();
        *record.cc_pmr = 0xf0;
        record.cc_apr[2] = 1;
        let mut out = String::new();
        show_record(&mut out, &registers::of(3, &record)).unwrap();
        assert!(out.contains("    GICC_PMR             0xf0\n"), "{out}");
        assert!(out.contains("    GICC_APR[2] 0x00000001\n"), "{out}");
        assert!(!out.contains("PRIV"), "{out}");
    }

    #[test]
    fn pstate_is_said_by_its_letters() {
        assert_eq!(pstate(0x3c5), "EL1h, masked DAIF, flags -");
        assert_eq!(pstate(0x6000_0080), "EL0t, masked I, flags ZC");
    }

    #[test]
    fn an_interrupts_row_stands_below_its_columns() {
        let mut state = GuestState::reset(2);
        *state.distributor.nr_irqs = 64;
        state.distributor.spi_enable[0] = 2;
        state.distributor.spi_active[0] = 2;
        state.distributor.spi_active_cpu[1] = 1;
        state.distributor.spi_prio[1] = 0xa0;
        state.distributor.spi_targets[1] = 3;
        state.vcpus[1].cpu_interface.sgi_src[4] = 1;
        let mut out = String::new();
        show_interrupts(&mut out, &state).unwrap();
        let rows: Vec<_> = out.lines().skip(3).collect();
        assert_eq!(
            rows,
            [
                "        4     1  yes      yes      -       low    edge     0x00      0      1        0",
                "       33     -  yes      -        on 1    low    level    0xa0      0      0,1      -",
            ]
        );
    }
}
