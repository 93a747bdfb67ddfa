//! The modules of a crate as its files say them, and what a path in one of them names: [`Modules`].
//!
//! Names are resolved as far as it takes to know the file: through `use` and `pub use` to where
//! something is declared, and no further than to a type, whose variants and functions are in its
//! file or are nobody's import. What only tests have is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// How many `use` a name is followed through: more are a circle of names.
const MOST_STEPS: usize = 16;

/// The segments of a path.
pub type Segments = Vec<String>;

/// A module, of a file of its own or within one.
struct Module {
    file: usize,
    parent: Option<usize>,
    children: HashMap<String, usize>,
    /// Names that `use` brings, and the paths that they stand for.
    uses: HashMap<String, Segments>,
    /// Modules all names of which `use` brings.
    globs: Vec<Segments>,
    items: HashSet<String>,
    /// Modules that are there in tests alone.
    elsewhere: HashSet<String>,
    /// All paths that stand in the module.
    paths: HashSet<Segments>,
}

/// The modules of a crate, with their files.
#[derive(Default)]
pub struct Modules {
    all: Vec<Module>,
    files: Vec<PathBuf>,
    /// The files of macros, by the macros' names.
    macros: HashMap<String, usize>,
}

/// What a path names.
enum Target {
    Module(usize),
    /// What is declared in this file.
    Item(usize),
    /// What is of another crate, or of tests.
    Elsewhere,
}

impl Modules {
    /// Returns the modules of the crate whose root is this file.
    ///
    /// # Panics
    ///
    /// If a file can't be read, or is no Rust.
    pub fn of(root: &Path) -> Self {
        let mut modules = Self::default();
        modules.add_file(root, root.parent().unwrap(), None);
        modules
    }

    /// Returns each file of the crate with those that it imports from.
    pub fn imports(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let path = |file: usize| self.files[file].as_path();
        let mut found = BTreeMap::<_, BTreeSet<_>>::new();
        for (index, module) in self.all.iter().enumerate() {
            let imports = found.entry(path(module.file)).or_default();
            let named = module.paths.iter().filter_map(|segments| self.file_of(index, segments));
            let of_globs = module.globs.iter().filter_map(|glob| self.file_of_glob(index, glob));
            imports.extend(named.chain(of_globs).filter(|to| *to != module.file).map(path));
        }
        found
    }

    /// Returns the file in which is what a path names, unless that is a module itself: to name a
    /// module takes nothing from it yet.
    fn file_of(&self, module: usize, segments: &[String]) -> Option<usize> {
        match self.resolve(module, segments, 0)? {
            Target::Item(file) => Some(file),
            Target::Module(_) | Target::Elsewhere => None,
        }
    }

    /// Returns the file whose names a glob brings.
    fn file_of_glob(&self, module: usize, glob: &[String]) -> Option<usize> {
        match self.resolve(module, glob, 0)? {
            Target::Item(file) => Some(file),
            Target::Module(index) => Some(self.all[index].file),
            Target::Elsewhere => None,
        }
    }

    /// Returns what a path names in a module; `None` if that is of another crate.
    fn resolve(&self, module: usize, segments: &[String], steps: usize) -> Option<Target> {
        if steps > MOST_STEPS {
            return None;
        }
        let (first, rest) = segments.split_first()?;
        let start = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(module),
            "super" => Target::Module(self.all[module].parent?),
            name => self.name(module, name, steps)?,
        };
        rest.iter().try_fold(start, |at, name| match at {
            Target::Item(_) | Target::Elsewhere => Some(at),
            Target::Module(index) if name == "super" => {
                Some(Target::Module(self.all[index].parent?))
            }
            // What a macro has declared has no name here, but is there.
            Target::Module(index) => {
                Some(self.name(index, name, steps).unwrap_or(Target::Item(self.all[index].file)))
            }
        })
    }

    /// Returns what a name stands for in a module.
    fn name(&self, module: usize, name: &str, steps: usize) -> Option<Target> {
        let here = &self.all[module];
        if let Some(child) = here.children.get(name) {
            return Some(Target::Module(*child));
        }
        if here.items.contains(name) {
            return Some(Target::Item(here.file));
        }
        if here.elsewhere.contains(name) {
            return Some(Target::Elsewhere);
        }
        if let Some(path) = here.uses.get(name) {
            return self.resolve(module, path, steps + 1).or(Some(Target::Elsewhere));
        }
        let by_glob =
            here.globs.iter().find_map(|glob| match self.resolve(module, glob, steps + 1)? {
                Target::Module(index) if index != module => self.declared(index, name, steps + 1),
                _ => None,
            });
        by_glob.or_else(|| self.macros.get(name).map(|file| Target::Item(*file)))
    }

    /// Returns what a name stands for in a module that a glob brings.
    fn declared(&self, module: usize, name: &str, steps: usize) -> Option<Target> {
        (steps <= MOST_STEPS).then(|| self.name(module, name, steps))?
    }

    /// Adds the module of a file whose own modules' files are in `folder`. Returns its index.
    fn add_file(&mut self, path: &Path, folder: &Path, parent: Option<usize>) -> usize {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.files.push(path.to_owned());
        self.add(&file.items, self.files.len() - 1, folder, parent)
    }

    /// Adds a module with these items. Returns its index.
    fn add(&mut self, items: &[Item], file: usize, folder: &Path, parent: Option<usize>) -> usize {
        let index = self.all.len();
        self.all.push(Module {
            file,
            parent,
            children: HashMap::new(),
            uses: HashMap::new(),
            globs: Vec::new(),
            items: HashSet::new(),
            elsewhere: HashSet::new(),
            paths: HashSet::new(),
        });
        for item in items {
            if is_for_tests(attributes(item)) {
                if let Item::Mod(module) = item {
                    self.all[index].elsewhere.insert(module.ident.to_string());
                }
                continue;
            }
            if let Item::Mod(module) = item {
                let name = module.ident.to_string();
                let below = folder.join(&name);
                let child = match &module.content {
                    Some((_, items)) => self.add(items, file, &below, Some(index)),
                    None => self.add_file(&file_of(folder, &name), &below, Some(index)),
                };
                self.all[index].children.insert(name, child);
                continue;
            }
            if let Some(name) = name_of(item) {
                if matches!(item, Item::Macro(_)) {
                    self.macros.insert(name.clone(), file);
                }
                self.all[index].items.insert(name);
            }
            Names { module: &mut self.all[index], is_contents: false }.visit_item(item);
        }
        index
    }
}

/// Returns the file of a module that is declared where modules' files are in `folder`.
fn file_of(folder: &Path, name: &str) -> PathBuf {
    let flat = folder.join(format!("{name}.rs"));
    if flat.exists() { flat } else { folder.join(name).join("mod.rs") }
}

/// Returns whether something is there in tests alone.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|one| one.path().is_ident("cfg")).any(|one| {
        let condition = one.meta.require_list().map(|list| list.tokens.to_string());
        condition.is_ok_and(|text| text == "test" || text.starts_with("all (test"))
    })
}

/// Returns the attributes of an item that can be for tests alone.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Returns the name that an item declares in its module.
fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Finds the paths that stand in a module, in macros, too.
struct Names<'m> {
    module: &'m mut Module,
    /// Whether this is a `pub use` of the crate's root, which is a table of contents: who names
    /// something there imports it from where it is, and the root imports nothing.
    is_contents: bool,
}

impl Names<'_> {
    /// Adds what a `use` brings behind the path `before`.
    fn add_use(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (name, path) = match tree {
            UseTree::Path(path) => return self.add_use(&with(&path.ident), &path.tree),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_use(before, tree));
            }
            UseTree::Glob(_) => return self.module.globs.push(before.to_vec()),
            UseTree::Name(name) if name.ident == "self" => {
                let Some(last) = before.last() else { return };
                (last.clone(), before.to_vec())
            }
            UseTree::Name(name) => (name.ident.to_string(), with(&name.ident)),
            UseTree::Rename(rename) if rename.ident == "self" => {
                (rename.rename.to_string(), before.to_vec())
            }
            UseTree::Rename(rename) => (rename.rename.to_string(), with(&rename.ident)),
        };
        if !self.is_contents {
            self.module.paths.insert(path.clone());
        }
        self.module.uses.insert(name, path);
    }

    /// Adds the paths that stand among the tokens of a macro.
    fn add_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        use proc_macro2::TokenTree::{Group, Ident, Punct};

        let mut path = Segments::new();
        // Whether the last tokens were `::`, behind which the path goes on.
        let mut colons = 0;
        for token in tokens {
            match token {
                Ident(name) if colons == 2 => path.push(name.to_string()),
                Ident(name) => {
                    self.add_path(std::mem::replace(&mut path, vec![name.to_string()]));
                }
                Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                other => {
                    self.add_path(std::mem::take(&mut path));
                    if let Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
            colons = 0;
        }
        self.add_path(path);
    }

    /// Adds a path, unless it is one name, which is declared here or was brought by a `use`.
    fn add_path(&mut self, path: Segments) {
        if path.len() > 1 {
            self.module.paths.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_private = matches!(item.vis, syn::Visibility::Inherited);
        self.is_contents = self.module.parent.is_none() && !is_private;
        self.add_use(&[], &item.tree);
        self.is_contents = false;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add_path(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        // A macro has no `use` where it is known by the order of the text.
        let path = mac.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.module.paths.insert(path);
        self.add_tokens(mac.tokens.clone());
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}
