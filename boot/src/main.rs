//! The Stasis hypervisor: bringing up the machine, and wiring the pure crates to the hardware.
//!
//! [`machine`] and [`memory`] find and map it; [`smp`] brings up the other cores;
//! [`output`] and [`panic`] say what happens.

#![no_std]
#![no_main]

extern crate alloc;

#[macro_use]
mod output;
mod checkpoint;
mod clock;
mod console;
mod cores;
mod firmware;
mod gic;
mod guests;
mod machine;
mod memory;
mod panic;
mod slot;
mod smp;
mod storage;

use machine::Machine;
use stasis_hw::mmio::Frame;
use stasis_hw::pl011::Pl011;

/// The first core arrives here from the entry code, with an early translation that maps the image and
/// the device tree only.
#[unsafe(no_mangle)]
extern "C" fn stasis_primary(device_tree: u64) -> ! {
    // SAFETY: this is the first thing that happens, and happens once.
    unsafe { memory::init_heap() };
    // SAFETY: the boot protocol hands over the device tree; the entry code has mapped it; it is never
    // written.
    let machine = unsafe { Machine::find(device_tree) };
    // Without the machine there is no UART to say so.
    let machine = machine.unwrap_or_else(|error| panic!("{error}"));
    let translation = memory::map(&machine);
    let translation =
        translation.unwrap_or_else(|error| panic!("cannot map the machine: {error:?}"));
    // SAFETY: it maps the image as the linker laid it out, all RAM and the devices, one to one; its
    // tables are never freed.
    unsafe { stasis_arch::mmu::install(translation.root()) };

    // SAFETY: the frame is the UART's, mapped as a device, and only this driver uses it.
    let uart = unsafe { Frame::new(machine.uart.frame.start as usize, Pl011::LEN) };
    output::init(Pl011::new(uart));
    output::init_log(machine.bootargs);
    log::info!("Stasis {} on {}", env!("CARGO_PKG_VERSION"), machine.model);
    firmware::init(machine.psci);
    clock::init(&machine);
    let gic = machine.gic.unwrap_or_else(|error| panic!("{error}"));
    gic::init(&gic);
    smp::start(&machine);
    let free = memory::free_ram(&machine);
    log::info!(
        "{} cores, {} MiB of RAM free, {} list registers, a counter of {} Hz",
        smp::present().count(),
        free.free_bytes() >> 20,
        gic::list_registers(),
        stasis_arch::timer::frequency()
    );
    storage::init(&machine);
    guests::init(&machine, gic.gicv, free);
    console::init(machine.uart.intid);
    cores::serve()
}
