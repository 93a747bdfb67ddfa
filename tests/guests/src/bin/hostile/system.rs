//! Every system register there is, and many that are not.

use core::cell::UnsafeCell;
use stasis_guests::code::{execute, mrs_x0, msr_x0};
use stasis_guests::exception::catch;
use stasis_guests::{msr, println};

/// What cache and translation instructions are pointed at.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);
// SAFETY: Nothing reads it.
unsafe impl Sync for Page {}
static PAGE: Page = Page(UnsafeCell::new([0; 4096]));

/// Makes the attack.
pub fn attack() {
    println!("read all system registers: {} are undefined", read_all());
    println!("write to debug, PMU, EL2 and EL3 registers: {} are undefined", write_many());
    println!("system instructions: {} are undefined", instructions());
}

fn read_all() -> u32 {
    let mut undefined = 0;
    for_all(|op1, crn, crm, op2| {
        for op0 in [2, 3] {
            // SAFETY: It is a read into X0.
            undefined += u32::from(unsafe { execute(mrs_x0(op0, op1, crn, crm, op2), 0) }.is_err());
        }
    });
    undefined
}

fn write_many() -> u32 {
    let mut undefined = 0;
    for value in [!0, 0x5555_aaaa_5555_aaaa, 0] {
        for_all(|op1, crn, crm, op2| {
            // Debug; the PMU; the GIC's system registers; what the implementation defines; timers;
            // EL2 and above.
            let debug = 2;
            let other = (crn == 9
                || crn == 11
                || crn == 14
                || crn == 15
                || (crn == 12 && crm >= 8)
                || op1 >= 4)
                .then_some(3);
            for op0 in [Some(debug), other].into_iter().flatten() {
                // SAFETY: None of these registers is about this guest's memory or stack, and
                // PSTATE.D masks the debug exceptions that they could enable.
                undefined +=
                    u32::from(unsafe { execute(msr_x0(op0, op1, crn, crm, op2), value) }.is_err());
            }
        });
    }
    // As they were, so that nothing of it is left for what follows.
    let _ = catch(|| {
        msr!("OSLAR_EL1", 0);
        msr!("MDSCR_EL1", 0);
        msr!("CNTV_CTL_EL0", 0);
        msr!("CNTP_CTL_EL0", 0);
    });
    undefined
}

/// Cache, address translation and TLB instructions, those of EL2 and EL3 among them.
fn instructions() -> u32 {
    let mut undefined = 0;
    let page = PAGE.0.get() as u64;
    for_all(|op1, crn, crm, op2| {
        let by_set_and_way = crn == 7 && op2 == 2 && op1 == 0;
        let invalidates = crn == 7 && crm == 6;
        if (crn == 7 || crn == 8 || crn == 11 || crn == 15) && !(invalidates && by_set_and_way) {
            // SAFETY: They are pointed at a page that holds nothing; none invalidates all data
            // caches.
            undefined +=
                u32::from(unsafe { execute(msr_x0(1, op1, crn, crm, op2), page) }.is_err());
        }
    });
    undefined
}

fn for_all(mut f: impl FnMut(u32, u32, u32, u32)) {
    for op1 in 0..8 {
        for crn in 0..16 {
            for crm in 0..16 {
                for op2 in 0..8 {
                    f(op1, crn, crm, op2);
                }
            }
        }
    }
}
