//! A guest in a checkpoint, which nobody changes, as `stasis_debug` wants it.

use std::path::Path;

use anyhow::{Context, Result};
use stasis_debug::machine::Refused;
use stasis_debug::plan::Plan;
use stasis_debug::points::Limits;
use stasis_debug::{Machine, Records};
use stasis_state::vcpu::PowerState;
use stasis_state::{PAGE_SIZE, VcpuState};

use crate::checkpoint::Loaded;
use crate::checkpoint::memory::{Index, Memory};
use crate::checkpoint::symbol_file;
use crate::checkpoint::symbols::CRASH_NOTES;
use crate::checkpoint::translation::{Tables, Virtual};
use crate::output;

/// A guest in a checkpoint.
pub struct Stored<'a, 'm> {
    vcpus: Vec<VcpuState>,
    memory: &'a Memory<'m>,
}

/// Calls `with` with the guest in a checkpoint, and with the file of its kernel's functions, if it
/// has any. The file is there for as long as `with` runs.
///
/// # Errors
///
/// The checkpoint can't be read, the file can't be written, or that of `with`.
pub fn with(
    loaded: &mut Loaded,
    with: impl FnOnce(Stored<'_, '_>, Option<&Path>) -> Result<()>,
) -> Result<()> {
    let name = loaded.name.clone();
    let (mut opened, checkpoint) = loaded.open()?;
    let vcpus = checkpoint.state.vcpus.clone();
    let mut notes = None;
    let index = Index::new(&mut opened, checkpoint, |page| {
        if notes.is_none() && page.starts_with(CRASH_NOTES) {
            notes = Some(Box::new(*page));
        }
    })
    .with_context(|| format!("cannot read {name}"))?;
    let memory = Memory::new(opened, checkpoint, index);
    let folder = tempfile::tempdir().context("cannot make a folder for the symbols")?;
    let mut symbols = None;
    if let (Some(notes), Some(first)) = (notes, vcpus.first()) {
        let tables = Tables::of(&first.system);
        let translate = |page| tables.translate(&memory, page);
        let content = Virtual::new(&memory, &translate);
        symbols = symbol_file::write(&vcpus, &notes, &content, &folder.path().join("guest"))?;
    }
    let (symbols, output) = symbols.unzip();
    output::finish_together(output)?;
    with(Stored { vcpus, memory: &memory }, symbols.as_deref())?;
    memory.finish().with_context(|| format!("cannot read {name}"))
}

impl Machine for Stored<'_, '_> {
    fn vcpus(&self) -> usize {
        self.vcpus.len()
    }

    fn with<R>(&mut self, vcpu: usize, with: impl FnOnce(Records<'_>) -> R) -> Option<R> {
        let VcpuState { core, fp, system, .. } = self.vcpus.get_mut(vcpu)?;
        Some(with(Records { core, fp, system }))
    }

    fn is_on(&self, vcpu: usize) -> bool {
        self.vcpus.get(vcpu).is_some_and(|vcpu| *vcpu.power.state == PowerState::On as u8)
    }

    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Refused> {
        let offset = address % PAGE_SIZE as u64;
        let page = self.memory.page(address - offset).ok_or(Refused::NotRam)?;
        let bytes = page.get(offset as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(Refused::NotRam)?);
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Refused> {
        Err(Refused::ReadOnly)
    }

    fn limits(&self) -> Option<Limits> {
        None
    }

    fn resume(&mut self, _: &Plan) {}

    fn interrupt(&mut self) {}
}
