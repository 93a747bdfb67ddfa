//! Values that nobody meant in a file's registers: what a machine takes of them harms the guest
//! alone.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{SILENCE, ticks};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::Stasis;
use stasis_qemu_tests::tamper::{self, File};
use stasis_state::guest::Guest;
use stasis_state::register::{Descriptor, VALUE_OFFSET};
use stasis_state::vcpu::{Core, Identity};
use stasis_state::{GuestState, Record, invariants};
use xtask::bench::image::sections;
use xtask::monitor::{Monitor, Socket};
use xtask::workspace::read;

/// All ones, alternating bits, and some at random.
const PATTERNS: [u64; 3] = [u64::MAX, 0xaaaa_aaaa_aaaa_aaaa, 0x9e37_79b9_7f4a_7c15];
/// What a host compares with its own: the test on the host tries these.
const COMPARED: [&str; 2] = ["dist_base", "cpu_base"];
/// PSTATE with all bits that it can have: EL1h, EL0t, and AArch32 at EL0.
const STATES: [u64; 3] = [0xf3f0_3fc5, 0xf3f0_3fc0, 0xffff_fff0];
/// The address of memory on QEMU's `virt`, and the bytes of it that the machine with a neighbour
/// gets.
const MEMORY: (u64, usize) = (0x4000_0000, 256 << 20);
/// The RAM of `idle`.
const VICTIM: usize = 4 << 20;
/// Pages that Stasis takes for the tables of such a guest: one for each block of 2 MiB, and one
/// above them.
const TABLES: usize = 3;
/// Bytes of a page.
const PAGE: usize = 4096;
/// The counter of the golden file's machine; `max` has a faster one.
const COUNTER: u64 = 62_500_000;
/// Every kind of CPU with EL2 that QEMU has.
const CPUS: [&str; 7] =
    ["cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1", "a64fx", "max"];

/// Returns a checkpoint of `idle`.
fn good(lab: &Lab, disk: &Path) -> Result<Vec<u8>> {
    let mut stasis = lab.machine().guest("idle")?.disk(disk).boot()?;
    stasis.attach("idle")?;
    stasis.qemu.console.wait_for("idle\r\n", SILENCE)?;
    stasis.detach()?;
    let number = stasis.checkpoint("idle", "good")?;
    stasis.quit()?;
    tamper::get(disk, number)
}

/// Sets an element of a register, as far as its width goes.
fn set(record: &mut impl Record, register: &Descriptor, element: usize, pattern: u64) {
    let width = usize::from(register.shape.width);
    let start = register.offset + VALUE_OFFSET + element * width;
    let bytes = pattern.to_le_bytes().repeat(2);
    record.as_mut_bytes()[start..][..width].copy_from_slice(&bytes[..width]);
}

/// Returns the file with `pattern` in each element of a record's registers that may have it.
fn with<R: Record>(
    bytes: &[u8],
    good: &GuestState,
    record: fn(&mut GuestState) -> &mut R,
    pattern: u64,
) -> Result<Vec<u8>> {
    let mut state = good.clone();
    for register in R::REGISTERS.iter().filter(|one| !COMPARED.contains(&one.name)) {
        for element in 0..register.shape.count.into() {
            let before = record(&mut state).clone();
            set(record(&mut state), register, element, pattern);
            if invariants::check(&state.records()).is_err() {
                *record(&mut state) = before;
            }
        }
    }
    let mut file = File::parse(bytes)?;
    let place = file.records.iter_mut().find(|one| one.is(R::TYPE) && one.instance == 0);
    place.context("it has no such record")?.body = record(&mut state).as_bytes().to_vec();
    Ok(file.to_bytes())
}

/// Returns files that a machine takes, each with the name of what is odd in it.
fn odd(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let good = tamper::state(bytes)?;
    let mut files = Vec::new();
    for (n, pattern) in PATTERNS.into_iter().enumerate() {
        let mut add = |name: &str, bytes| files.push((format!("{name}-{n}"), bytes));
        add("clock", with(bytes, &good, |state| &mut state.clock, pattern)?);
        add("distributor", with(bytes, &good, |state| &mut *state.distributor, pattern)?);
        add("gicc", with(bytes, &good, |state| &mut state.vcpus[0].cpu_interface, pattern)?);
        add("core", with(bytes, &good, |state| &mut state.vcpus[0].core, pattern)?);
        add("system", with(bytes, &good, |state| &mut state.vcpus[0].system, pattern)?);
        add("fp", with(bytes, &good, |state| &mut state.vcpus[0].fp, pattern)?);
        add("debug", with(bytes, &good, |state| &mut state.vcpus[0].debug, pattern)?);
        add("power", with(bytes, &good, |state| &mut state.vcpus[0].power, pattern)?);
        add("pl011", with(bytes, &good, |state| &mut state.devices.pl011, pattern)?);
        add("pl031", with(bytes, &good, |state| &mut state.devices.pl031, pattern)?);
    }
    for pstate in STATES {
        let mut file = File::parse(bytes)?;
        file.set::<Core>(0, "pstate", pstate)?;
        files.push((format!("pstate-{pstate:x}"), file.to_bytes()));
    }
    Ok(files)
}

/// Returns the file of a guest with this much RAM, all zeros.
fn with_ram(bytes: &[u8], size: u64) -> Result<Vec<u8>> {
    let mut file = File::parse(bytes)?;
    file.set::<Guest>(0, "ram_size", size)?;
    file.clear_memory();
    Ok(file.to_bytes())
}

/// Removes a guest, whatever it does.
fn remove(stasis: &mut Stasis, guest: &str) -> Result<()> {
    // The guest may have crashed: then there is nothing to stop.
    let _ = stasis.command(&format!("stop {guest}"));
    stasis.command(&format!("remove {guest}")).map(drop)
}

/// Returns all of the machine's memory.
fn memory(lab: &Lab, monitor: &mut Monitor) -> Result<Vec<u8>> {
    let path = lab.path("memory");
    let (start, len) = MEMORY;
    let arguments = json!({ "val": start, "size": len, "filename": path.to_str() });
    monitor.ask(&json!({ "execute": "pmemsave", "arguments": arguments }).to_string())?;
    let bytes = read(&path)?;
    ensure!(bytes.len() == len, "QEMU has saved {} bytes", bytes.len());
    Ok(bytes)
}

/// Returns where Stasis's image is in memory, how much of it is code and constants, and how much it
/// is with all its variables.
fn image(memory: &[u8]) -> Result<(usize, usize, usize)> {
    let built = Built::get()?;
    let flat = read(&built.image)?;
    let header = flat.first_chunk::<64>().context("the image is too short")?;
    let pages = memory.chunks(PAGE);
    let page = pages.into_iter().position(|page| page.starts_with(header));
    let size = u64::from_le_bytes(header[16..24].try_into()?);
    let sections = sections(&read(&built.elf)?)?;
    let of = |name: &str| sections.get(name).map_or(0, |size| *size as usize);
    let constants = of(".text").next_multiple_of(PAGE) + of(".rodata");
    Ok((page.context("Stasis is not in memory")? * PAGE, constants, size.try_into()?))
}

/// Makes sure that memory has changed nowhere but in Stasis's variables, in a place for the guest
/// that was free, and in free pages for its tables.
fn only_its_own_has_changed(before: &[u8], after: &[u8]) -> Result<()> {
    let (start, constants, size) = image(before)?;
    let code = start..start + constants;
    ensure!(before[code.clone()] == after[code], "Stasis's code or constants have changed");
    let outside = |at: &usize| !(start..start + size).contains(at);
    let differs = |at: &usize| before[*at..][..PAGE] != after[*at..][..PAGE];
    let changed: Vec<usize> =
        (0..before.len()).step_by(PAGE).filter(outside).filter(differs).collect();
    let by_place = changed.chunk_by(|a, b| a / VICTIM == b / VICTIM);
    let (tables, guests): (Vec<&[usize]>, Vec<&[usize]>) =
        by_place.partition(|pages| pages.len() <= TABLES);
    ensure!(
        guests.len() <= 1 && tables.concat().len() <= TABLES,
        "memory has changed in more places than the guest's and some tables: {changed:x?}"
    );
    // In the first page are the instructions by which QEMU has entered Stasis: nobody's any more.
    let was_free = |at: &&usize| **at == 0 || before[**at..][..PAGE].iter().all(|byte| *byte == 0);
    let used = changed.iter().find(|at| !was_free(at));
    ensure!(used.is_none(), "{used:x?} was somebody's, and has changed");
    Ok(())
}

pub fn any_value_in_a_register_leaves_all_others_as_they_were(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let good = good(lab, &disk)?;
    let mut taken = Vec::new();
    for (name, bytes) in odd(&good)? {
        taken.push((tamper::put(&disk, &name, &bytes)?, name));
    }
    let mut refused = Vec::new();
    for size in [PAGE as u64, (2 << 20) + PAGE as u64, (4 << 20) - PAGE as u64] {
        refused.push(tamper::put(&disk, &format!("ram-{size:x}"), &with_ram(&good, size)?)?);
    }

    let (socket, mut model) = (Socket::new()?, Model::new());
    let machine = lab.machine().memory("256M").monitor(&socket).disk(&disk);
    let mut stasis = machine.guest("counter")?.boot()?;
    let mut monitor = socket.connect()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 5)?;
    stasis.detach()?;
    stasis.command("pause counter")?;
    let before = memory(lab, &mut monitor)?;
    for number in refused {
        stasis.refused_for(&format!("resume {number}"), &["multiple of 0x200000"])?;
    }
    for (number, name) in &taken {
        stasis.resume(number).with_context(|| name.clone())?;
        stasis.is_alive().with_context(|| name.clone())?;
        remove(&mut stasis, "idle").with_context(|| name.clone())?;
    }
    only_its_own_has_changed(&before, &memory(lab, &mut monitor)?)?;
    stasis.command("unpause counter")?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 5)?;
    stasis.detach()?;
    stasis.quit()
}

/// Checkpoints made of a golden one, for CPUs whose DC ZVA zeroes blocks of this size.
struct Files {
    portable: Vec<u64>,
    /// Files that are refused, each with a word of the refusal.
    malformed: Vec<(u64, &'static str)>,
}

impl Files {
    /// Puts them on a disk. `block` is DCZID_EL0.BS, which differs between CPUs, and would be
    /// refused before all else.
    fn put(disk: &Path, golden: &[u8], block: u64) -> Result<Self> {
        let with_state = |pfr0: u64, pstate: u64| -> Result<File> {
            let mut file = File::parse(golden)?;
            let ctr = u64::from_le_bytes(file.register::<Identity>(0, "ctr_el0")?.try_into()?);
            // Indexed by virtual addresses: what a guest does for such caches is right on each CPU.
            file.set::<Identity>(0, "ctr_el0", ctr & !(3 << 14) | 2 << 14)?;
            file.set::<Identity>(0, "dczid_el0", block)?;
            file.set::<Identity>(0, "id_aa64pfr0_el1", pfr0)?;
            file.set::<Core>(0, "pstate", pstate)?;
            Ok(file)
        };
        let put = |name: &str, bytes: &[u8]| tamper::put(disk, &format!("{name}-{block}"), bytes);
        let mut files = Self { portable: Vec::new(), malformed: Vec::new() };
        for (name, pstate) in [("aarch64", 0x3c5), ("aarch32", 0x10)] {
            files.portable.push(put(name, &with_state(0x12, pstate)?.to_bytes())?);
        }
        let odd = with_ram(&with_state(0x11, 0x3c5)?.to_bytes(), (32 << 20) + PAGE as u64)?;
        let malformed = [
            (with_state(0x11, 0x10)?.to_bytes(), "AArch32"),
            (with_state(0x11, 0x3c9)?.to_bytes(), "EL1 or EL0"),
            (with_state(0x11, 1 << 40 | 0x3c5)?.to_bytes(), "reserved bits"),
            (odd, "multiple of 0x200000"),
        ];
        for (n, (bytes, word)) in malformed.iter().enumerate() {
            files.malformed.push((put(&format!("malformed-{n}"), bytes)?, *word));
        }
        Ok(files)
    }
}

pub fn every_cpu_goes_on_with_what_it_has_and_refuses_the_rest(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let golden = Built::get()?.workspace.root().join("tests/golden/running/1.0-handler.stasis");
    let golden = read(&golden)?;
    let number = tamper::put(&disk, "golden", &golden)?;
    let a64fx = Files::put(&disk, &golden, 6)?;
    let others = Files::put(&disk, &golden, 4)?;
    for cpu in CPUS {
        let mut stasis = lab
            .machine()
            .no_archive()
            .cpu(&format!("{cpu},cntfrq={COUNTER}"))
            .disk(&disk)
            .boot()?;
        let files = if cpu == "a64fx" { &a64fx } else { &others };
        for (number, word) in &files.malformed {
            stasis.refused_for(&format!("resume {number}"), &[word]).context(cpu)?;
        }
        for number in &files.portable {
            if cpu == "a64fx" {
                let words = ["ID_AA64PFR0_EL1.EL0 is 2, and this machine's is 1"];
                stasis.refused_for(&format!("resume {number}"), &words)?;
            } else {
                stasis.resume(number).context(cpu)?;
                remove(&mut stasis, "handler").context(cpu)?;
            }
            stasis.is_alive().context(cpu)?;
        }
        if stasis.command(&format!("resume {number}")).is_err() {
            // The guest's first Stasis has promised caches that this CPU may not have.
            stasis.refused_for(&format!("resume {number}"), &["and this machine's is"])?;
        }
        stasis.is_alive().context(cpu)?;
        stasis.quit()?;
    }
    Ok(())
}
