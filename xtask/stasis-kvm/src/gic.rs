//! [`Gic`]: KVM's GICv2, which is given a state, and asked for it.

use anyhow::{Context, Result, bail};
use kvm_bindings::{kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2};
use kvm_ioctls::{DeviceFd, VmFd};
use stasis_convert::kvm::{self, Attribute, GRP_CTRL};
use stasis_convert::{Interrupt, Loss, Vgic};
use stasis_tool::report;

/// The GIC of a machine of KVM's.
pub struct Gic {
    device: DeviceFd,
    nr_irqs: u16,
    nr_cpus: usize,
    losses: Vec<Loss>,
}

impl Gic {
    /// Makes the GIC of a machine that has all of its vCPUs, in this state. The lines of the
    /// devices are the caller's to raise.
    ///
    /// # Errors
    ///
    /// The machine has no GICv2, or KVM refuses the state.
    pub fn new(vm: &VmFd, state: &Vgic) -> Result<Self> {
        let mut create =
            kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, fd: 0, flags: 0 };
        let device = vm.create_device(&mut create).context(
            "this KVM has no GICv2 for guests: the machine's own GIC must be a GICv2, or a GICv3 with its compatibility",
        )?;
        let written = kvm::write(state);
        for attribute in &written.attributes {
            set(&device, attribute).with_context(|| format!("KVM refuses {attribute}"))?;
        }
        let nr_irqs = written.attributes.first().map_or(0, |nr_irqs| nr_irqs.value as u16);
        Ok(Self { device, nr_irqs, nr_cpus: state.cpus.len(), losses: written.losses })
    }

    /// Says what was lost of the state.
    pub fn tell_losses(&self) {
        for loss in self.losses.iter().filter(|loss| loss.is_observable()) {
            report::note(format_args!("lost: {loss}"));
        }
    }

    /// Returns the state, while all vCPUs stand. Says what KVM does not. `high` has the interrupts
    /// whose lines are high.
    ///
    /// # Errors
    ///
    /// KVM does not tell it, or tells what no GICv2 can be in.
    pub fn read(&self, high: &[Interrupt]) -> Result<Vgic> {
        let attributes: Result<Vec<_>> = kvm::readable(self.nr_irqs, self.nr_cpus)
            .into_iter()
            .map(|(group, attr)| self.get(group, attr))
            .collect();
        let read = kvm::read(&attributes?, high)?;
        for unknown in &read.unknowns {
            report::note(format_args!("not said: {unknown}"));
        }
        Ok(read.vgic)
    }

    fn get(&self, group: u32, attr: u64) -> Result<Attribute> {
        let mut value = 0_u64;
        let mut access = kvm_device_attr { group, attr, addr: (&raw mut value) as u64, flags: 0 };
        // SAFETY: 1. `addr` is the address of `value`, which lives until the call returns, and to
        // which nobody has a reference meanwhile. 2. The kernel writes 8 bytes at the most to it:
        // 64 bits in group 0, and 32 in the others that are read.
        let result = unsafe { self.device.get_device_attr(&mut access) };
        if let Err(error) = result {
            bail!("KVM does not tell attribute {attr:#x} of group {group}: {error}");
        }
        Ok(Attribute { group, attr, value })
    }
}

fn set(device: &DeviceFd, attribute: &Attribute) -> Result<()> {
    let Attribute { group, attr, value } = *attribute;
    // The kernel reads 64 bits of an address, and 32 of all else, which are the low ones.
    let addr = if group == GRP_CTRL { 0 } else { (&raw const value) as u64 };
    Ok(device.set_device_attr(&kvm_device_attr { group, attr, addr, flags: 0 })?)
}
