//! Measures what a guest's operations cost, in ticks of CNTVCT.
//!
//! Under QEMU with `-icount shift=0,sleep=off` and CNTFRQ at 1 GHz a tick is one instruction,
//! whoever executes it: the guest, a hypervisor below it, or another CPU. Nothing here is Stasis's
//! own; it runs on any hypervisor that shows the machine of QEMU's `virt` with a GICv2, and without
//! one. `cargo xtask bench` runs it and reads what it prints: `bench <operation> min <ticks> median
//! <ticks>`, for 64 rounds of each, after all of them; and before, `begun <ticks>`, the count when
//! `main` was reached.
//!
//! Each result has the cost of the measurement in it, which is that of `empty`. Interrupts are
//! taken through the vectors, which save all registers, as an operating system's do. Before and
//! after what is measured GICC_IIDR is read, which does nothing: who logs the accesses to the GIC
//! sees there which of them belong to a round.

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use stasis_guests::exception::catch;
use stasis_guests::mmio::{read32, write8, write32};
use stasis_guests::second::{Second, this_cpu};
use stasis_guests::sysreg::{mask_irqs, unmask_irqs, wfi};
use stasis_guests::timer::{PHYSICAL, VIRTUAL, now};
use stasis_guests::{gic, mrs, msr, println, psci, rtc, uart};

stasis_guests::entry!(main, irq);

const ROUNDS: usize = 64;
const PRIORITY: u8 = 0xa0;
/// A call that nobody knows: the one that kvm-unit-tests' `micro-bench` makes.
const UNKNOWN_FUNCTION: u32 = 0x4b00_0000;
const SGI: u32 = 5;
/// The SGI that the second CPU answers by [`SGI`].
const PING: u32 = 6;
/// The most SGIs that are pending at once.
const SGIS: u32 = 8;
/// An SPI without a device behind it.
const SPI: u32 = 64;
/// The PL011's interrupt, as on `virt`.
const UART: u32 = 33;
/// The first device of the machine's that a guest of Stasis's is given, and its interrupt.
const GIVEN: (usize, u32) = (0x0c00_0000, 144);
/// A timer is set so far ahead: long enough for the setting itself.
const AHEAD: u64 = 50_000;
/// The second CPU gets as long to be there.
const START_TIME: u64 = 2_000_000_000;
/// The time between two ticks of a process that computes: 10 kHz.
const PERIOD: u64 = 100_000;
/// Rounds of its loop, of two instructions: ten ticks come meanwhile.
const WORK: u64 = 500_000;

/// Interrupts taken so far.
static TAKEN: AtomicU32 = AtomicU32::new(0);
/// When the last one was acknowledged.
static TAKEN_AT: AtomicU64 = AtomicU64::new(0);
/// The registers of the machine's clock, and its interrupt.
static CLOCK: AtomicUsize = AtomicUsize::new(0);
static CLOCK_INTID: AtomicU32 = AtomicU32::new(gic::SPURIOUS);
static SECOND_READY: AtomicU32 = AtomicU32::new(0);
/// The time between two interrupts of the virtual timer; 0 if it fires once.
static TIMER_PERIOD: AtomicU64 = AtomicU64::new(0);
/// Whether the second CPU spins instead of sleeping in WFI.
static SECOND_SPINS: AtomicBool = AtomicBool::new(false);

/// An operation's name, and one round of it: its ticks.
type Operation = (&'static str, fn() -> u64);

const OPERATIONS: [Operation; 25] = [
    ("empty", || time(|| ())),
    ("hypercall", || time(|| call(psci::VERSION))),
    ("hypercall-unknown", || time(|| call(UNKNOWN_FUNCTION))),
    ("gicd-read-isenabler0", || time(|| read32(gic::GICD_ISENABLER))),
    ("gicd-read-iidr", || time(|| read32(gic::GICD_IIDR))),
    ("gicd-write-isenabler0", || time(|| write32(gic::GICD_ISENABLER, 1 << SGI))),
    ("uart-write-imsc", || time(|| write32(uart::IMSC, 0))),
    ("uart-write-dr", || time(|| write32(uart::DR, u32::from(b'.')))),
    ("id-register-read", || time(|| mrs!("ID_AA64PFR0_EL1"))),
    ("ctr-read", || time(|| mrs!("CTR_EL0"))),
    ("cntpct-read", || time(|| mrs!("CNTPCT_EL0"))),
    ("acknowledge", acknowledge),
    ("eoi", end),
    ("fold-and-fill-0", fold_and_fill::<0>),
    ("fold-and-fill-1", fold_and_fill::<1>),
    ("fold-and-fill-2", fold_and_fill::<2>),
    ("fold-and-fill-3", fold_and_fill::<3>),
    ("fold-and-fill-4", fold_and_fill::<4>),
    ("fold-and-fill-8", fold_and_fill::<8>),
    ("sgi-to-self", || until_taken(|| gic::send_to_self(SGI))),
    ("spi-set-pending", || until_taken(|| gic::set_bit(gic::GICD_ISPENDR, SPI))),
    // The UART has sent something by now: so its transmit interrupt is only masked.
    ("uart-interrupt", || until_taken(|| write32(uart::IMSC, uart::INT_TX))),
    ("virtual-timer", virtual_timer),
    ("physical-timer", physical_timer),
    ("busy-with-10-khz", busy_with_ticks),
];

struct Result {
    min: u64,
    median: u64,
}

/// Marks where `cargo xtask bench --profile` stops the machine: before each operation, and after
/// the last.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_mark() {
    // SAFETY: it does nothing, and keeps the function from being left out.
    unsafe { asm!("nop", options(nomem, nostack)) }
}

fn measure(round: fn() -> u64) -> Result {
    bench_mark();
    let mut ticks = [0; ROUNDS];
    ticks.iter_mut().for_each(|ticks| *ticks = round());
    ticks.sort_unstable();
    Result { min: ticks[0], median: ticks[ROUNDS / 2] }
}

#[inline(always)]
fn time<T>(operation: impl FnOnce() -> T) -> u64 {
    edge_of_round();
    let start = now();
    let _ = operation();
    let ticks = now() - start;
    edge_of_round();
    ticks
}

/// Shows who logs the accesses to the GIC where a round begins and where it ends.
#[inline(always)]
fn edge_of_round() {
    read32(gic::GICC_IIDR);
}

#[inline(always)]
fn call(function: u32) {
    // SAFETY: The firmware keeps X4 and up (SMCCC 1.1), and is given no memory of ours to write to.
    unsafe {
        asm!("hvc #0", inout("x0") u64::from(function) => _, out("x1") _, out("x2") _, out("x3") _,
            options(nostack));
    }
}

/// Reading IAR, with an SGI pending and interrupts masked.
fn acknowledge() -> u64 {
    mask_irqs();
    gic::send_to_self(SGI);
    let mut iar = gic::SPURIOUS;
    let ticks = time(|| iar = read32(gic::GICC_IAR));
    assert_eq!(iar & 0x3ff, SGI);
    write32(gic::GICC_EOIR, iar);
    unmask_irqs();
    ticks
}

/// Writing EOIR for it.
fn end() -> u64 {
    mask_irqs();
    gic::send_to_self(SGI);
    let iar = read32(gic::GICC_IAR);
    assert_eq!(iar & 0x3ff, SGI);
    let ticks = time(|| write32(gic::GICC_EOIR, iar));
    unmask_irqs();
    ticks
}

/// Reading which of the SGIs and PPIs are pending, while `PENDING` SGIs are: a hypervisor has to
/// look into the list registers for that, and has to fill them again.
fn fold_and_fill<const PENDING: u32>() -> u64 {
    mask_irqs();
    (0..PENDING).for_each(gic::send_to_self);
    let mut pending = 0;
    let ticks = time(|| pending = read32(gic::GICD_ISPENDR));
    assert_eq!(pending & 0xffff, (1 << PENDING) - 1);
    for _ in 0..PENDING {
        write32(gic::GICC_EOIR, read32(gic::GICC_IAR));
    }
    unmask_irqs();
    ticks
}

/// Returns the ticks from before `send` to the acknowledgement, in the handler, of what `send`
/// sends.
#[inline(always)]
fn until_taken(send: impl FnOnce()) -> u64 {
    let taken = TAKEN.load(SeqCst);
    edge_of_round();
    let start = now();
    send();
    while TAKEN.load(SeqCst) == taken {}
    edge_of_round();
    TAKEN_AT.load(SeqCst) - start
}

/// Returns the ticks from the expiry of the virtual timer, while the guest runs, to the
/// acknowledgement in the handler.
fn virtual_timer() -> u64 {
    let due = now() + AHEAD;
    msr!("CNTV_CVAL_EL0", due);
    msr!("CNTV_CTL_EL0", 1);
    since_due(due)
}

/// Returns the ticks from the expiry of the physical timer to the acknowledgement in the handler.
/// Under Stasis CNTPCT is CNTVCT; plain QEMU has no offset between them at EL1 either.
fn physical_timer() -> u64 {
    let due = now() + AHEAD;
    msr!("CNTP_CVAL_EL0", due);
    msr!("CNTP_CTL_EL0", 1);
    since_due(due)
}

/// Computes while the virtual timer ticks.
fn busy_with_ticks() -> u64 {
    TIMER_PERIOD.store(PERIOD, SeqCst);
    msr!("CNTV_CVAL_EL0", now() + PERIOD);
    msr!("CNTV_CTL_EL0", 1);
    let ticks = time(compute);
    TIMER_PERIOD.store(0, SeqCst);
    msr!("CNTV_CTL_EL0", 0);
    ticks
}

#[inline(never)]
fn compute() {
    // SAFETY: It counts down a register.
    unsafe {
        asm!("2: subs {left}, {left}, #1", "b.ne 2b", left = inout(reg) WORK => _, options(nomem, nostack));
    }
}

/// Waits for a timer's interrupt: from when it is due to its acknowledgement.
#[inline(always)]
fn since_due(due: u64) -> u64 {
    let taken = TAKEN.load(SeqCst);
    edge_of_round();
    while TAKEN.load(SeqCst) == taken {}
    edge_of_round();
    TAKEN_AT.load(SeqCst) - due
}

/// Finds the machine's clock, a PL031: the one that this guest was given, or that of `virt`. Has
/// its alarm go off, but not interrupt. Whether there is one.
fn start_clock() -> bool {
    let is_clock = |base: usize| {
        let mut id = 0;
        catch(|| id = read32(base + rtc::PERIPH_ID - rtc::RTC) & 0xff).is_none() && id == 0x31
    };
    let clocks = [GIVEN, (rtc::RTC, rtc::INTID)];
    let Some((base, intid)) = clocks.into_iter().find(|(base, _)| is_clock(*base)) else {
        return false;
    };
    let register = |of: usize| base + of - rtc::RTC;
    write32(register(rtc::IMSC), 0);
    while read32(register(rtc::RIS)) == 0 {
        write32(register(rtc::MR), read32(register(rtc::DR)));
    }
    CLOCK.store(base, SeqCst);
    CLOCK_INTID.store(intid, SeqCst);
    gic::enable(intid, PRIORITY);
    write8(gic::GICD_ITARGETSR + intid as usize, 1);
    true
}

fn let_clock_interrupt(may: bool) {
    write32(CLOCK.load(SeqCst) + rtc::IMSC - rtc::RTC, u32::from(may));
}

/// Silences the clock's interrupt, for the handler. This is a function of its own, so that the
/// handler begins at once.
#[inline(never)]
fn silence_clock(intid: u32) {
    if intid == CLOCK_INTID.load(SeqCst) {
        let_clock_interrupt(false);
    } else {
        println!("FAULT interrupt {intid} on CPU {}", this_cpu());
    }
}

/// Returns the ticks from before the machine's clock may interrupt to the acknowledgement in the
/// handler.
fn device_interrupt() -> u64 {
    until_taken(|| let_clock_interrupt(true))
}

/// Operations with the second CPU, which sleeps in the first one and spins in the others.
const WITH_SECOND: [Operation; 3] = [
    ("sgi-to-other", || until_another_took(SGI)),
    ("sgi-to-awake", || until_another_took(SGI)),
    // The second CPU's handler sends an SGI back, and this one takes it.
    ("sgi-and-answer", || until_another_took(PING)),
];

/// From before the sending of an SGI to the second CPU to the acknowledgement of the last SGI that
/// comes of it. This CPU yields meanwhile, for QEMU runs one CPU at a time when it counts
/// instructions.
fn until_another_took(sgi: u32) -> u64 {
    let taken = TAKEN.load(SeqCst);
    edge_of_round();
    let start = now();
    send(Second::MPIDR, sgi);
    while TAKEN.load(SeqCst) == taken {
        let_others_run();
    }
    edge_of_round();
    TAKEN_AT.load(SeqCst) - start
}

fn send(cpu: u64, sgi: u32) {
    write32(gic::GICD_SGIR, 1 << (16 + cpu) | sgi);
}

/// Measures an operation with the second CPU, which sleeps in the first one and spins from then on.
fn measure_with_second((_, round): Operation) -> Result {
    let result = measure(round);
    if !SECOND_SPINS.swap(true, SeqCst) {
        let taken = TAKEN.load(SeqCst);
        send(Second::MPIDR, SGI);
        while TAKEN.load(SeqCst) == taken {
            let_others_run();
        }
    }
    result
}

fn let_others_run() {
    // SAFETY: It does nothing.
    unsafe { asm!("yield", options(nomem, nostack)) }
}

fn irq() {
    let iar = read32(gic::GICC_IAR);
    let at = now();
    match iar & 0x3ff {
        VIRTUAL => match TIMER_PERIOD.load(SeqCst) {
            0 => msr!("CNTV_CTL_EL0", 0),
            period => msr!("CNTV_CVAL_EL0", mrs!("CNTV_CVAL_EL0") + period),
        },
        PHYSICAL => msr!("CNTP_CTL_EL0", 0),
        UART => write32(uart::IMSC, 0),
        SGI | SPI => {}
        PING if this_cpu() as u64 == Second::MPIDR => {
            send(0, SGI);
            return write32(gic::GICC_EOIR, iar);
        }
        other => silence_clock(other),
    }
    write32(gic::GICC_EOIR, iar);
    TAKEN_AT.store(at, SeqCst);
    TAKEN.fetch_add(1, SeqCst);
}

/// Takes interrupts for ever, on the second CPU.
fn receive(_: u64) -> u64 {
    gic::init();
    [SGI, PING].into_iter().for_each(|sgi| gic::enable(sgi, PRIORITY));
    unmask_irqs();
    SECOND_READY.store(1, SeqCst);
    loop {
        if SECOND_SPINS.load(SeqCst) { let_others_run() } else { wfi() }
    }
}

/// Whether there is a second CPU, which now receives.
fn start_second() -> bool {
    Second::begin(receive, 0);
    if Second::on(0) != 0 {
        return false;
    }
    let end = now() + START_TIME;
    while SECOND_READY.load(SeqCst) == 0 && now() < end {
        let_others_run();
    }
    SECOND_READY.load(SeqCst) != 0
}

fn main() {
    let begun = now();
    gic::init();
    for intid in [VIRTUAL, PHYSICAL, SPI, UART].into_iter().chain(0..SGIS) {
        gic::enable(intid, PRIORITY);
    }
    for spi in [SPI, UART] {
        write8(gic::GICD_ITARGETSR + spi as usize, 1);
    }
    unmask_irqs();
    let results = OPERATIONS.map(|(_, round)| measure(round));
    let of_device = start_clock().then(|| measure(device_interrupt));
    let with_second = start_second().then(|| WITH_SECOND.map(measure_with_second));
    bench_mark();
    println!("\nbegun {begun}");
    let named = OPERATIONS.iter().map(|(name, _)| *name).zip(&results);
    let of_device = of_device.iter().map(|result| ("device-interrupt", result));
    let with_second = with_second.iter().flatten();
    let with_second = WITH_SECOND.iter().map(|(name, _)| *name).zip(with_second);
    for (name, Result { min, median }) in named.chain(of_device).chain(with_second) {
        println!("bench {name} min {min} median {median}");
    }
}
