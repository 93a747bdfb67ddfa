//! What the CPU says of itself, and instructions that a hypervisor may trap.

use core::arch::asm;
use stasis_guests::code::{execute, mrs_x0};
use stasis_guests::exception::catch;
use stasis_guests::{mrs, msr, println};

macro_rules! show {
    ($($name:literal)*) => { $( println!(concat!($name, " {:#x}"), mrs!($name)); )* };
}

/// Prints it.
pub fn probe() {
    identity();
    destinations();
    caches();
    maintenance();
    translation();
    undefined();
    debug();
    println!(
        "~ PMU PMCR_EL0: ESR {:x?}",
        catch(|| {
            let _ = mrs!("PMCR_EL0");
        })
        .map(|fault| fault.esr)
    );
}

fn identity() {
    println!("CurrentEL {}", mrs!("CurrentEL") >> 2);
    show!("MIDR_EL1" "MPIDR_EL1" "REVIDR_EL1" "AIDR_EL1" "CTR_EL0" "DCZID_EL0" "CLIDR_EL1");
    show!("ID_AA64PFR1_EL1" "ID_AA64ISAR0_EL1" "ID_AA64ISAR1_EL1");
    show!("ID_AA64MMFR1_EL1" "ID_AA64MMFR2_EL1" "ID_AA64AFR0_EL1" "ID_AA64AFR1_EL1");
    show!("ID_AA64DFR1_EL1" "MVFR0_EL1" "MVFR1_EL1" "MVFR2_EL1" "ID_ISAR0_EL1");
    let features = mrs!("ID_AA64PFR0_EL1");
    // EL0, FP and Advanced SIMD.
    println!("ID_AA64PFR0_EL1 {:#x}", features & 0xff_000f);
    println!("~ levels ID_AA64PFR0_EL1 {features:#x} ID_MMFR0_EL1 {:#x}", mrs!("ID_MMFR0_EL1"));
    let memory = mrs!("ID_AA64MMFR0_EL1");
    println!("ID_AA64MMFR0_EL1 {:#x}", memory & !0xf);
    println!("~ address size ID_AA64MMFR0_EL1 {memory:#x}");
    println!("~ debug ID_AA64DFR0_EL1 {:#x}", mrs!("ID_AA64DFR0_EL1"));
    // SAFETY: These are reads, of ID registers that are not allocated.
    let reserved =
        unsafe { [execute(mrs_x0(3, 0, 0, 4, 7), 1), execute(mrs_x0(3, 0, 0, 7, 7), 1)] };
    println!("reserved ID registers {reserved:x?}");
}

/// Reads a register that traps under a hypervisor into each general register, and shows which of
/// them had another value, and which others changed.
fn destinations() {
    let expected = mrs!("ID_AA64ISAR0_EL1");
    macro_rules! read_into {
        ($($register:tt)*) => {
            [$({
                let value: u64;
                // SAFETY: Reading an ID register touches no memory.
                unsafe {
                    asm!(concat!("mrs ", $register, ", ID_AA64ISAR0_EL1"), out($register) value,
                        options(nomem, nostack, preserves_flags));
                }
                value != expected
            }),*]
        };
    }
    let wrong = read_into!(
        "x0" "x1" "x2" "x3" "x4" "x5" "x6" "x7" "x8" "x9" "x10" "x11" "x12" "x13" "x14" "x15" "x16"
        "x17" "x20" "x21" "x22" "x23" "x24" "x25" "x26" "x27" "x28" "x30"
    );
    let mut others = [20_u64, 21, 22, 23, 0, 25, 26, 27, 28, 2, 30];
    let [x20, x21, x22, x23, x24, x25, x26, x27, x28, x2, x30] = &mut others;
    // SAFETY: Reading an ID register touches no memory.
    unsafe {
        asm!("mrs x24, ID_AA64ISAR0_EL1", "mrs x3, ID_AA64ISAR0_EL1",
            inout("x20") *x20, inout("x21") *x21, inout("x22") *x22, inout("x23") *x23,
            inout("x24") *x24, inout("x25") *x25, inout("x26") *x26, inout("x27") *x27,
            inout("x28") *x28, inout("x2") *x2, inout("x30") *x30, out("x3") _,
            options(nomem, nostack, preserves_flags));
    }
    println!("read into each register {:?}, beside others {others:?}", wrong.contains(&true));
}

fn caches() {
    for level in 0..7 {
        let kind = mrs!("CLIDR_EL1") >> (3 * level) & 7;
        for instruction in [1, 0] {
            let exists = match instruction {
                1 => kind & 1 != 0,
                _ => kind & 6 != 0,
            };
            if exists {
                msr!("CSSELR_EL1", level << 1 | instruction);
                println!(
                    "cache L{} instruction {instruction}: {:#x}",
                    level + 1,
                    mrs!("CCSIDR_EL1")
                );
            }
        }
    }
}

/// Set/way operations over the first-level data cache, and those by address over a page.
fn maintenance() {
    msr!("CSSELR_EL1", 0);
    let size = mrs!("CCSIDR_EL1");
    let line = (size & 7) + 4;
    let ways = (size >> 3 & 0x3ff) as u32;
    let sets = size >> 13 & 0x7fff;
    let way_shift = ways.leading_zeros();
    let fault = catch(|| {
        for way in 0..=u64::from(ways) {
            for set in 0..=sets {
                // SAFETY: Cleaning loses nothing, and there is one CPU.
                unsafe { asm!("dc cisw, {}", in(reg) way << way_shift | set << line) };
            }
        }
    });
    println!("DC CISW, {} times: fault {fault:x?}", (ways as u64 + 1) * (sets + 1));
    let mut block = [0xa5u8; 4096];
    let fault = catch(|| {
        for offset in (0..block.len()).step_by(64) {
            let address = &raw mut block[offset];
            // SAFETY: Cleaning loses nothing.
            unsafe {
                asm!("dc cvac, {0}", "dc cvau, {0}", "dc civac, {0}", "ic ivau, {0}", "dsb ish", "isb", in(reg) address);
            }
        }
        // SAFETY: Invalidating the instruction cache loses nothing.
        unsafe { asm!("ic iallu", "ic ialluis", "dsb ish", "isb") };
    });
    println!("DC CVAC, CVAU, CIVAC, IC IVAU, IALLU: fault {fault:x?}");
    let middle = &raw mut block[2048];
    let fault = catch(|| {
        // SAFETY: DC ZVA zeroes an aligned block of at most 2 KiB around the middle of `block`.
        unsafe { asm!("dc zva, {}", in(reg) middle) };
    });
    let zeroes = block.iter().filter(|byte| **byte == 0).count();
    println!("DC ZVA: {zeroes} bytes, fault {fault:x?}");
}

fn translation() {
    let fault = catch(|| {
        // SAFETY: What is invalidated is walked for again.
        unsafe {
            asm!(
                "dsb ishst",
                "tlbi vmalle1",
                "tlbi vmalle1is",
                "tlbi vaae1is, xzr",
                "tlbi aside1, xzr",
                "dsb ish",
                "isb"
            )
        };
    });
    println!("TLBI: fault {fault:x?}");
    for address in [0x4008_0000_u64, 0x0900_0000, 0xffff_0000_0000_0000] {
        // SAFETY: It only fills PAR_EL1.
        unsafe { asm!("at s1e1r, {}", "isb", in(reg) address) };
        println!("AT S1E1R {address:#x}: PAR {:#x}", mrs!("PAR_EL1"));
    }
}

fn undefined() {
    const UDF: u32 = 0;
    const BRK: u32 = 0xd420_0020;
    const HLT: u32 = 0xd440_0020;
    for (name, instruction) in [
        ("UDF", UDF),
        ("MRS HCR_EL2", mrs_x0(3, 4, 1, 1, 0)),
        ("MRS SCTLR_EL3", mrs_x0(3, 6, 1, 0, 0)),
        ("MRS SCTLR_EL12", mrs_x0(3, 5, 1, 0, 0)),
        ("MRS ICC_SRE_EL1", mrs_x0(3, 0, 12, 12, 5)),
        ("MRS S3_0_C4_C7_7", mrs_x0(3, 0, 4, 7, 7)),
        ("MRS APIAKeyLo_EL1", mrs_x0(3, 0, 2, 1, 0)),
        ("MRS ERRIDR_EL1", mrs_x0(3, 0, 5, 3, 0)),
        ("MRS LORC_EL1", mrs_x0(3, 0, 10, 4, 3)),
        ("HLT", HLT),
    ] {
        // SAFETY: None of them is defined for EL1 of this machine.
        let answer = unsafe { execute(instruction, 0) };
        println!("{name}: ESR {:x?}", answer.map_err(|fault| fault.esr));
    }
    // SAFETY: An exception to EL1, from which it is skipped.
    let answer = unsafe { execute(BRK, 0) };
    println!("BRK: ESR {:x?}", answer.map_err(|fault| fault.esr));
    let fault = catch(|| {
        // SAFETY: An exception to EL1, which is taken behind it: so it is the NOP that is skipped.
        unsafe { asm!("svc #1", "nop") };
    });
    println!("SVC: ESR {:x?}", fault.map(|fault| fault.esr));
    // SAFETY: Hints have no effect here; the event is there before the wait for it.
    unsafe { asm!("yield", "sev", "wfe", "sevl", "wfe") };
    println!("WFE ends");
}

fn debug() {
    println!("~ debug OSLSR_EL1 {:#x}", mrs!("OSLSR_EL1"));
    let fault = catch(|| {
        msr!("OSLAR_EL1", 0);
        msr!("OSDLR_EL1", 0);
        msr!("MDSCR_EL1", 0);
        msr!("DBGBVR0_EL1", 0x4008_0000);
        msr!("DBGBCR0_EL1", 0);
    });
    println!("~ debug unlocked: fault {fault:x?}");
    println!("~ debug OSLSR_EL1 {:#x} DBGBVR0_EL1 {:#x}", mrs!("OSLSR_EL1"), mrs!("DBGBVR0_EL1"));
}
