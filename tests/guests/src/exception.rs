//! Exceptions: those that a guest provokes on purpose are noted and passed over; any other ends the
//! guest.

use crate::{mrs, println, psci};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The registers as the vectors saved them. The assembly of `runtime` relies on this layout.
#[repr(C, align(16))]
pub struct Frame {
    /// X0 to X30.
    pub x: [u64; 31],
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    padding: u64,
    /// V0 to V31.
    pub v: [u128; 32],
    /// FPSR.
    pub fpsr: u64,
    /// FPCR.
    pub fpcr: u64,
}

/// A synchronous exception that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
    /// ELR_EL1.
    pub elr: u64,
}

/// What to do about a synchronous exception.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Expect {
    Nothing = 0,
    /// Go on behind the instruction.
    Skip = 1,
    /// Go on where X30 says: the instruction was never reached, but called.
    Return = 2,
}

static EXPECT: AtomicU64 = AtomicU64::new(Expect::Nothing as u64);
static COUNT: AtomicU64 = AtomicU64::new(0);
static ESR: AtomicU64 = AtomicU64::new(0);
static FAR: AtomicU64 = AtomicU64::new(0);
static ELR: AtomicU64 = AtomicU64::new(0);

fn watch(expect: Expect, action: impl FnOnce()) -> Option<Fault> {
    let before = COUNT.load(Relaxed);
    EXPECT.store(expect as u64, Relaxed);
    action();
    EXPECT.store(Expect::Nothing as u64, Relaxed);
    (COUNT.load(Relaxed) != before).then(|| Fault {
        esr: ESR.load(Relaxed),
        far: FAR.load(Relaxed),
        elr: ELR.load(Relaxed),
    })
}

/// Does what may fault; each instruction that does is skipped. The last fault, if there was one.
pub fn catch(action: impl FnOnce()) -> Option<Fault> {
    watch(Expect::Skip, action)
}

/// Calls an address where there may be no code. The fault, if it did not come back by itself.
pub fn catch_call(address: usize) -> Option<Fault> {
    watch(Expect::Return, || {
        // SAFETY: It returns by the `ret` found there, or through the exception that `watch`
        // prepares for.
        unsafe {
            core::arch::asm!("blr {}", in(reg) address, clobber_abi("C"));
        }
    })
}

unsafe extern "Rust" {
    /// The guest's IRQ handler, which [`entry!`](crate::entry) names.
    safe fn guest_irq();
}

/// ESR_EL1.EC of an SVC.
const EC_SVC: u64 = 0x15;
/// SPSR_EL1 of EL1 on its own stack, with all exceptions masked.
const EL1H_MASKED: u64 = 0x3c5;

/// Calls an address at EL0. It goes back by an SVC, or by a fault, which is returned. X0 is handed
/// over, and what it is then.
///
/// # Safety
/// What is called changes no register but X0, and no memory.
pub unsafe fn catch_at_el0(address: usize, x0: &mut u64) -> Option<Fault> {
    watch(Expect::Return, || {
        // SAFETY: the vectors go on behind the ERET, as `watch` prepares for, with the stack as it
        // was.
        unsafe {
            core::arch::asm!("msr elr_el1, {address}", "msr spsr_el1, {masked}", "adr x30, 2f", "isb", "eret", "2:",
                address = in(reg) address, masked = in(reg) EL0_MASKED, inlateout("x0") *x0, out("x30") _);
        }
    })
}

/// SPSR_EL1 of EL0 with all exceptions masked.
const EL0_MASKED: u64 = 0x3c0;

/// Keeps what a synchronous exception was.
fn note(frame: &Frame) {
    ESR.store(mrs!("ESR_EL1"), Relaxed);
    FAR.store(mrs!("FAR_EL1"), Relaxed);
    ELR.store(frame.elr, Relaxed);
    COUNT.fetch_add(1, Relaxed);
}

/// Called by the vectors: `vector` is the index of the entry that was taken, 0 to 15.
#[unsafe(no_mangle)]
extern "C" fn guest_exception(vector: u64, frame: &mut Frame) {
    const SYNC_SPX: u64 = 4;
    const IRQ_SPX: u64 = 5;
    const SYNC_EL0: u64 = 8;
    let expect = EXPECT.load(Relaxed);
    match vector {
        IRQ_SPX => guest_irq(),
        SYNC_EL0 if expect == Expect::Return as u64 => {
            // An SVC ends what was called; anything else is its fault.
            if mrs!("ESR_EL1") >> 26 != EC_SVC {
                note(frame);
            }
            (frame.elr, frame.spsr) = (frame.x[30], EL1H_MASKED);
        }
        SYNC_SPX if expect != Expect::Nothing as u64 => {
            note(frame);
            frame.elr = if expect == Expect::Return as u64 { frame.x[30] } else { frame.elr + 4 };
        }
        _ => {
            println!(
                "EXCEPTION vector {vector} ESR {:#x} FAR {:#x} ELR {:#x} SPSR {:#x} LR {:#x}",
                mrs!("ESR_EL1"),
                mrs!("FAR_EL1"),
                frame.elr,
                frame.spsr,
                frame.x[30]
            );
            psci::system_off();
        }
    }
}
