//! Files of a crate import each other in no circle, but for those that ARCHITECTURE.md lists, each
//! with its reason.
//!
//! `modules.rs` finds what each file imports. A file that stands in a circle with files of its own
//! folder is one module with them, and is named alone.

mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use modules::Modules;

/// What begins the list in ARCHITECTURE.md.
const HEADING: &str = "### Files that import each other\n";

/// The files that each file imports. A file's name has no `.rs`, and begins below `src`.
type Imports = BTreeMap<String, BTreeSet<String>>;
/// Files, each of which comes to all others by imports.
type Circle = BTreeSet<String>;

/// Returns a path in the checkout.
fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// Returns the folders of the crates that the workspace has.
fn crates() -> Vec<String> {
    let manifest = fs::read_to_string(checkout("Cargo.toml")).unwrap();
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    members.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns what the files import of the crate, library or program, with this root.
fn imports(root: &Path) -> Imports {
    let source = root.parent().unwrap();
    let name = |file: &Path| {
        let name = file.strip_prefix(source).unwrap().with_extension("");
        let name = name.to_str().unwrap();
        name.strip_suffix("/mod").unwrap_or(name).to_owned()
    };
    let modules = Modules::of(root);
    let named = modules.imports().into_iter();
    named.map(|(file, to)| (name(file), to.into_iter().map(name).collect())).collect()
}

/// Returns all files that a file comes to by imports.
fn reach(imports: &Imports, file: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        let new = imports[file].iter().filter(|to| found.insert((*to).clone()));
        open.extend(new.map(String::as_str));
    }
    found
}

/// Returns the circles in which files import each other.
fn circles(imports: &Imports) -> BTreeSet<Circle> {
    let reach: BTreeMap<_, _> = imports.keys().map(|file| (file, reach(imports, file))).collect();
    let circle = |file: &String| -> Circle {
        reach[file].iter().filter(|to| reach[to].contains(file)).cloned().collect()
    };
    imports.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// Returns the files of a circle but for those that are in the folder of another one.
fn heads(circle: &Circle) -> Circle {
    let is_below = |file: &str, other: &str| {
        file.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
    };
    let is_head = |file: &&String| !circle.iter().any(|other| is_below(file, other));
    circle.iter().filter(is_head).cloned().collect()
}

/// Returns the circles that ARCHITECTURE.md lists, each with its crate.
fn listed() -> BTreeSet<(String, Circle)> {
    let text = fs::read_to_string(checkout("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once(HEADING).expect("ARCHITECTURE.md has the section");
    let (section, _) = section.split_once("\n#").unwrap();
    let names = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let each = rows.flat_map(|(package, cell)| {
        cell.split(';').map(move |circle| (package.to_owned(), names(circle)))
    });
    each.map(|(package, circle)| (package, circle.into_iter().collect())).collect()
}

/// Returns a line for each file of a circle that says which others of the circle it imports.
fn described(imports: &Imports, circle: &Circle) -> String {
    circle.iter().fold(String::new(), |mut text, file| {
        let others: Vec<_> = imports[file].intersection(circle).map(String::as_str).collect();
        writeln!(text, "    {file} imports {}", others.join(", ")).unwrap();
        text
    })
}

#[test]
fn files_import_each_other_only_where_architecture_md_says_why() {
    let listed = listed();
    let mut found = BTreeSet::new();
    let mut wrong = String::new();
    for package in crates() {
        let roots = ["src/lib.rs", "src/main.rs"].map(|root| checkout(&package).join(root));
        for root in roots.iter().filter(|root| root.exists()) {
            let imports = imports(root);
            for circle in circles(&imports) {
                let named = (package.clone(), heads(&circle));
                if !listed.contains(&named) {
                    let how = described(&imports, &circle);
                    let heads = Vec::from_iter(named.1.iter().map(|head| format!("`{head}`")));
                    let heads = heads.join(" ");
                    writeln!(wrong, "{package}: {heads}: not in the list:\n{how}").unwrap();
                }
                found.insert(named);
            }
        }
    }
    for (package, circle) in listed.difference(&found) {
        let files = Vec::from_iter(circle.iter().map(String::as_str)).join(", ");
        writeln!(wrong, "{package}: {files}: in the list, but no such circle is there").unwrap();
    }
    assert!(
        wrong.is_empty(),
        "the list in ARCHITECTURE.md of files that import each other:\n{wrong}"
    );
}
