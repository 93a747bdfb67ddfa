//! Checkpoints: a guest to the store, and back.

use crate::clock;
use crate::guests;
use crate::slot::{RunState, Slot};
use crate::storage::{Disk, with_store};
use crate::turns;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use stasis_arch::{crc, timer};
use stasis_state::{Plan, Routines, Sink, Source};
use stasis_store::{Which, reader, writer};
use stasis_vm::console::table::{StoreRow, write_store};
use stasis_vm::periodic;

/// A store's writer as the format wants it.
struct ToStore<'s>(writer::Writer<'s, Disk>);

impl Sink for ToStore<'_> {
    type Error = String;

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.write(bytes).map_err(|error| error.to_string())
    }
}

/// A store's reader as the format wants it.
struct FromStore<'s>(reader::Reader<'s, Disk>);

impl Source for FromStore<'_> {
    type Error = String;

    fn len(&self) -> u64 {
        self.0.length()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        self.0.read_at(offset, buf).map_err(|error| error.to_string())
    }
}

/// The inner loops, by the CPU's instructions where it has them. All of a guest's pages are looked at before anything
/// is stored, which takes long.
fn routines() -> Routines {
    fn is_zero(page: &stasis_state::routines::Page) -> bool {
        turns::breathe();
        stasis_state::routines::is_zero(page)
    }
    let portable = Routines { is_zero, ..Routines::default() };
    if crc::is_present() { Routines { crc32c: crc::crc32c, ..portable } } else { portable }
}

/// Prints a line for each tenth of the way.
struct Progress<'a, W> {
    what: &'static str,
    tenths: u64,
    out: &'a mut W,
}

impl<'a, W: Write> Progress<'a, W> {
    fn new(what: &'static str, out: &'a mut W) -> Self {
        Self { what, tenths: 0, out }
    }

    fn report(&mut self, done: u64, total: u64) {
        turns::breathe();
        let tenths = (done * 10).checked_div(total).unwrap_or(0);
        if tenths > self.tenths {
            self.tenths = tenths;
            let _ = writeln!(self.out, "... {}: {}%", self.what, tenths * 10);
        }
    }
}

/// Milliseconds since the counter read `start`.
fn millis_since(start: u64) -> u64 {
    (timer::counter() - start) * 1000 / timer::frequency()
}

/// Stores a guest, whose time stands still meanwhile.
pub fn store(slot: &Slot, name: &str, out: &mut impl Write) -> Result<(), String> {
    let mut parked = slot.park();
    if parked.state == RunState::Lost {
        return Err(format!(
            "guest \"{}\" is lost since a resume failed; resume it first",
            slot.name
        ));
    }
    // After it was parked: the guest has seen every earlier instant.
    let start = timer::counter();
    let wall_time = clock::wall_time();
    parked.guest.clock.stop(start);
    let (records, ram) = parked.records_and_ram(start, wall_time);
    let plan = Plan::new(records, ram, routines()).map_err(|error| error.to_string())?;
    let stats = plan.stats();
    let number = with_store(|store| {
        let writer = store.begin(name, stats.bytes, wall_time).map_err(|e| e.to_string())?;
        let mut sink = ToStore(writer);
        let mut progress = Progress::new("stored", out);
        plan.write(&mut sink, &mut |done, total| progress.report(done, total))
            .map_err(|error| error.to_string())?;
        let committed = sink.0.commit().map_err(|error| error.to_string())?;
        Ok(committed.number)
    })?;
    let _ = writeln!(
        out,
        "checkpoint {number} \"{name}\": {} pages stored, {} zero, {} bytes, {} ms",
        stats.pages_stored,
        stats.pages_zero,
        stats.bytes,
        millis_since(start)
    );
    Ok(())
}

/// Resumes a guest. Nothing is touched before the whole checkpoint has been read and found good, and
/// the machine has what it needs; with `any_speed`, a counter of any frequency.
pub fn resume(which: &str, any_speed: bool, out: &mut impl Write) -> Result<(), String> {
    let start = timer::counter();
    let (name, stats) = with_store(|store| {
        let reader = store.open_checkpoint(Which::from(which)).map_err(|e| e.to_string())?;
        let mut source = FromStore(reader);
        let mut progress = Progress::new("checked", out);
        let checkpoint = stasis_state::read(&mut source, routines(), &mut |done, total| {
            progress.report(done, total);
        })
        .map_err(|error| error.to_string())?;
        let mut progress = Progress::new("loaded", out);
        let name = guests::resume(checkpoint.state.clone(), any_speed, |ram| {
            stasis_state::read_memory(
                &mut source,
                &checkpoint,
                ram,
                routines(),
                &mut |done, total| {
                    progress.report(done, total);
                },
            )
            .map_err(|error| error.to_string())
        })?;
        Ok((name, checkpoint.stats))
    })?;
    let _ = writeln!(
        out,
        "guest \"{name}\" goes on: {} pages loaded, {} bytes, {} ms",
        stats.pages_stored,
        stats.bytes,
        millis_since(start)
    );
    Ok(())
}

/// The numbers of a guest's checkpoints, the newest first.
pub fn of_guest(name: &str) -> Result<Vec<u64>, String> {
    with_store(|store| {
        let mut numbers: Vec<u64> = store.list().iter().rev().map(|one| one.number).collect();
        numbers.retain(|number| {
            let reader = store.open_checkpoint(Which::Number(*number));
            reader.is_ok_and(|reader| {
                let guest = stasis_state::read_name(&mut FromStore(reader), routines());
                guest.is_ok_and(|guest| guest == name)
            })
        });
        Ok(numbers)
    })
}

/// Deletes the oldest checkpoints with this name, but for the newest `keep`.
pub fn delete_surplus(name: &str, keep: u8) -> Result<(), String> {
    with_store(|store| {
        let all = store.list().iter().map(|one| (one.number, one.name.as_str()));
        for number in periodic::surplus(all, name, keep) {
            store.delete(number).map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// Deletes a checkpoint.
pub fn delete(which: &str) -> Result<(), String> {
    with_store(|store| {
        let number = store.find(Which::from(which)).map_err(|e| e.to_string())?.number;
        store.delete(number).map_err(|error| error.to_string())
    })
}

/// Lists the checkpoints.
pub fn list(out: &mut impl Write) -> Result<(), String> {
    with_store(|store| {
        let rows: Vec<StoreRow> = store
            .list()
            .iter()
            .map(|checkpoint| StoreRow {
                number: checkpoint.number,
                name: &checkpoint.name,
                size: checkpoint.length,
                pages: None,
                when: checkpoint.created,
            })
            .collect();
        write_store(out, &rows).map_err(|error| error.to_string())?;
        let usage = store.usage();
        writeln!(out, "{} of {} MiB free", usage.free >> 20, usage.capacity >> 20)
            .map_err(|error| error.to_string())
    })
}
