//! The differences between the numbers of two runs.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::accesses::Accesses;
use super::{Cost, Numbers, pages, switch};

/// Returns what has changed from one run to another, line by line.
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
        let name = &operation.name;
        add_cost(&mut flat, format!("{name}, alone"), &operation.alone);
        add_cost(&mut flat, format!("{name}, Stasis"), &operation.stasis);
        add_accesses(&mut flat, name, &operation.gich);
    }
    for switch in &numbers.switches {
        let name = format!("switch {}", switch.name);
        add_accesses(&mut flat, &name, &switch.gich);
        for (part, instructions) in switch::part_names().zip(&switch.parts) {
            flat.insert(format!("{name}, {part}"), *instructions);
        }
        add_cost(&mut flat, name, &switch.cost);
    }
    for page in &numbers.pages {
        for (step, instructions) in pages::step_names().zip(&page.mib) {
            flat.insert(format!("{step} a MiB, {}", page.name), *instructions);
        }
    }
    flat.insert("boot, alone".to_owned(), numbers.boot.alone);
    flat.insert("boot, Stasis".to_owned(), numbers.boot.stasis);
    flat.insert("boot, Stasis, of 3 GiB".to_owned(), numbers.boot.large);
    for (step, instructions) in &numbers.boot.steps {
        flat.insert(format!("boot, {step}"), *instructions);
    }
    for (name, size) in &numbers.sections {
        flat.insert(format!("section {name}"), *size);
    }
    for (name, size) in &numbers.lean {
        flat.insert(format!("lean image's section {name}"), *size);
    }
    for (name, size) in &numbers.crates {
        flat.insert(format!("code of {name}"), *size);
    }
    flat
}

fn add_cost(flat: &mut BTreeMap<String, u64>, name: String, cost: &Cost) {
    flat.insert(format!("{name}, median"), cost.median);
    flat.insert(name, cost.min);
}

fn add_accesses(flat: &mut BTreeMap<String, u64>, name: &str, gich: &Accesses) {
    add_cost(flat, format!("{name}, reads of GICH"), &gich.reads);
    add_cost(flat, format!("{name}, writes of GICH"), &gich.writes);
}

#[cfg(test)]
pub mod tests {
    use super::super::pages::Page;
    use super::super::switch::Switch;
    use super::super::{Boot, Operation};
    use super::*;

    /// Returns one operation that takes as much under Stasis.
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
            lean: BTreeMap::new(),
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

    #[test]
    fn whatever_has_changed_is_told() {
        let cost = Cost { min: 9, median: 9 };
        let gich = Accesses { reads: cost, writes: cost };
        let mut old = numbers(100);
        old.switches =
            vec![Switch { name: "there".into(), cost, gich, parts: vec![1, 2, 3, 4, 5] }];
        old.pages = vec![Page { name: "zeros".into(), mib: vec![1, 2, 3, 4] }];
        old.boot.steps = vec![("the start".into(), 7)];
        type Change = fn(&mut Numbers);
        let cases: [(Change, &str); 7] = [
            (|new| new.operations[0].stasis.median = 101, "hypercall, Stasis, median"),
            (|new| new.operations[0].gich.reads.median = 1, "hypercall, reads of GICH, median"),
            (|new| new.switches[0].cost.min = 8, "switch there "),
            (|new| new.switches[0].gich.writes.min = 8, "switch there, writes of GICH"),
            (|new| new.switches[0].parts[2] = 4, "switch there, vGIC"),
            (|new| new.pages[0].mib[3] = 5, "load a MiB, zeros"),
            (|new| new.boot.steps[0].1 = 8, "boot, the start"),
        ];
        for (change, told) in cases {
            let mut new = old.clone();
            change(&mut new);
            let text = changes(&old, &new);
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}
