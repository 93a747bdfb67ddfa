//! The end of Stasis: a panic, or an exception at EL2. The core reports what happened and where,
//! and stops.

use crate::{output, terminal};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use stasis_arch::cpu;
use stasis_arch::vectors::FatalFrame;
use stasis_guest::exit;
use stasis_host::board::MachineError;

/// Prints a line, even if the lock of the output is lost.
macro_rules! say {
    ($($argument:tt)*) => {
        output::write_in_panic(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Whether a core has ended. The first one sets this and reports; the others stop silently, so that
/// the report stays whole.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Says why Stasis can't run on this machine, and stops. Nothing is wrong with Stasis itself, so
/// there is no report. Must be called before other cores are started.
pub fn give_up(why: &MachineError) -> ! {
    find_uart();
    say!("error: Stasis can't run on this machine: {why}");
    stop()
}

/// Looks for a UART, if the boot had not come to the line that sets one.
fn find_uart() {
    // SAFETY: 1. All callers stop the program next. 2. The UART is set before other cores are
    // started, so only this core runs if none is, and what it says lies in the image.
    unsafe { output::find_in_panic() };
}

fn stop() -> ! {
    loop {
        cpu::wait_for_interrupt();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    if !ENDING.swap(true, Ordering::Relaxed) {
        find_uart();
        terminal::show_waiting_in_panic();
        say!("\n*** Stasis panicked on core {}", cpu::number());
        say!("{info}");
    }
    stop()
}

/// Reports an exception that EL2 itself has taken, and stops. The vector table jumps here, on the
/// emergency stack.
#[unsafe(no_mangle)]
extern "C" fn stasis_fatal_exception(frame: &FatalFrame) -> ! {
    const VECTORS: [&str; 4] = ["synchronous exception", "IRQ", "FIQ", "SError"];
    if ENDING.swap(true, Ordering::Relaxed) {
        stop();
    }
    find_uart();
    terminal::show_waiting_in_panic();
    let image = crate::memory::image();
    say!("\n*** {} at EL2 on core {}", VECTORS[frame.vector as usize % 4], cpu::number());
    say!("ESR  {:#018x}  {}", frame.esr, exit::describe(frame.esr));
    say!("ELR  {:#018x}  {}", frame.elr, ImageOffset { address: frame.elr, image });
    say!("FAR  {:#018x}  SPSR {:#010x}  SP {:#018x}", frame.far, frame.spsr, frame.sp);
    for (n, registers) in frame.x.chunks(4).enumerate() {
        for (i, value) in registers.iter().enumerate() {
            output::write_in_panic(format_args!("X{:<2}  {value:#018x}  ", 4 * n + i));
        }
        say!("");
    }
    say!("LR   {}", ImageOffset { address: frame.x[30], image });
    stop()
}

/// An address, written as its offset in the image, because the symbols of the image's ELF file are
/// such offsets.
struct ImageOffset {
    address: u64,
    image: stasis_memory::range::Range,
}

impl core::fmt::Display for ImageOffset {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        if self.image.contains(self.address) {
            write!(f, "image + {:#x}", self.address - self.image.start)
        } else {
            f.write_str("not in the image")
        }
    }
}
