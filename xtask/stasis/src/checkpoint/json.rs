//! Checkpoints for programs. Registers are strings with all their digits: not every program's numbers have
//! 64 bits.

use serde_json::{Map, Value, json};

use super::diff::Difference;
use super::interrupts::{self, Row};
use super::memory::{self, Memory};
use super::registers::{self, Registers};
use super::source::Loaded;

/// A checkpoint.
pub fn show(loaded: &Loaded, memory: &Memory) -> Value {
    let checkpoint = &loaded.checkpoint;
    let state = &checkpoint.state;
    json!({
        "format": checkpoint.header.version().to_string(),
        "bytes": checkpoint.header.total_len,
        "skipped": checkpoint.skipped.records,
        "skipped_registers": checkpoint.skipped.registers,
        "guest": loaded.guest(),
        "memory": {
            "base": hex(memory.ram.start),
            "size": hex(memory.ram.end - memory.ram.start),
            "pages_stored": checkpoint.stats.pages_stored,
            "pages_zero": checkpoint.stats.pages_zero,
            "sha256": memory.sha256(),
        },
        "records": registers::all(state).iter().map(record).collect::<Value>(),
        "interrupts": interrupts::all(state).iter().map(interrupt).collect::<Value>(),
    })
}

/// What differs between two.
pub fn diff(difference: &Difference) -> Value {
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
    let ranges = difference
        .memory
        .iter()
        .map(|range| json!({ "address": hex(range.start), "pages": memory::pages(range) }));
    json!({
        "registers": registers.collect::<Value>(),
        "interrupts": interrupts.collect::<Value>(),
        "memory": { "pages": difference.pages(), "ranges": ranges.collect::<Value>() },
    })
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
