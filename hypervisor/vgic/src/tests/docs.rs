//! The table of rules in `docs/vgic.md` names tests that there are, and all of those that bear a
//! rule's number.

use std::collections::BTreeSet;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../../../docs/vgic.md");
const RULES: usize = 20;

/// Returns the names of all tests, those that boot QEMU with their module.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    let qemu = "../../tests/qemu/tests/qemu";
    let folders =
        [("src/tests", false), ("src/tests/rules", false), ("tests", false), (qemu, true)];
    for (folder, with_module) in folders {
        for file in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let module = path.file_stem().unwrap().to_str().unwrap();
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let Some((_, rest)) = line.split_once("fn ") else { continue };
                let Some((name, _)) = rest.split_once('(') else { continue };
                let name = name.split('<').next().unwrap_or(name);
                names.insert(if with_module { format!("{module}::{name}") } else { name.into() });
            }
        }
    }
    names
}

/// Returns what stands between backquotes in a line's last column.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let cells = line.trim_end_matches('|').rsplit('|').next().unwrap_or("");
    cells.split('`').skip(1).step_by(2)
}

#[test]
fn the_table_of_rules_names_tests_that_there_are() {
    let tests = tests();
    let rows: Vec<_> = DOCUMENT.lines().filter(|line| line.starts_with('|')).collect();
    for name in rows.iter().flat_map(|line| named(line)) {
        assert!(tests.contains(name), "docs/vgic.md names \"{name}\", which is no test");
    }
    for rule in 1..=RULES {
        let row = rows.iter().find(|line| line.starts_with(&format!("| {rule} |")));
        let row = row.unwrap_or_else(|| panic!("docs/vgic.md has no rule {rule}"));
        let listed: BTreeSet<_> = named(row).collect();
        let prefix = format!("rule_{rule:02}_");
        assert!(listed.iter().any(|name| name.starts_with(&prefix)), "rule {rule} has no test");
        for test in tests.iter().filter(|name| name.starts_with(&prefix)) {
            assert!(listed.contains(test.as_str()), "docs/vgic.md does not name {test}");
        }
    }
}
