//! A checkpoint in words for a person: registers by the names of the manuals, interrupts as a
//! table.

use std::fmt::{self, Write};
use std::ops::Range;

use stasis_state::envelope::Scope;
use stasis_state::guest::GuestPowerState;
use stasis_state::{Checkpoint, GuestState, PAGE_SIZE, RecordType, warnings::warnings};

use super::interrupts::{self, Row};
use super::memory::ram;
use super::registers::{self, Register, Registers};
use super::source::Loaded;
use crate::report;

/// Returns everything that a checkpoint holds, except for the content of the memory.
pub fn show(loaded: &Loaded) -> Result<String, fmt::Error> {
    let state = &loaded.checkpoint.state;
    let mut out = String::new();
    for (title, text) in facts(loaded) {
        writeln!(out, "{title:<8} {text}")?;
    }
    let records = registers::all(state);
    for index in 0..state.vcpus.len() {
        writeln!(out, "\nvCPU {index}: {}", of_vcpu(state, index))?;
        for record in records.iter().filter(|record| is_of_vcpu(record, index)) {
            show_record(&mut out, record)?;
        }
    }
    writeln!(out)?;
    for record in records.iter().filter(|record| is_of_machine(record)) {
        show_record(&mut out, record)?;
    }
    show_interrupts(&mut out, state)?;
    Ok(out)
}

/// Returns what is said of a checkpoint before its registers: titles and texts. A text with an
/// empty title belongs to the title before it.
pub fn facts(loaded: &Loaded) -> Vec<(&'static str, String)> {
    let checkpoint = &loaded.checkpoint;
    let (state, stats) = (&checkpoint.state, checkpoint.stats);
    let mut facts =
        vec![("format", format!("{}, {} bytes", checkpoint.header.version(), stats.bytes))];
    if !checkpoint.skipped.is_empty() {
        facts.push(("", format!("without {}", checkpoint.skipped)));
    }
    let vcpus = state.vcpus.len();
    let plural = if vcpus == 1 { "" } else { "s" };
    facts.push(("guest", format!("{}, {vcpus} vCPU{plural}", loaded.guest())));
    match state.power_state() {
        GuestPowerState::On => {}
        GuestPowerState::Off => facts.push(("", "it has switched its machine off".to_owned())),
        GuestPowerState::Reset => {
            facts.push(("", "it has reset its machine, and has not started again".to_owned()));
        }
    }
    facts.push(("made", report::date(*state.clock.wall_time)));
    facts.extend(facts_of_memory(loaded));
    let (ticks, frequency) = (*state.clock.cntvct, *state.clock.cntfrq);
    // People read this, so whole milliseconds are enough.
    let milliseconds = u128::from(ticks) * 1000 / u128::from(frequency.max(1));
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    facts.push(("clock", format!("CNTVCT {ticks:#x} at {frequency} Hz: {seconds}.{rest:03} s")));
    let machine = state.machine().entries().map(|entry| entry.to_string()).collect::<Vec<_>>();
    let titles = std::iter::once("machine").chain(std::iter::repeat(""));
    facts.extend(titles.zip(machine));
    if state.machine.is_none() {
        let older = "as every guest's before format 1.6: the file does not say it";
        facts.push(("", older.to_owned()));
    }
    facts.extend(warnings(&state.records()).into_iter().map(|text| ("warning", text.to_string())));
    facts
}

/// Returns what is said of a checkpoint's memory, as [`facts`] does.
fn facts_of_memory(loaded: &Loaded) -> Vec<(&'static str, String)> {
    let stats = loaded.checkpoint.stats;
    let ram = ram(&loaded.checkpoint);
    let size = |range: &Range<u64>| report::size(range.end - range.start);
    let mut facts = vec![("memory", format!("{} at {:#x}", size(&ram), ram.start))];
    for (name, range) in shared(&loaded.checkpoint) {
        facts.push(("", format!("{} at {:#x}, shared as {name}", size(&range), range.start)));
    }
    let (stored, zero) = (stats.pages_with_content(), stats.pages_zero);
    let words = match stats.pages_word {
        0 => String::new(),
        words => format!("; {words} are one word over and over"),
    };
    facts.push(("", format!("{stored} pages of {PAGE_SIZE} bytes stored, {zero} zero{words}")));
    facts
}

/// Returns the regions that the guest shares: their names and their addresses.
pub fn shared(checkpoint: &Checkpoint) -> impl Iterator<Item = (String, Range<u64>)> {
    checkpoint.state.devices.shared.iter().flat_map(|shared| {
        let named = |(n, range)| (shared.shown_name(n).to_string(), range);
        shared.ranges().enumerate().map(named)
    })
}

/// Returns what a vCPU is doing, in words.
pub fn of_vcpu(state: &GuestState, index: usize) -> String {
    let vcpu = &state.vcpus[index];
    format!("{}, {}", power(*vcpu.power.state), pstate(*vcpu.core.pstate))
}

/// Returns whether a record is one of this vCPU's.
pub fn is_of_vcpu(record: &Registers, index: usize) -> bool {
    record.instance == index && record.kind.scope() == Scope::Vcpu
}

/// Returns whether a record is of the virtual GIC or a device, which all vCPUs have together.
pub fn is_of_machine(record: &Registers) -> bool {
    record.kind == RecordType::VgicDistributor || record.kind.is_device()
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
    let values = values(name, register);
    match &values[..] {
        [] => {
            return writeln!(out, "    {name:<20} {} elements as at reset", register.values.len());
        }
        [(name, value)] if register.values.len() == 1 => {
            return writeln!(out, "    {name:<20} {value}");
        }
        _ => {}
    }
    // A line has about a hundred characters.
    let per_line = (96 / (9 + 2 * register.width)).max(1);
    let values: Vec<_> = values.iter().map(|(name, value)| format!("{name:<4} {value}")).collect();
    for line in values.chunks(per_line) {
        writeln!(out, "    {}", line.join("  "))?;
    }
    Ok(())
}

/// Returns the name and the value of a register; of an array, those of each element that differs
/// from reset. X is shown whole.
pub fn values(name: &str, register: &Register) -> Vec<(String, String)> {
    if let [value] = register.values[..] {
        return vec![(name.to_owned(), register.digits(value))];
    }
    (0..register.values.len())
        .filter(|&i| name == "X" || register.values[i] != register.reset[i])
        .map(|i| (element(name, i), register.digits(register.values[i])))
        .collect()
}

/// Returns the name of an element of an array.
pub fn element(name: &str, index: usize) -> String {
    match name {
        "X" | "V" => format!("{name}{index}"),
        _ => format!("{name}[{index}]"),
    }
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
    let [intid, vcpu, enabled, pending, active, level, edge, priority, group, targets, source] =
        interrupt_cells(row);
    format!(
        "{intid:>5}  {vcpu:>4}  {enabled:<7}  {pending:<7}  {active:<6}  {level:<5}  {edge:<7}  {priority}      {group:<5}  {targets:<7}  {source}"
    )
}

/// Returns what stands in the columns of [`INTERRUPT_COLUMNS`] for an interrupt.
pub fn interrupt_cells(row: &Row) -> [String; 11] {
    let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
    let cpus = |mask: u8| {
        let cpus: Vec<_> = interrupts::mask(mask).iter().map(ToString::to_string).collect();
        if cpus.is_empty() { "-".to_owned() } else { cpus.join(",") }
    };
    let active = match (row.vcpu, row.holder) {
        (None, Some(holder)) => format!("on {holder}"),
        _ => yes(row.active),
    };
    let pending = (row.sources != 0).then(|| cpus(row.sources));
    let being_handled = row.active_source.map(|source| format!("{source} (active)"));
    let sources: Vec<_> = pending.into_iter().chain(being_handled).collect();
    [
        row.intid.to_string(),
        row.vcpu.map_or("-".to_owned(), |vcpu| vcpu.to_string()),
        yes(row.enabled),
        yes(row.pending),
        active,
        if row.level { "high" } else { "low" }.to_owned(),
        if row.edge { "edge" } else { "level" }.to_owned(),
        format!("{:#04x}", row.priority),
        row.group.to_string(),
        cpus(row.targets),
        if sources.is_empty() { "-".to_owned() } else { sources.join(", ") },
    ]
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
