//! [`Clock`]: the guest's counter, which is the machine's less an offset.
//!
//! Linux since 6.4 takes the offset of both of a guest's counters at once
//! (KVM_ARM_SET_COUNTER_OFFSET). An older one takes a value of CNTVCT_EL0 alone, and its guests
//! read the machine's CNTPCT_EL0.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use kvm_bindings::{KVM_CAP_COUNTER_OFFSET, KVMIO, kvm_arm_counter_offset};
use kvm_ioctls::{VcpuFd, VmFd};
use stasis_convert::kvm::registers::COUNTER;
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

ioctl_iow_nr!(KVM_ARM_SET_COUNTER_OFFSET, KVMIO, 0xb5, kvm_arm_counter_offset);

/// The guest's counter.
#[derive(Debug)]
pub struct Clock {
    /// CNTVCT_EL0 of this process less that of the guest.
    offset: AtomicU64,
    /// Whether the guest's CNTPCT_EL0 is its CNTVCT_EL0.
    is_whole: bool,
}

impl Clock {
    /// Returns the clock of a new machine, which [`set`](Self::set) sets.
    pub fn new(vm: &VmFd) -> Self {
        let is_whole = vm.check_extension_raw(KVM_CAP_COUNTER_OFFSET.into()) > 0;
        Self { offset: AtomicU64::new(0), is_whole }
    }

    /// Returns whether the guest reads the same in CNTPCT_EL0 as in CNTVCT_EL0.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Makes the guest's counter read `cntvct` now. It runs at once.
    ///
    /// # Errors
    ///
    /// KVM refuses it.
    pub fn set(&self, vm: &VmFd, vcpu: &VcpuFd, cntvct: u64) -> Result<()> {
        let offset = machine_counter().wrapping_sub(cntvct);
        if self.is_whole {
            let counter = kvm_arm_counter_offset { counter_offset: offset, reserved: 0 };
            // SAFETY: 1. `vm` is the descriptor of a machine of KVM's, which has this ioctl, and
            // refuses it where it has not. 2. The kernel reads `struct kvm_arm_counter_offset`,
            // which `counter` is, and writes nothing. 3. `counter` lives until the call returns.
            let result = unsafe { ioctl_with_ref(vm, KVM_ARM_SET_COUNTER_OFFSET(), &counter) };
            if result != 0 {
                return Err(errno::Error::last()).context("KVM does not take the counter's offset");
            }
        } else {
            let set = vcpu.set_one_reg(COUNTER, &cntvct.to_le_bytes());
            set.context("KVM does not take the counter")?;
        }
        self.offset.store(offset, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the guest's CNTVCT_EL0.
    pub fn now(&self) -> u64 {
        machine_counter().wrapping_sub(self.offset.load(Ordering::Relaxed))
    }
}

/// Returns CNTVCT_EL0, which Linux shows every process.
fn machine_counter() -> u64 {
    let value;
    // SAFETY: 1. The instruction reads a register that EL0 may read, as Linux sets
    // CNTKCTL_EL1.EL0VCTEN. 2. It touches no memory and no flags.
    unsafe {
        core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nostack, preserves_flags));
    }
    value
}

/// Returns CNTFRQ_EL0, the frequency of the machine's counter in Hz, which is every guest's.
pub fn frequency() -> u64 {
    let value;
    // SAFETY: 1. The instruction reads a register that EL0 may read, as Linux sets
    // CNTKCTL_EL1.EL0VCTEN. 2. It touches no memory and no flags.
    unsafe {
        core::arch::asm!("mrs {}, cntfrq_el0", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}
