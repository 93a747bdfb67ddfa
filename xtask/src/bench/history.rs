//! What has changed from one run's numbers to another's.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Numbers, pages};

/// What has changed, line by line.
pub fn changes(old: &Numbers, new: &Numbers) -> String {
    let mut text = String::new();
    let (before, after) = (flat(old), flat(new));
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let show = |value: Option<&u64>| value.map_or("-".to_owned(), u64::to_string);
        let (before, after) = (before.get(name), after.get(name));
        if before != after {
            let change = match (before, after) {
                (Some(&before), Some(&after)) if before > 0 => {
                    format!("{:+.1} %", (after as f64 / before as f64 - 1.0) * 100.0)
                }
                _ => String::new(),
            };
            // Writing to a String does not fail.
            let _ =
                writeln!(text, "{name:<40}{:>10} -> {:>8}  {change}", show(before), show(after));
        }
    }
    if text.is_empty() {
        return "Nothing has changed.\n".to_owned();
    }
    format!("What has changed\n\n{text}")
}

fn flat(numbers: &Numbers) -> BTreeMap<String, u64> {
    let mut flat = BTreeMap::new();
    for operation in &numbers.operations {
        flat.insert(format!("{}, alone", operation.name), operation.alone.min);
        flat.insert(format!("{}, Stasis", operation.name), operation.stasis.min);
        flat.insert(format!("{}, reads of GICH", operation.name), operation.gich.reads.min);
        flat.insert(format!("{}, writes of GICH", operation.name), operation.gich.writes.min);
    }
    for switch in &numbers.switches {
        flat.insert(format!("switch {}", switch.name), switch.cost.min);
    }
    for page in &numbers.pages {
        for (step, instructions) in pages::step_names().zip(page.mib) {
            flat.insert(format!("{step} a MiB, {}", page.name), instructions);
        }
    }
    flat.insert("boot, alone".to_owned(), numbers.boot.alone);
    flat.insert("boot, Stasis".to_owned(), numbers.boot.stasis);
    for (name, size) in &numbers.sections {
        flat.insert(format!("section {name}"), *size);
    }
    for (name, size) in &numbers.crates {
        flat.insert(format!("code of {name}"), *size);
    }
    flat
}

#[cfg(test)]
pub mod tests {
    use super::super::accesses::Accesses;
    use super::super::{Boot, Cost, Operation};
    use super::*;

    /// One operation that takes as much under Stasis.
    pub fn numbers(stasis: u64) -> Numbers {
        let none = Cost { min: 0, median: 0 };
        Numbers {
            operations: vec![Operation {
                name: "hypercall".to_owned(),
                alone: Cost { min: 4, median: 4 },
                stasis: Cost { min: stasis, median: stasis },
                gich: Accesses { reads: none, writes: none },
            }],
            switches: Vec::new(),
            pages: Vec::new(),
            boot: Boot::default(),
            sections: [(".text".to_owned(), 1000)].into(),
            crates: BTreeMap::new(),
        }
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let text = changes(&numbers(200), &numbers(100));
        assert!(text.contains("hypercall, Stasis"), "{text}");
        assert!(text.contains("-50.0 %"), "{text}");
        assert!(!text.contains("alone") && !text.contains(".text"), "{text}");
        assert_eq!(changes(&numbers(1), &numbers(1)), "Nothing has changed.\n");
    }
}
