//! The Stasis hypervisor: bringing up the machine, and wiring the pure crates to the hardware.
//!
//! [`machine`] and [`memory`] find and map it; [`smp`] brings up the other cores; [`guests`] makes the guests that they
//! [run](stasis_run); [`console`], [`logger`] and [`panic`] say what happens.

#![no_std]
#![no_main]

extern crate alloc;

mod answer;
mod at_el1;
mod care;
mod checkpoint;
mod console;
mod devices;
mod duties;
mod early;
mod firmware;
mod guests;
mod logger;
mod machine;
mod memory;
mod output;
mod panic;
mod resume;
mod smp;
mod storage;
mod typed;
mod work;

use stasis_arch::{mmu, timer};
use stasis_host::board::{Uart, UartKind};
use stasis_hw::mini_uart::MiniUart;
use stasis_hw::mmio::Frame;
use stasis_hw::pl011::Pl011;
use stasis_hw::pl031::Pl031;
use stasis_hw::serial::Serial;
use stasis_run::turns::{self, Task};
use stasis_run::{clock, gic, pool};
use storage::Storage;
use work::Work;

/// The first core arrives here from the entry code, with an early translation that maps the image and
/// the device tree only.
#[unsafe(no_mangle)]
extern "C" fn stasis_primary(device_tree: u64) -> ! {
    // SAFETY: this is the first thing that happens, and happens once.
    unsafe { memory::init_heap() };
    // SAFETY: the boot protocol hands over the device tree; the entry code has mapped it; it is never
    // written.
    let machine = unsafe { machine::find(device_tree) };
    let machine = machine.unwrap_or_else(|error| panic::give_up(&error));
    let translation = memory::map(&machine);
    let translation =
        translation.unwrap_or_else(|error| panic!("cannot map the machine: {error:?}"));
    // SAFETY: it maps the image as the linker laid it out, all RAM and the devices, one to one; its
    // tables are never freed.
    unsafe { mmu::install(translation.root()) };

    // SAFETY: the frame is the UART's, mapped as a device, and only this driver uses it.
    output::init(unsafe { serial(machine.uart) });
    clock::init_counter(&machine).unwrap_or_else(|error| panic::give_up(&error));
    logger::init(machine.bootargs);
    log::info!("Stasis {} on {}", env!("CARGO_PKG_VERSION"), machine.model);
    if let Some(console) = machine.lost_console {
        log::warn!("the console \"{console}\" is not there; this is another one");
    }
    firmware::init(&machine);
    let rtc = machine.rtc.map(|device| {
        // SAFETY: the frame is a PL031's by the device tree, which the final translation maps as a device; the driver only reads it.
        Pl031::new(unsafe { Frame::new(device.frame.start as usize) })
    });
    // SAFETY: no guest is there yet.
    let timer_fires = unsafe { timer::fires_across_zero() };
    clock::init(rtc, !timer_fires);
    let gic = machine.gic.unwrap_or_else(|error| panic::give_up(&error));
    gic::init(&gic);
    let ready = smp::start(&machine);
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
    stasis_run::above::init(&duties::Duties);
    // SAFETY: 1. The translation that was installed maps all RAM one to one as data, for ever; `free_ram` leaves out whole pages. 2. It leaves
    // out the image, with the heap and the stacks, and what the firmware has put somewhere; nobody has taken any of the rest.
    unsafe { pool::init(free) };
    let mut work = Work { task: &mut task, storage: &mut storage };
    guests::init(&machine, gic.gicv, &mut work);
    console::init(machine.uart.device.intid);
    let work = &mut |task: &mut Task| duties::serve(&mut Work { task, storage: &mut storage });
    turns::serve_console(ready, task, work)
}

/// The driver of the console's UART.
///
/// # Safety
///
/// Its frame is mapped as a device, and nothing else uses it.
unsafe fn serial(uart: Uart) -> Serial {
    let base = uart.device.frame.start as usize;
    // SAFETY: the caller's.
    unsafe {
        match uart.kind {
            UartKind::Pl011 => Serial::Pl011(Pl011::new(Frame::new(base))),
            UartKind::Mini => Serial::Mini(MiniUart::new(Frame::new(base))),
        }
    }
}
