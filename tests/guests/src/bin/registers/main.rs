//! Two vCPUs that keep something of their own in each register of theirs, and look whether it
//! stays, while the other one has the core.
//!
//! Which registers there are, it knows from the tables of the saved state, whose ids are the
//! encodings of MSR and MRS: a register that is added there is tried here. `values` says what can
//! be written to each, `general` keeps the general registers and the vector registers. For each
//! round that went well it prints a line; for each register that has changed, one that names it.

#![no_std]
#![no_main]

mod general;
mod values;

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use general::General;
use stasis_guests::code::{Code, mrs_x0, msr_x0};
use stasis_guests::second::{Second, this_cpu};
use stasis_guests::{println, runtime};
use stasis_state::Record;
use stasis_state::vcpu::{Debug, SystemRegisters};
use values::Tried;

stasis_guests::entry!(main, runtime::no_irq);

/// No memory: the crate with the tables can allocate some, but not for what is used here.
struct NoHeap;

// SAFETY: it hands nothing out.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;

/// Registers that are tried at most: those of the tables, with each of the debug registers' pairs.
const MAX: usize = 160;
/// Turns of a vCPU while it has its own values in its registers: the other one counts them.
static TURNS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Rounds of the second vCPU.
static ROUNDS: AtomicU64 = AtomicU64::new(0);
/// What the second vCPU has found changed: 1 + the number of the register, what was written, what
/// was read.
static CHANGED: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
/// Rounds of the first vCPU after which it tells of the registers that have held the same on both
/// vCPUs all the time: the OS locks, of one bit each, have all four combinations within them, at
/// whatever rounds of their own the two vCPUs are.
const UNTIL_TOLD: u64 = 8;
/// What a register holds while its vCPU tries it, to find those that hold the same on both.
static HELD: [[AtomicU64; MAX]; 2] = [const { [const { AtomicU64::new(0) }; MAX] }; 2];

fn main() {
    let tried = Registers::new();
    println!("registers: {} to try", tried.count);
    Second::on(0);
    Second::context();
    Second::begin(|_| try_for_ever(), 1);
    try_for_ever();
}

/// Rounds without an end. The first vCPU prints for both.
fn try_for_ever() -> ! {
    let cpu = this_cpu();
    let mut registers = Registers::new();
    let mut round = 0;
    loop {
        round += 1;
        let changed = registers.one_round(cpu, round);
        match (cpu, changed) {
            (0, None) => registers.report(round),
            (0, Some((number, held, found))) => registers.changed(0, number, held, found),
            (_, None) => {
                ROUNDS.fetch_add(1, SeqCst);
            }
            (_, Some((number, held, found))) => {
                CHANGED[1].store(held, SeqCst);
                CHANGED[2].store(found, SeqCst);
                CHANGED[0].store(number as u64 + 1, SeqCst);
            }
        }
    }
}

/// The registers that are tried, and how.
struct Registers {
    all: [Option<Tried>; MAX],
    count: usize,
    /// Which have held different values on the two vCPUs in some round.
    told: [bool; MAX],
    code: Code,
}

impl Registers {
    fn new() -> Self {
        let mut registers =
            Self { all: [None; MAX], count: 0, told: [false; MAX], code: Code::new() };
        for register in SystemRegisters::REGISTERS.iter().chain(Debug::REGISTERS) {
            for tried in values::tried(register) {
                registers.all[registers.count] = Some(tried);
                registers.count += 1;
            }
        }
        registers
    }

    fn get(&self, number: usize) -> Tried {
        self.all[number].expect("all below the count are there")
    }

    /// Writes to each register, waits until the other vCPU has had the core, and reads them: the
    /// number of the first that has changed, what it held, and what it holds.
    fn one_round(&mut self, cpu: usize, round: u64) -> Option<(usize, u64, u64)> {
        for number in 0..self.count {
            let tried = self.get(number);
            let value = tried.value(self.read(tried), cpu, round);
            self.write(tried, value);
        }
        let mut held = [0; MAX];
        // Read in a second pass, for some depend on others: the OS lock says what MDSCR_EL1 takes.
        for (number, held) in held.iter_mut().enumerate().take(self.count) {
            let tried = self.get(number);
            *held = tried.significant(self.read(tried));
            HELD[cpu][number].store(*held, SeqCst);
        }
        let mut general = General::new(cpu as u64, round);
        let other = TURNS[1 - cpu].load(SeqCst);
        let mut changed = None;
        // Two: the one that is under way may have begun before our values were written.
        while TURNS[1 - cpu].load(SeqCst) < other + 2 && changed.is_none() {
            changed = general.spin().map(|(number, held, found)| (MAX + number, held, found));
            TURNS[cpu].fetch_add(1, SeqCst);
        }
        changed.or_else(|| {
            (0..self.count).find_map(|number| {
                let tried = self.get(number);
                let found = tried.significant(self.read(tried));
                (found != held[number]).then_some((number, held[number], found))
            })
        })
    }

    fn read(&mut self, tried: Tried) -> u64 {
        let (op0, op1, crn, crm, op2) = tried.read;
        // SAFETY: reading it changes nothing.
        let value = unsafe { self.code.run(mrs_x0(op0, op1, crn, crm, op2), 0) };
        tried.of_read(value)
    }

    fn write(&mut self, tried: Tried, value: u64) {
        let (op0, op1, crn, crm, op2) = tried.write;
        // SAFETY: `values` leaves as they are the bits that this program depends on.
        unsafe { self.code.run(msr_x0(op0, op1, crn, crm, op2), value) };
    }

    /// Tells of a round of the first vCPU, of what the second one has done since, and once of what
    /// can't be told apart.
    fn report(&mut self, round: u64) {
        let rounds_of_the_other = ROUNDS.load(SeqCst);
        match CHANGED[0].swap(0, SeqCst) {
            0 => println!("round {round}: all as they were; {rounds_of_the_other} of the other"),
            number => {
                let (held, found) = (CHANGED[1].load(SeqCst), CHANGED[2].load(SeqCst));
                self.changed(1, number as usize - 1, held, found);
            }
        }
        for (told, (first, second)) in self.told.iter_mut().zip(HELD[0].iter().zip(&HELD[1])) {
            *told |= rounds_of_the_other > 0 && first.load(SeqCst) != second.load(SeqCst);
        }
        if round == UNTIL_TOLD {
            for number in (0..self.count).filter(|&number| !self.told[number]) {
                println!("untold: {}", self.get(number));
            }
        }
    }

    fn changed(&self, cpu: usize, number: usize, held: u64, found: u64) {
        match number.checked_sub(MAX) {
            None => {
                println!("changed: {} of vCPU {cpu}: {held:#x} -> {found:#x}", self.get(number))
            }
            Some(word) => println!(
                "changed: word {word} of x, v, fpsr, fpcr, nzcv of vCPU {cpu}: {held:#x} -> {found:#x}"
            ),
        }
    }
}
