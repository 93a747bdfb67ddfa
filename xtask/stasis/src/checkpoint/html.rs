//! `stasis report`: a checkpoint, or what differs between two, as one page of HTML that needs
//! nothing else.
//!
//! - [`frame`]: what all pages have, also that of a [recorded run](crate::top::recorded).
//! - [`map`]: the memory in as many cells as fit on a page: what is in them, who has them, what has
//!   changed.
//! - [`owners`]: who has which page of a Linux guest, as the kernel itself notes it.
//! - [`page`]: the page, by a template that escapes all that it is given.
//!
//! The checkpoint's bytes are read a piece at a time. What is in it is hostile: the page has no
//! scripts, forbids them, and refers to nothing.

pub mod frame;
mod map;
mod owners;
mod page;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use stasis_state::routines::Page;
use stasis_state::{Extents, GuestState, PAGE_SIZE};

use self::map::{Content, Map};
use self::owners::Owners;
use super::diff::Difference;
use super::memory::{Index, Memory};
use super::pages::PageSet;
use super::source::{Loaded, anyhow_of, routines};
use super::symbols::{self, CRASH_NOTES, Notes, Symbol};
use super::translation::{Tables, Virtual};
use super::{one_or_two, show};
use crate::top::recorded;
use crate::{output, report};

/// The text behind the command's help.
pub const DETAILS: &str = "\
CHECKPOINT is FILE, or DISK WHICH, as for `stasis checkpoint`; of two the page shows what differs, `report DISK 1 2` on one disk.
Of a file that `stasis top --record` has written, the page shows who had which core when, missed windows, and checkpoints.
The page needs no network and has no scripts. Who has the memory is told of Linux with symbols (CONFIG_VMCORE_INFO).";

/// The words of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One or two of FILE or DISK WHICH, or DISK WHICH WHICH
    #[arg(required = true, num_args = 1..=4, value_name = "CHECKPOINT")]
    checkpoints: Vec<String>,
    /// The page that is made
    #[arg(short, long, value_name = "FILE.html")]
    output: PathBuf,
}

/// What a page shows.
pub struct Report {
    /// The checkpoint; of two, the newer one.
    loaded: Loaded,
    /// The name of the older one, and what differs between the two.
    since: Option<(String, Difference)>,
    map: Map,
    /// For each vCPU the functions in which it is, and from which that was called; empty where the
    /// kernel's symbols don't tell.
    functions: Vec<Vec<String>>,
}

/// Carries out the command.
pub fn main(arguments: &Arguments) -> Result<()> {
    if let [one] = &arguments.checkpoints[..]
        && recorded::is_record(Path::new(one))
    {
        return recorded::main(Path::new(one), &arguments.output);
    }
    let report = Report::of(&arguments.checkpoints)?;
    let html = page::page(&report).into_string();
    output::write(&arguments.output, html.as_bytes())?;
    let size = report::size(html.len() as u64);
    report::step(format_args!("{}: {size}", arguments.output.display()));
    Ok(())
}

impl Report {
    fn of(words: &[String]) -> Result<Self> {
        let (first, second) = one_or_two(words)?;
        let (mut loaded, since) = match second {
            None => (first, None),
            Some(mut new) => {
                let mut old = first;
                let difference = Difference::between(&mut old, &mut new)?;
                (new, Some((old.name, difference)))
            }
        };
        let nothing = PageSet::default();
        let changed = since.as_ref().map_or(&nothing, |(_, difference)| &difference.memory);
        let name = loaded.name.clone();
        let cannot_read = || format!("cannot read {name}");
        let (mut map, notes) = scan(&mut loaded).with_context(cannot_read)?;
        map.change(changed);
        let functions = match notes {
            Some(notes) => kernel(&mut loaded, &notes, &mut map, changed),
            None => Ok(Vec::new()),
        };
        Ok(Self { functions: functions.with_context(cannot_read)?, loaded, since, map })
    }
}

/// Returns the map of a checkpoint's memory by content, and the page that a Linux keeps for crash
/// dumps, if there is one.
fn scan(loaded: &mut Loaded) -> Result<(Map, Option<Box<Page>>)> {
    let (mut opened, checkpoint) = loaded.open()?;
    let mut map = Map::new(checkpoint, show::shared(checkpoint));
    let mut notes = None;
    let mut extents = Extents::new(&mut opened, checkpoint, routines()).map_err(anyhow_of)?;
    while let Some(extent) = extents.read_next().map_err(anyhow_of)? {
        for (address, page) in (extent.address..).step_by(PAGE_SIZE).zip(extents.pages()) {
            map.add(address, Content::of(page));
            if notes.is_none() && page.starts_with(CRASH_NOTES) {
                notes = Some(Box::new(*page));
            }
        }
    }
    Ok((map, notes))
}

/// Notes in the map who has each page of a Linux guest. Returns the functions in which its vCPUs
/// are.
fn kernel(
    loaded: &mut Loaded,
    notes: &Page,
    map: &mut Map,
    changed: &PageSet,
) -> Result<Vec<Vec<String>>> {
    let (mut opened, checkpoint) = loaded.open()?;
    let index = Index::new(&mut opened, checkpoint, |_| ())?;
    let memory = Memory::new(opened, checkpoint, index);
    let state = &checkpoint.state;
    let tables = state.vcpus.iter().map(|vcpu| Tables::of(&vcpu.system)).find(Tables::has_kernel);
    let Some(tables) = tables else { return Ok(Vec::new()) };
    let translate = |page| tables.translate(&memory, page);
    let virtual_ = Virtual::new(&memory, &translate);
    let symbols = symbols::linux(notes, &virtual_).unwrap_or_else(|too_many| {
        report::warn(format_args!("there are no names of functions: {too_many}"));
        Vec::new()
    });
    if let Some(owners) = Owners::new(&Notes::new(notes), &virtual_, &symbols) {
        owners.each(memory.ram.clone(), |address, owner| {
            map.own(address, owner, changed.contains(address));
        });
    }
    let functions = (0..state.vcpus.len()).map(|index| functions(state, index, &symbols)).collect();
    memory.finish()?;
    Ok(functions)
}

/// Returns the names of the functions that a vCPU's PC and X30 are in.
fn functions(state: &GuestState, vcpu: usize, symbols: &[Symbol]) -> Vec<String> {
    let core = &state.vcpus[vcpu].core;
    let addresses = [("PC", *core.pc), ("X30", core.x[30])];
    let named = addresses.iter().filter_map(|(register, address)| {
        Some(format!("{register} in {}", symbols::name_at(symbols, *address)?))
    });
    named.collect()
}
