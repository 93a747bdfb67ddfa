//! The tables for a person.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::Duration;

use super::devices::Request;
use super::devices::linux::{Row, Times};
use super::idle::Idle;
use super::linux::Linux;
use super::pages::{self, Page};
use super::pauses::Pauses;
use super::switch::{self, Switch};
use super::writes::Writes;
use super::{Boot, Cost, Numbers, Operation};

/// The costs of this guest's operations under Bao (of July 2026, gcc 12.2) on the same meter,
/// measured once; `docs/bench.md` says more. Bao passes the UART and CNTPCT through. Operations for
/// which Bao lacks something are missing.
const BAO: &[(&str, u64)] = &[
    ("hypercall", 191),
    ("gicd-read-isenabler0", 1292),
    ("gicd-read-iidr", 229),
    ("gicd-write-isenabler0", 3279),
    ("uart-write-imsc", 3),
    ("uart-write-dr", 3),
    ("cntpct-read", 4),
    ("fold-and-fill-0", 1321),
    ("sgi-to-self", 873),
    ("spi-set-pending", 3755),
    ("virtual-timer", 260),
    ("physical-timer", 260),
    ("sgi-to-other", 918),
];

/// Returns the table of the operations.
pub fn operations(operations: &[Operation]) -> String {
    let mut text =
        String::from("Instructions, the minimum of 64 rounds (the median, where it differs)\n\n");
    let heads = ["alone", "Stasis", "added", "GICH reads", "writes", "under Bao, added"];
    line(&mut text, "operation", heads);
    for operation in operations {
        let added = operation.stasis.min.saturating_sub(operation.alone.min);
        let bao = BAO.iter().find(|(name, _)| *name == operation.name);
        let bao = bao.map_or(String::new(), |(_, cost)| {
            format!("{cost}, {}", cost.saturating_sub(operation.alone.min))
        });
        let (alone, stasis) = (show(operation.alone), show(operation.stasis));
        let [reads, writes] = [operation.gich.reads, operation.gich.writes].map(show);
        line(
            &mut text,
            &operation.name,
            [&alone, &stasis, &added.to_string(), &reads, &writes, &bao],
        );
    }
    text
}

/// Returns the tables of the boot, and of what the images consist of.
pub fn boot_and_images(numbers: &Numbers) -> String {
    let mut text = String::new();
    boot(&mut text, &numbers.boot);
    text += "\nBytes of the image in memory, by section\n\n";
    bytes(&mut text, &numbers.sections);
    text += "\nBytes of .text, by crate\n\n";
    bytes(&mut text, &numbers.crates);
    text += "\nBytes of the lean image in memory, by section\n\n";
    bytes(&mut text, &numbers.lean);
    text
}

fn show(cost: Cost) -> String {
    if cost.min == cost.median {
        cost.min.to_string()
    } else {
        format!("{} ({})", cost.min, cost.median)
    }
}

fn line(text: &mut String, name: &str, columns: [&str; 6]) {
    let [alone, stasis, added, reads, writes, bao] = columns;
    let line =
        format!("{name:<24}{alone:>8}{stasis:>14}{added:>8}{reads:>12}{writes:>8}  {bao:>22}");
    *text += line.trim_end();
    text.push('\n');
}

/// Returns the table of what world switches cost.
pub fn switches(switches: &[Switch]) -> String {
    let mut text = "\nInstructions of a world switch, and the parts of the fastest\n\n".to_owned();
    let heads = ["in all", "GICH reads", "writes"].into_iter().chain(switch::part_names());
    columns(&mut text, "switch", heads);
    for Switch { name, cost, gich, parts } in switches {
        let costs = [*cost, gich.reads, gich.writes].map(show);
        columns(&mut text, name, costs.into_iter().chain(parts.iter().map(u64::to_string)));
    }
    text
}

/// Returns the table of what pages cost.
pub fn pages(pages: &[Page]) -> String {
    let mut text = String::from(
        "\nInstructions of a checkpoint (look, store) and a resume (check, load; or on demand) by what the guest's memory holds\n\n",
    );
    columns(&mut text, "a page", pages::step_names());
    for page in pages {
        columns(&mut text, &page.name, page.one());
    }
    columns(&mut text, "a MiB", pages::step_names());
    for Page { name, mib } in pages {
        columns(&mut text, name, mib);
    }
    text
}

/// Returns the table of how long guests stand still: of this build, and of an earlier one.
pub fn pauses(now: &[Pauses], before: Option<&[Pauses]>) -> String {
    let mut text = String::from(
        "\nThousands of instructions that a guest stands still for its first checkpoint, for another after 5 s, and for a clone; bytes that the \
         checkpoints write; and thousands of instructions until the clone runs\n\n",
    );
    let heads = ["first", "another", "clone", "bytes, first", "another", "clone runs"];
    columns(&mut text, "guest, MiB", heads);
    for pauses in now {
        columns(&mut text, &pauses_name(pauses), pauses_numbers(pauses));
    }
    for pauses in before.unwrap_or_default() {
        let name = format!("{}, before", pauses_name(pauses));
        columns(&mut text, &name, pauses_numbers(pauses));
    }
    text
}

fn pauses_name(pauses: &Pauses) -> String {
    format!("{}, {}", pauses.guest, pauses.memory >> 20)
}

fn pauses_numbers(pauses: &Pauses) -> [String; 6] {
    let Pauses { first, later, clone, .. } = pauses;
    let of_clone = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    [
        first.pause.to_string(),
        later.pause.to_string(),
        of_clone(clone.map(|clone| clone.pause)),
        first.written.to_string(),
        later.written.to_string(),
        of_clone(clone.map(|clone| clone.took)),
    ]
}

/// Returns the table of what Linux takes.
pub fn linux(linux: &Linux) -> String {
    let mut text = String::from(
        "\nThousands of instructions of a Linux with two CPUs, and what Stasis adds\n\n",
    );
    let heads = linux.cores().map(|cores| format!("{cores} cores"));
    let heads = heads.flat_map(|cores| [cores, "added".to_owned()]);
    columns(&mut text, "Linux", std::iter::once("alone".to_owned()).chain(heads));
    for (name, alone, stasis) in linux.rows() {
        let added = |took: u64| format!("{:.1} %", 100.0 * took as f64 / alone as f64 - 100.0);
        let stasis = stasis.into_iter().flat_map(|took| [took.to_string(), added(took)]);
        columns(&mut text, name, std::iter::once(alone.to_string()).chain(stasis));
    }
    text
}

/// Returns the table of what a guest's writes take.
pub fn writes(writes: &Writes) -> String {
    let mut text = String::from(
        "\nInstructions of a guest's first write to a page behind a checkpoint, and pages that a guest fills in two seconds\n\n",
    );
    let rows = [
        ("the checkpoint has the page", writes.after.median),
        ("how many did so", writes.after.count),
        ("it does not have it yet", writes.meanwhile.median),
        ("how many did so", writes.meanwhile.count),
        ("pages, without checkpoints", writes.filled),
        ("pages, with one each second", writes.filled_periodic),
        ("the same, percent", writes.share()),
    ];
    for (name, number) in rows {
        columns(&mut text, name, [number]);
    }
    text
}

/// Returns the table of what periodic checkpoints leave to an idle Linux.
pub fn idle(idle: &Idle) -> String {
    let mut text = String::from(
        "\nHow far a process of an idle Linux counts in ten seconds, and bytes of a checkpoint while nothing runs\n\n",
    );
    columns(&mut text, "without checkpoints", [idle.counted]);
    columns(&mut text, "with one each second", [idle.counted_periodic]);
    let share = format!("{}.{}", idle.share() / 10, idle.share() % 10);
    columns(&mut text, "the same, percent", [share]);
    columns(&mut text, "bytes of a checkpoint", [idle.median_bytes()]);
    text
}

/// Returns the table of what requests of virtio devices take.
pub fn requests(requests: &[Request]) -> String {
    let mut text = String::from("\nInstructions of Stasis for a request of a virtio device\n\n");
    columns(&mut text, "request", ["in all", "the copy", "beside it", "in copies"]);
    for Request { name, all, copy } in requests {
        let copies = match copy {
            0 => String::new(),
            _ => format!("{:.2}", *all as f64 / *copy as f64),
        };
        let copied = if *copy == 0 { String::new() } else { copy.to_string() };
        columns(&mut text, name, [all.to_string(), copied, (all - copy).to_string(), copies]);
    }
    text
}

/// Returns the table of what takes Linux how long.
pub fn times(times: &Times) -> String {
    let mut text = String::from("\nMilliseconds that Linux takes, the least of several rounds\n\n");
    columns(&mut text, "", ["plain QEMU", "Stasis", "times as long"]);
    for Row { name, plain, stasis } in &times.rows {
        let ratio = stasis.as_secs_f64() / plain.as_secs_f64();
        let milliseconds = |time: &Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
        columns(
            &mut text,
            name,
            [milliseconds(plain), milliseconds(stasis), format!("{ratio:.2}")],
        );
    }
    for line in &times.counts {
        text += &format!("{line}\n");
    }
    text
}

fn columns(text: &mut String, name: &str, columns: impl IntoIterator<Item = impl Display>) {
    let columns: String = columns.into_iter().map(|column| format!("{column:>13}")).collect();
    // Writing to a String does not fail.
    let _ = writeln!(text, "{name:<32}{columns}");
}

fn boot(text: &mut String, boot: &Boot) {
    *text += "\nInstructions from the reset to the guest's `main`\n\n";
    let in_steps: u64 = boot.steps.iter().map(|(_, took)| took).sum();
    let steps = boot.steps.iter().map(|(name, took)| (name.as_str(), *took));
    let whole = [("alone", boot.alone), ("Stasis", boot.stasis)];
    let last = ("the rest", boot.stasis.saturating_sub(in_steps));
    let large = ("Stasis, with a guest of 3 GiB", boot.large);
    for (name, took) in whole.into_iter().chain(steps).chain([last, large]) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<30}{took:>12}");
    }
}

fn bytes(text: &mut String, sizes: &BTreeMap<String, u64>) {
    let mut sizes: Vec<_> = sizes.iter().collect();
    sizes.sort_by_key(|(_, size)| std::cmp::Reverse(**size));
    for (name, size) in sizes {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:<24}{size:>10}");
    }
}
