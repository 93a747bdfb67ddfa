//! The page: its parts as templates. `maud` escapes each text that it is given.

use maud::{Markup, html};
use stasis_state::{PAGE_SIZE, RecordType};

use super::map::{Area, Cell, Map};
use super::owners::Owner;
use super::{Report, frame};
use crate::checkpoint::diff::{Change, Difference};
use crate::checkpoint::interrupts::{self, Row};
use crate::checkpoint::registers::{self, Registers};
use crate::checkpoint::show;
use crate::report;

/// Cells in a row of a map.
const COLUMNS: usize = 32;

/// Ranges of addresses that are listed at the most.
const MAX_RANGES: usize = 200;

/// Returns the whole page.
pub fn page(report: &Report) -> Markup {
    let guest = report.loaded.guest();
    let title = match &report.since {
        None => format!("{guest}: {}", frame::base(&report.loaded.name)),
        Some((old, _)) => {
            format!("{guest}: {} to {}", frame::base(old), frame::base(&report.loaded.name))
        }
    };
    frame::page(
        &title,
        &html! {
            (facts(report))
            (memory(report))
            @if let Some((_, difference)) = &report.since { (differences(difference)) }
            (vcpus(report))
            (interrupts(report))
            (devices(report))
        },
    )
}

fn facts(report: &Report) -> Markup {
    html! {
        section {
            h2 { "What it is" }
            dl {
                @for (title, text) in show::facts(&report.loaded) {
                    @if !title.is_empty() { dt { (title) } }
                    dd .warning[title == "warning"] { (text) }
                }
            }
        }
    }
}

fn differences(difference: &Difference) -> Markup {
    html! {
        section {
            h2 { "What differs" }
            p {
                (difference.registers.len()) " registers, "
                (difference.interrupts.len()) " interrupts, "
                (pages(difference.memory.len()))
            }
            @if !difference.registers.is_empty() { (changed_registers(&difference.registers)) }
            @if !difference.interrupts.is_empty() {
                details open {
                    summary { "Interrupts" }
                    (interrupt_table(difference.interrupts.iter().flat_map(|change| {
                        [("was", change.old.as_ref()), ("is", change.new.as_ref())]
                    }).filter_map(|(side, row)| Some((Some(side), row?)))))
                }
            }
            @if !difference.memory.is_empty() { (changed_ranges(difference)) }
        }
    }
}

fn changed_registers(changes: &[Change]) -> Markup {
    html! {
        @for group in changes.chunk_by(|a, b| (a.kind, a.instance) == (b.kind, b.instance)) {
            details open[group[0].kind == RecordType::VcpuCore] {
                summary { (group[0].record()) ": " (group.len()) }
                table .values {
                    @for change in group {
                        @let [old, new] = change.sides();
                        tr { th { (change.title()) } td { span .was { (old) } " " span .is { (new) } } }
                    }
                }
            }
        }
    }
}

fn changed_ranges(difference: &Difference) -> Markup {
    let count = difference.memory.ranges().count();
    html! {
        details {
            summary { "Ranges of memory: " (count) }
            table .values {
                @for range in difference.memory.ranges().take(MAX_RANGES) {
                    tr {
                        th { (format!("{:#x}..{:#x}", range.start, range.end)) }
                        td { (pages((range.end - range.start) / PAGE_SIZE as u64)) }
                    }
                }
            }
            @if count > MAX_RANGES {
                p { "and " (count - MAX_RANGES) " more, which `stasis checkpoint diff` lists" }
            }
        }
    }
}

fn memory(report: &Report) -> Markup {
    let Map { areas, changed_elsewhere } = &report.map;
    html! {
        section {
            h2 { "Memory" }
            @for area in areas { (area_maps(area, report.since.is_some())) }
            @if *changed_elsewhere > 0 {
                p { (pages(*changed_elsewhere)) " differ that only the older one has." }
            }
        }
    }
}

/// The maps of an area: of its content, of its owners where they are known, and of what has changed
/// if there are two checkpoints.
fn area_maps(area: &Area, two: bool) -> Markup {
    let total = area.total();
    let has_owners = total.owned.iter().any(|count| *count > 0);
    html! {
        h3 { (area.name) ": " (report::size(area.range.end - area.range.start)) " at " (format!("{:#x}", area.range.start)) }
        p .note { "A square is " (report::size(area.span)) ", a row " (report::size(area.span * COLUMNS as u64)) "." }
        .maps {
            figure {
                figcaption { "Content" }
                (grid(area, content_class, |cell| format!("{} zero, {} one word, {} other content", cell.zeros(), cell.words, cell.others)))
                ul .legend {
                    (key("zero", "zero", total.zeros()))
                    (key("word", "one word over and over", total.words))
                    (key("c4", "other content; paler where there is less", total.others))
                }
            }
            @if has_owners {
                figure {
                    figcaption { "Who has it" }
                    (grid(area, owner_class, owners_said))
                    ul .legend {
                        @for owner in Owner::ALL {
                            @if total.owned[owner as usize] > 0 {
                                (key(&class_of(owner), owner.name(), total.owned[owner as usize]))
                            }
                        }
                    }
                }
            }
            @if two {
                figure {
                    figcaption { "What has changed" }
                    (grid(area, changed_class, |cell| format!("{} of {} pages changed", cell.changed, cell.pages)))
                    ul .legend {
                        (key("zero", "as it was", total.pages - total.changed))
                        (key("d4", "changed; paler where less has", total.changed))
                        @if has_owners { @for owner in Owner::ALL {
                            @if total.owned_changed[owner as usize] > 0 {
                                li { "of " (owner.name()) ": " (pages(total.owned_changed[owner as usize])) }
                            }
                        } }
                    }
                }
            }
        }
    }
}

/// A line of a legend.
fn key(class: &str, text: &str, count: u64) -> Markup {
    html! {
        li { svg viewBox="0 0 1 1" aria-hidden="true" { rect .(class) width="1" height="1" {} } (text) ": " (pages(count)) }
    }
}

/// The cells of an area as squares, each with its addresses and a text. Neighbours of a row that
/// are alike are one.
fn grid(area: &Area, class: fn(&Cell) -> String, said: impl Fn(&Cell) -> String) -> Markup {
    let rows = area.cells.len().div_ceil(COLUMNS).max(1);
    let drawn: Vec<(String, String)> =
        area.cells.iter().map(|cell| (class(cell), said(cell))).collect();
    html! {
        svg .map viewBox=(format!("0 0 {COLUMNS} {rows}")) role="img" aria-label="a map of the memory, whose totals are below" {
            @for (row, line) in drawn.chunks(COLUMNS).enumerate() {
                @for (column, run) in runs(line) {
                    @let first = row * COLUMNS + column;
                    @let addresses = area.addresses(first).start..area.addresses(first + run.len() - 1).end;
                    rect .(run[0].0) x=(column) y=(row) width=(run.len()) height="1" {
                        title {
                            (format!("{:#x}..{:#x}: ", addresses.start, addresses.end)) (run[0].1)
                            @if run.len() > 1 { " in each square" }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the runs of cells that are alike, each with its first column.
fn runs(line: &[(String, String)]) -> impl Iterator<Item = (usize, &[(String, String)])> {
    line.chunk_by(|a, b| a == b).scan(0, |next, run| {
        let column = *next;
        *next += run.len();
        Some((column, run))
    })
}

/// Returns which quarter of the pages `part` is in, from 1 to 4.
fn quarter(part: u64, cell: &Cell) -> u64 {
    (part * 4).div_ceil(cell.pages.max(1)).clamp(1, 4)
}

fn content_class(cell: &Cell) -> String {
    match (cell.others, cell.words) {
        (0, 0) => "zero".to_owned(),
        (0, _) => "word".to_owned(),
        (others, _) => format!("c{}", quarter(others, cell)),
    }
}

fn changed_class(cell: &Cell) -> String {
    match cell.changed {
        0 => "zero".to_owned(),
        changed => format!("d{}", quarter(changed, cell)),
    }
}

fn owner_class(cell: &Cell) -> String {
    cell.owner().map_or_else(|| "zero".to_owned(), class_of)
}

fn class_of(owner: Owner) -> String {
    format!("o{}", owner as usize)
}

fn owners_said(cell: &Cell) -> String {
    let of = |owner: &Owner| (cell.owned[*owner as usize], owner.name());
    let known = Owner::ALL.iter().map(of).filter(|(count, _)| *count > 0);
    known.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

fn vcpus(report: &Report) -> Markup {
    let state = &report.loaded.checkpoint.state;
    let records = registers::all(state);
    html! {
        section {
            h2 { "vCPUs" }
            @for index in 0..state.vcpus.len() {
                h3 { "vCPU " (index) }
                p { (show::of_vcpu(state, index)) }
                @for function in report.functions.get(index).into_iter().flatten() {
                    p .function { (function) }
                }
                @for record in records.iter().filter(|record| show::is_of_vcpu(record, index)) {
                    (registers_of(record))
                }
            }
        }
    }
}

fn devices(report: &Report) -> Markup {
    let records = registers::all(&report.loaded.checkpoint.state);
    html! {
        section {
            h2 { "GIC and devices" }
            @for record in records.iter().filter(|record| show::is_of_machine(record)) {
                (registers_of(record))
            }
        }
    }
}

/// The registers of a record, folded in but for those that everybody looks at first.
fn registers_of(record: &Registers) -> Markup {
    let shown = record.registers.iter().filter(|r| !show::is_in_table(record.kind, r.name));
    html! {
        details open[record.kind == RecordType::VcpuCore] {
            summary { (record.kind.name()) }
            table .values {
                @for register in shown {
                    @let name = show::manual_name(record.kind, register.name);
                    @let values = show::values(&name, register);
                    @if values.is_empty() {
                        tr { th { (name) } td { (register.values.len()) " elements as at reset" } }
                    }
                    @for (name, value) in values { tr { th { (name) } td { (value) } } }
                }
            }
        }
    }
}

fn interrupts(report: &Report) -> Markup {
    let rows = interrupts::all(&report.loaded.checkpoint.state);
    let used: Vec<&Row> = rows.iter().filter(|row| row.is_in_use()).collect();
    html! {
        section {
            h2 { "Interrupts" }
            p { (used.len()) " are enabled, pending, active or high; of " (rows.len()) }
            @if !used.is_empty() { (interrupt_table(used.into_iter().map(|row| (None, row)))) }
        }
    }
}

/// A table of interrupts, each with a word before it if it has one. On a narrow screen each
/// interrupt is a card of its own.
fn interrupt_table<'r>(rows: impl Iterator<Item = (Option<&'static str>, &'r Row)>) -> Markup {
    let columns: Vec<&str> = show::INTERRUPT_COLUMNS.split_whitespace().collect();
    html! {
        table .interrupts {
            thead { tr { @for column in &columns { th { (column) } } } }
            tbody {
                @for (side, row) in rows {
                    tr class=[side] {
                        @for (column, cell) in columns.iter().zip(show::interrupt_cells(row)) {
                            td data-name=(column) class=[(cell == "-").then_some("none")] { (cell) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns a number of pages, and the memory that they are.
fn pages(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} page{plural}, {}", report::size(count.saturating_mul(PAGE_SIZE as u64)))
}
