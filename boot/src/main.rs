//! The Stasis hypervisor: brings up the machine, and connects the crates that know no hardware to
//! the hardware.
//!
//! [`machine`] finds the machine, and [`memory`] maps it. [`smp`] starts the other cores.
//! [`guests`] makes the guests, which [`stasis_run`] runs. [`terminal`], [`logger`] and
//! [`mod@panic`] say what happens, and [`console`] does what is asked.

#![no_std]
#![no_main]
#![cfg_attr(not(feature = "full"), allow(dead_code, reason = "commands alone use it"))]

extern crate alloc;

mod archive;
mod at_el1;
mod care;
mod clearing;
mod devices;
mod duties;
mod early;
mod firmware;
#[cfg(feature = "full")]
mod full;
mod guests;
#[cfg(not(feature = "full"))]
mod lean;
mod logger;
mod machine;
mod meanwhile;
mod memory;
mod notes;
mod output;
mod panic;
mod plans;
mod registry;
mod smp;
mod starved;
mod uplinks;
mod work;

use alloc::vec::Vec;
// One of the two: the rest of the crate does not know which.
#[cfg(feature = "full")]
use full::*;
#[cfg(not(feature = "full"))]
use lean::*;
use machine::Machine;
use stasis_arch::{mmu, timer};
use stasis_hw::mmio::Frame;
use stasis_hw::pl031::Pl031;
use stasis_hw::rng200::Rng200;
use stasis_run::turns::{self, Task};
use stasis_run::{clock, gic, pool, random};
use storage::Storage;
use work::Work;

/// Boots the machine on its first core, and then serves the console and vCPUs for ever. The entry
/// code jumps here, with an early translation that maps only the image and the device tree.
///
/// # Safety
///
/// The entry code alone calls this, once, on the first core, with the address of the device tree
/// that the boot protocol has passed.
#[unsafe(no_mangle)]
unsafe extern "C" fn stasis_primary(device_tree: u64) -> ! {
    // SAFETY: nothing was allocated yet, and this function runs once.
    unsafe { memory::init_heap() };
    // SAFETY: 1. The entry code has passed on the address that the boot protocol has. 2. That code
    // has installed the early translation, and the heap was made above.
    let machine = unsafe { reach(device_tree) };

    // SAFETY: the device tree says that the frame is the UART's. It is mapped as a device, and only
    // this driver uses it.
    output::init(unsafe { machine::serial(machine.uart) });
    clock::init_counter(&machine).unwrap_or_else(|error| panic::give_up(&error));
    logger::init(machine.bootargs);
    log::info!("Stasis {} on {}", env!("CARGO_PKG_VERSION"), machine.model);
    if let Some(console) = machine.lost_console {
        log::warn!("the console \"{console}\" is not there; this is another one");
    }
    firmware::init(&machine);
    let rtc = machine.rtc.map(|device| {
        // SAFETY: 1. The device tree says that the frame is a PL031's; the final translation maps
        // it as a device. 2. The driver only reads it.
        Pl031::new(unsafe { Frame::new(device.frame.start as usize) })
    });
    // SAFETY: there is no guest yet, so none is loaded on this core, and nobody has set a deadline.
    let timer_fires = unsafe { timer::fires_across_zero() };
    clock::init(rtc, !timer_fires);
    let gic = machine.gic.unwrap_or_else(|error| panic::give_up(&error));
    // SAFETY: 1. `Machine` is proof that the device tree says this of the GIC's frames, and that
    // they are mapped as devices for ever. 2. Only this driver uses them.
    unsafe { gic::init(&gic) };
    // SAFETY: 1. The final tables are installed. 2. This is the first core, which has started no
    // other one. 3. No vCPU is loaded, and EL2 has set no deadline.
    let ready = unsafe { smp::start(&machine) };
    let free = machine.free_ram(memory::image());
    log::info!(
        "{} cores, {} MiB of RAM free, {} list registers, a counter of {} Hz",
        smp::present().count(),
        free.free_bytes() >> 20,
        gic::list_registers(),
        timer::frequency()
    );
    let mut task = Task::make();
    let (mut storage, disk) = Storage::find(&machine, &mut task);
    devices::init(&machine, disk);
    random::init([&machine.seed, &generated(&machine, &mut task)]);
    chores::prepare(&machine);
    stasis_run::above::init(&duties::Duties);
    meanwhile::init(&duties::Duties);
    // SAFETY: 1. The translation that was installed maps all RAM one to one as data, for ever;
    // `free_ram` leaves out parts of pages. 2. `free_ram` leaves out the image with its heap and
    // stacks, and what the firmware has put into RAM. Nobody has taken any of the rest.
    unsafe { pool::init(free) };
    let mut work = Work { task: &mut task, storage: &mut storage };
    guests::init(&machine, &mut work);
    chores::open(&machine);
    let work = &mut |task: &mut Task| duties::serve(&mut Work { task, storage: &mut storage });
    turns::serve_console(ready, task, work)
}

/// Returns random bytes of the machine's generator; none if it has none, or none that can be used.
fn generated(machine: &Machine<'_>, task: &mut Task) -> Vec<u8> {
    let Some(device) = machine.random else { return Vec::new() };
    // SAFETY: 1. The device tree says that the frame is an RNG200's; the final translation maps it
    // as a device. 2. Only this driver uses it: there is no guest yet that could have it. 3. It
    // changes no memory.
    let generator = Rng200::new(unsafe { Frame::new(device.frame.start as usize) });
    match generator.words(task) {
        Ok(words) => {
            log::info!("random numbers from the machine's generator");
            words.into_iter().flat_map(u32::to_le_bytes).collect()
        }
        Err(why) => {
            log::warn!("the machine's random number generator is not used: {why}");
            Vec::new()
        }
    }
}

/// Returns the machine that the device tree describes, once EL2 reaches all of it by a translation
/// of its own.
///
/// # Safety
///
/// `device_tree` is the address that the boot protocol has passed. The early translation is
/// installed, and the heap is there.
unsafe fn reach(device_tree: u64) -> Machine<'static> {
    // SAFETY: the boot protocol passes the address of the device tree, by the caller; the entry
    // code has mapped it; nobody writes it.
    let described = unsafe { machine::find(device_tree) };
    let machine = described.unwrap_or_else(|error| panic::give_up(&error));
    let translation = memory::map(&machine);
    let translation =
        translation.unwrap_or_else(|error| panic!("cannot map the machine: {error:?}"));
    // SAFETY: 1. This is a 39-bit translation with 4 KiB pages that maps one to one the image as
    // the linker laid it out, all RAM and the devices.
    // 2. Its tables are never freed. 3. The early translation is one to one, too.
    unsafe { mmu::install(translation.root()) };
    // SAFETY: 1. `machine::find` has returned it. 2. `memory::map` maps all of both so, and the
    // translation stays for ever. `smp` starts other cores with it.
    unsafe { Machine::reached(machine) }
}
