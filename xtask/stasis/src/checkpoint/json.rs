//! Checkpoints as JSON, for programs. Registers are strings with all their digits, because not
//! every program has numbers of 64 bits.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::diff::Difference;
use super::interrupts::{self, Row};
use super::memory::ram;
use super::pages::{PageSet, count};
use super::registers::{self, Registers};
use super::source::Loaded;

/// Returns a checkpoint as JSON. `sha256` is the hash of its pages.
pub fn show(loaded: &Loaded, sha256: &str) -> Value {
    let checkpoint = &loaded.checkpoint;
    let (state, ram) = (&checkpoint.state, ram(checkpoint));
    json!({
        "format": checkpoint.header.version().to_string(),
        "bytes": checkpoint.header.total_len,
        "skipped": checkpoint.skipped.records,
        "skipped_registers": checkpoint.skipped.registers,
        "guest": loaded.guest(),
        "memory": {
            "base": hex(ram.start),
            "size": hex(ram.end - ram.start),
            "pages_stored": checkpoint.stats.pages_stored,
            "pages_word": checkpoint.stats.pages_word,
            "pages_zero": checkpoint.stats.pages_zero,
            "sha256": sha256,
        },
        "records": registers::all(state).iter().map(record).collect::<Value>(),
        "interrupts": interrupts::all(state).iter().map(interrupt).collect::<Value>(),
    })
}

/// The differences between two checkpoints. The fields are in the order of their names, as the
/// fields of a [`Value`] are.
#[derive(Serialize)]
pub struct Diff<'d> {
    interrupts: Vec<Value>,
    memory: Memory<'d>,
    registers: Vec<Value>,
}

#[derive(Serialize)]
struct Memory<'d> {
    pages: u64,
    #[serde(serialize_with = "ranges")]
    ranges: &'d PageSet,
}

impl<'d> From<&'d Difference> for Diff<'d> {
    fn from(difference: &'d Difference) -> Self {
        let registers = difference.registers.iter().map(|change| {
            json!({
                "type": change.kind.name(),
                "instance": change.instance,
                "name": change.name,
                "index": change.index,
                "old": change.old,
                "new": change.new,
            })
        });
        let interrupts = difference.interrupts.iter().map(|change| {
            json!({ "old": change.old.as_ref().map(interrupt), "new": change.new.as_ref().map(interrupt) })
        });
        let memory = Memory { pages: difference.memory.len(), ranges: &difference.memory };
        Self { interrupts: interrupts.collect(), memory, registers: registers.collect() }
    }
}

/// Serializes pages as ranges one after the other, because there may be very many.
fn ranges<S: Serializer>(pages: &PageSet, out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(
        pages.ranges().map(|range| json!({ "address": hex(range.start), "pages": count(&range) })),
    )
}

fn record(record: &Registers) -> Value {
    let registers: Map<String, Value> = record
        .registers
        .iter()
        .map(|register| {
            let value = match register.values[..] {
                [value] => json!(register.digits(value)),
                _ => register.values.iter().map(|value| register.digits(*value)).collect(),
            };
            (register.title(), value)
        })
        .collect();
    json!({ "type": record.kind.name(), "instance": record.instance, "registers": registers })
}

fn interrupt(row: &Row) -> Value {
    json!({
        "intid": row.intid,
        "vcpu": row.vcpu,
        "enabled": row.enabled,
        "pending": row.pending,
        "active": row.active,
        "active_on": row.holder,
        "active_source": row.active_source,
        "level": row.level,
        "edge": row.edge,
        "priority": row.priority,
        "group": row.group,
        "targets": interrupts::mask(row.targets),
        "sources": interrupts::mask(row.sources),
    })
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}
