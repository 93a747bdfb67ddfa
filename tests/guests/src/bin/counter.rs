//! Counts the interrupts of its virtual timer, 100 in a second, and changes its memory with each.
//!
//! Every tenth tick it prints `tick <n> hash <16 hex digits>`: the hash of its whole working set,
//! which nothing but `n` decides (`stasis_guests::workload`). It waits for the ticks with a value
//! in every general and vector register, and compares after each tick what the machine holds for it
//! with what it set up. What is not as it was is printed as `FAULT <what>`, once for each.

#![no_std]
#![no_main]

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use stasis_guests::mmio::{read8, read32, write8};
use stasis_guests::sysreg::unmask_irqs;
use stasis_guests::{gic, mrs, msr, println, timer, workload};

stasis_guests::entry!(main, irq);

/// Interrupts of the timer in a second.
const RATE: u64 = 100;
const PRIORITY: u8 = 0xa0;
/// An SPI that is set up and never comes.
const SILENT_SPI: u32 = 72;
/// A tick that comes later than this means that the guest's time ran while the guest did not.
const LATE_SECONDS: u64 = 5;

static mut WORKING_SET: [u64; workload::WORDS] = [0; workload::WORDS];
static TICKS: AtomicU64 = AtomicU64::new(0);
static DEADLINE: AtomicU64 = AtomicU64::new(0);
static LAST_TIME: AtomicU64 = AtomicU64::new(0);

global_asm!(
    r#"
// fn wait(seed: x0, ticks: x1, seen: x2) -> x0 Fills X3 to X28 and V0 to V31 with multiples of the
// seed, waits until *ticks is not what was seen, and returns the bits that the registers have wrong
// by then.
.text
.globl  counter_wait
counter_wait:
stp     x19, x20, [sp, #-160]!
stp     x21, x22, [sp, #16]
stp     x23, x24, [sp, #32]
stp     x25, x26, [sp, #48]
stp     x27, x28, [sp, #64]
stp     x29, x30, [sp, #80]
stp     d8, d9, [sp, #96]
stp     d10, d11, [sp, #112]
stp     d12, d13, [sp, #128]
stp     d14, d15, [sp, #144]
mov     x30, x0
.irp    n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28
add     x30, x30, x0
mov     x\n, x30
.endr
.irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
add     x30, x30, x0
mov     v\n\().d[0], x30
add     x30, x30, x0
mov     v\n\().d[1], x30
.endr
0:  wfi
ldr     x30, [x1]
cmp     x30, x2
b.eq    0b
mov     x30, x0
mov     x29, #0
.irp    n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28
add     x30, x30, x0
eor     x\n, x\n, x30
orr     x29, x29, x\n
.endr
.irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
add     x30, x30, x0
mov     x3, v\n\().d[0]
eor     x3, x3, x30
orr     x29, x29, x3
add     x30, x30, x0
mov     x3, v\n\().d[1]
eor     x3, x3, x30
orr     x29, x29, x3
.endr
mov     x0, x29
ldp     d14, d15, [sp, #144]
ldp     d12, d13, [sp, #128]
ldp     d10, d11, [sp, #112]
ldp     d8, d9, [sp, #96]
ldp     x29, x30, [sp, #80]
ldp     x27, x28, [sp, #64]
ldp     x25, x26, [sp, #48]
ldp     x23, x24, [sp, #32]
ldp     x21, x22, [sp, #16]
ldp     x19, x20, [sp], #160
ret
"#
);

unsafe extern "C" {
    /// # Safety
    /// `ticks` must be valid to read.
    fn counter_wait(seed: u64, ticks: *const u64, seen: u64) -> u64;
}

/// A name, and how to read what it names.
type Invariant = (&'static str, fn() -> u64);

/// What must never change.
const INVARIANTS: &[Invariant] = &[
    ("TPIDR_EL1", || mrs!("TPIDR_EL1")),
    ("TPIDR_EL0", || mrs!("TPIDR_EL0")),
    ("TPIDRRO_EL0", || mrs!("TPIDRRO_EL0")),
    ("CONTEXTIDR_EL1", || mrs!("CONTEXTIDR_EL1")),
    ("CNTKCTL_EL1", || mrs!("CNTKCTL_EL1")),
    ("CSSELR_EL1", || mrs!("CSSELR_EL1")),
    ("SP_EL0", || mrs!("SP_EL0")),
    ("SCTLR_EL1", || mrs!("SCTLR_EL1")),
    ("CPACR_EL1", || mrs!("CPACR_EL1")),
    ("TCR_EL1", || mrs!("TCR_EL1")),
    ("TTBR0_EL1", || mrs!("TTBR0_EL1")),
    ("TTBR1_EL1", || mrs!("TTBR1_EL1")),
    ("MAIR_EL1", || mrs!("MAIR_EL1")),
    ("VBAR_EL1", || mrs!("VBAR_EL1")),
    ("PAR_EL1", || mrs!("PAR_EL1")),
    ("FAR_EL1", || mrs!("FAR_EL1")),
    ("FPCR", || mrs!("FPCR")),
    ("FPSR", || mrs!("FPSR")),
    ("MPIDR_EL1", || mrs!("MPIDR_EL1")),
    ("MIDR_EL1", || mrs!("MIDR_EL1")),
    ("CNTP_CVAL_EL0", || mrs!("CNTP_CVAL_EL0")),
    ("CNTP_CTL_EL0", || mrs!("CNTP_CTL_EL0")),
    ("GICD_CTLR", || read32(gic::GICD_CTLR).into()),
    ("GICD_TYPER", || read32(gic::GICD_TYPER).into()),
    ("GICD_ISENABLER0", || read32(gic::GICD_ISENABLER).into()),
    ("GICD_ISENABLER2", || read32(gic::GICD_ISENABLER + 8).into()),
    ("GICD_ISACTIVER0", || read32(gic::GICD_ISACTIVER).into()),
    ("the timer's priority", || gic::priority(timer::VIRTUAL).into()),
    ("the SPI's priority", || gic::priority(SILENT_SPI).into()),
    ("the SPI's target", || read8(gic::GICD_ITARGETSR + SILENT_SPI as usize).into()),
    ("GICD_ICFGR4", || read32(gic::GICD_ICFGR + 16).into()),
    ("GICC_CTLR", || read32(gic::GICC_CTLR).into()),
    ("GICC_PMR", || read32(gic::GICC_PMR).into()),
    ("GICC_BPR", || read32(gic::GICC_BPR).into()),
];

fn snapshot() -> [u64; INVARIANTS.len()] {
    core::array::from_fn(|i| INVARIANTS[i].1())
}

fn set_up() {
    msr!("TPIDR_EL1", 0x5441_5349_5300_0001);
    msr!("TPIDR_EL0", 0x5441_5349_5300_0002);
    msr!("TPIDRRO_EL0", 0x5441_5349_5300_0003);
    msr!("CONTEXTIDR_EL1", 0x1234_5678);
    msr!("CNTKCTL_EL1", 0x3);
    msr!("CSSELR_EL1", 0x2);
    msr!("SP_EL0", 0x4008_1230);
    msr!("TTBR1_EL1", 0x4ff0_0000);
    msr!("FAR_EL1", 0xffff_0000_1234_5678);
    // RMode, round towards zero.
    msr!("FPCR", 3 << 22);
    // QC, which is cumulative.
    msr!("FPSR", 1 << 27);
    msr!("CNTP_CVAL_EL0", 0x0fff_ffff_ffff_0000);
    msr!("CNTP_CTL_EL0", timer::IMASK);
    gic::init();
    gic::enable(timer::VIRTUAL, PRIORITY);
    gic::enable(SILENT_SPI, 0x50);
    write8(gic::GICD_ITARGETSR + SILENT_SPI as usize, 1);
    stasis_guests::mmio::write32(gic::GICD_ICFGR + 16, 0x2 << (SILENT_SPI % 16 * 2));
}

fn main() {
    let set = &raw mut WORKING_SET;
    // SAFETY: This is the only reference to the working set; the interrupt handler does not touch
    // it.
    let words = unsafe { &mut *set };
    let interval = timer::frequency() / RATE;
    println!("counter: {} words, {RATE} ticks per second", words.len());
    workload::fill(words);
    println!("tick 0 hash {:016x}", workload::hash(words));

    set_up();
    let expected = snapshot();
    let mut reported = [false; INVARIANTS.len()];
    DEADLINE.store(timer::now() + interval, Relaxed);
    LAST_TIME.store(timer::now(), Relaxed);
    msr!("CNTV_CVAL_EL0", DEADLINE.load(Relaxed));
    msr!("CNTV_CTL_EL0", timer::ENABLE);
    unmask_irqs();

    let mut done = 0;
    loop {
        let seed = 0x0101_0101_0101_0101 ^ done;
        // SAFETY: The counter is a static.
        let wrong = unsafe { counter_wait(seed, TICKS.as_ptr(), done) };
        if wrong != 0 {
            println!("FAULT X or V registers, by {wrong:#x}");
        }
        while done < TICKS.load(Relaxed) {
            done += 1;
            workload::tick(words, done);
            if done.is_multiple_of(workload::TICKS_PER_HASH) {
                println!("tick {done} hash {:016x}", workload::hash(words));
            }
        }
        for (i, (name, read)) in INVARIANTS.iter().enumerate() {
            let found = read();
            if found != expected[i] && !reported[i] {
                reported[i] = true;
                println!("FAULT {name} is {found:#x}, was {:#x}", expected[i]);
            }
        }
    }
}

fn irq() {
    let iar = read32(gic::GICC_IAR);
    if iar == gic::SPURIOUS {
        return once(&SPURIOUS_SEEN, "a spurious interrupt", 0);
    }
    if iar != timer::VIRTUAL {
        once(&IAR_WRONG, "GICC_IAR", iar.into());
    }
    let running = read32(gic::GICC_RPR);
    if running != PRIORITY.into() {
        once(&RPR_WRONG, "GICC_RPR", running.into());
    }
    if read32(gic::GICD_ISACTIVER) != 1 << timer::VIRTUAL {
        once(&NOT_ACTIVE, "GICD_ISACTIVER0 in the handler", read32(gic::GICD_ISACTIVER).into());
    }

    let now = timer::now();
    let deadline = DEADLINE.load(Relaxed);
    if now < LAST_TIME.swap(now, Relaxed) || now < deadline {
        once(&TIME_BACK, "CNTVCT went back, to", now);
    }
    if now > deadline + LATE_SECONDS * timer::frequency() {
        once(&TIME_JUMPED, "CNTVCT jumped, by", now - deadline);
    }
    // From now, not from the last deadline: an emulator that cannot keep the rate must not fall
    // behind for ever.
    let next = now + timer::frequency() / RATE;
    DEADLINE.store(next, Relaxed);
    msr!("CNTV_CVAL_EL0", next);
    TICKS.fetch_add(1, Relaxed);
    stasis_guests::mmio::write32(gic::GICC_EOIR, iar);
}

static SPURIOUS_SEEN: AtomicBool = AtomicBool::new(false);
static IAR_WRONG: AtomicBool = AtomicBool::new(false);
static RPR_WRONG: AtomicBool = AtomicBool::new(false);
static NOT_ACTIVE: AtomicBool = AtomicBool::new(false);
static TIME_BACK: AtomicBool = AtomicBool::new(false);
static TIME_JUMPED: AtomicBool = AtomicBool::new(false);

fn once(reported: &AtomicBool, what: &str, value: u64) {
    if !reported.swap(true, Relaxed) {
        println!("FAULT {what} {value:#x}");
    }
}
