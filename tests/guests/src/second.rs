//! A second CPU: started by PSCI, with the first one's view of memory, and made to do what the
//! first one asks.
//!
//! Only the first CPU prints; [`Second::ask`] has the second one call a function and waits for what
//! it returns.

use crate::{mrs, psci};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::mem::transmute;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

const STACK_SIZE: usize = 32 << 10;

/// The registers that the first CPU's memory and vectors depend on, and a stack. The assembly
/// relies on the layout.
#[repr(C, align(64))]
struct Start {
    mair: u64,
    tcr: u64,
    ttbr0: u64,
    vbar: u64,
    sctlr: u64,
    cpacr: u64,
    stack: u64,
    context: u64,
}

#[repr(C, align(64))]
struct Shared<T>(UnsafeCell<T>);

// SAFETY: The first CPU writes while the second one is off; then only the second one uses them.
unsafe impl<T> Sync for Shared<T> {}

static START: Shared<Start> = Shared(UnsafeCell::new(Start {
    mair: 0,
    tcr: 0,
    ttbr0: 0,
    vbar: 0,
    sctlr: 0,
    cpacr: 0,
    stack: 0,
    context: 0,
}));
static STACK: Shared<[u8; STACK_SIZE]> = Shared(UnsafeCell::new([0; STACK_SIZE]));

/// The address of the function that the second CPU must call; 0 if there is none.
static FUNCTION: AtomicUsize = AtomicUsize::new(0);
static ARGUMENT: AtomicU64 = AtomicU64::new(0);
static RESULT: AtomicU64 = AtomicU64::new(0);
/// The context it was started with.
static CONTEXT: AtomicU64 = AtomicU64::new(u64::MAX);

global_asm!(
    r#"
    .text
    .globl guest_second_entry
guest_second_entry:
    msr     daifset, #0xf
    ldp     x1, x2, [x0]
    ldp     x3, x4, [x0, #16]
    ldp     x5, x6, [x0, #32]
    ldp     x7, x8, [x0, #48]
    msr     mair_el1, x1
    msr     tcr_el1, x2
    msr     ttbr0_el1, x3
    msr     vbar_el1, x4
    msr     cpacr_el1, x6
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el1, x5
    isb
    msr     spsel, #1
    mov     sp, x7
    mov     x0, x8
    bl      guest_second_start
2:  wfi
    b       2b
"#
);

unsafe extern "C" {
    fn guest_second_entry();
}

/// The second CPU, as the first one sees it.
pub struct Second;

impl Second {
    /// MPIDR_EL1 of the second CPU.
    pub const MPIDR: u64 = 1;

    /// Calls CPU_ON, and returns what the firmware answers. The second CPU remembers the context.
    pub fn on(context: u64) -> i32 {
        let start = Start {
            mair: mrs!("MAIR_EL1"),
            tcr: mrs!("TCR_EL1"),
            ttbr0: mrs!("TTBR0_EL1"),
            vbar: mrs!("VBAR_EL1"),
            sctlr: mrs!("SCTLR_EL1"),
            cpacr: mrs!("CPACR_EL1"),
            stack: STACK.0.get() as u64 + STACK_SIZE as u64,
            context,
        };
        // SAFETY: The second CPU is off, or does not read it any more. It reads it past the caches,
        // so it is cleaned.
        unsafe {
            START.0.get().write_volatile(start);
            asm!("dc cvac, {}", "dsb sy", in(reg) START.0.get());
        }
        let entry = guest_second_entry as *const () as u64;
        psci::hvc(u64::from(psci::CPU_ON), [Self::MPIDR, entry, START.0.get() as u64]) as i32
    }

    /// Returns the context with which the second CPU was last started, once it runs.
    pub fn context() -> u64 {
        loop {
            match CONTEXT.swap(u64::MAX, SeqCst) {
                u64::MAX => core::hint::spin_loop(),
                context => return context,
            }
        }
    }

    /// Makes the second CPU call `function`; [`Self::answer`] returns the result.
    pub fn begin(function: fn(u64) -> u64, argument: u64) {
        ARGUMENT.store(argument, SeqCst);
        FUNCTION.store(function as usize, SeqCst);
    }

    /// Returns what the function has returned, once it has.
    pub fn answer() -> u64 {
        while FUNCTION.load(SeqCst) != 0 {
            core::hint::spin_loop();
        }
        RESULT.load(SeqCst)
    }

    /// Makes the second CPU call `function`, waits, and returns the result.
    pub fn ask(function: fn(u64) -> u64, argument: u64) -> u64 {
        Self::begin(function, argument);
        Self::answer()
    }

    /// Makes the second CPU switch itself off.
    pub fn off() {
        Self::begin(
            |_| {
                FUNCTION.store(0, SeqCst);
                psci::hvc(u64::from(psci::CPU_OFF), [0; 3])
            },
            0,
        );
    }
}

/// Returns the number of the calling CPU: 0 or 1.
pub fn this_cpu() -> usize {
    (mrs!("MPIDR_EL1") & 0xff) as usize
}

#[unsafe(no_mangle)]
extern "C" fn guest_second_start(context: u64) -> ! {
    CONTEXT.store(context, SeqCst);
    loop {
        let function = FUNCTION.load(SeqCst);
        if function == 0 {
            core::hint::spin_loop();
            continue;
        }
        // SAFETY: It was such a function in `begin`.
        let function: fn(u64) -> u64 = unsafe { transmute(function) };
        let result = function(ARGUMENT.load(SeqCst));
        RESULT.store(result, SeqCst);
        FUNCTION.store(0, SeqCst);
    }
}
