//! Why something is not what it should be.

use alloc::string::String;

use stasis_state::machine::Entry;
use thiserror::Error;

/// What is wrong with a list of attributes, or with a migration stream.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("attribute {attr:#x} of group {group} is missing")]
    AttributeMissing { group: u32, attr: u64 },
    #[error("attribute {attr:#x} of group {group} is there twice")]
    AttributeTwice { group: u32, attr: u64 },
    #[error("attribute {attr:#x} of group {group} is {value:#x}, which it cannot be: {why}")]
    AttributeValue { group: u32, attr: u64, value: u64, why: &'static str },
    #[error("vCPU {vcpu} has attributes; a GICv2 has 8 vCPUs")]
    AttributeVcpu { vcpu: u64 },

    #[error("this is no migration stream of QEMU's: it does not begin with QEVM, version 3")]
    NotAStream,
    #[error(
        "the stream has no description at its end; it must be written by `migrate` with the suppress-vmdesc option off"
    )]
    NoDescription,
    #[error("the description at the stream's end is no JSON that describes a stream: {0}")]
    Description(String),
    #[error("the stream has no section \"arm_gic\": its machine has no GICv2")]
    NoSection,
    #[error("the section \"{name}\" of instance {instance} is not where the description says")]
    SectionLost { name: String, instance: u32 },
    #[error(
        "the stream has no section \"{name}\" of instance {instance}: its machine is none of Stasis's kind"
    )]
    SectionMissing { name: &'static str, instance: usize },
    #[error("the section \"{section}\" has no field \"{field}\": this QEMU's is not known")]
    FieldMissing { section: String, field: String },
    #[error("{value:#x} does not fit where the field \"{field}\" goes")]
    FieldTooSmall { field: String, value: u64 },
    #[error("the stream ends at byte {has}, in the midst of what should go on to {needs}")]
    Cut { has: u64, needs: u64 },
    #[error(
        "at byte {at} of the stream, in its memory, there is {what}; write it by `migrate` without capabilities"
    )]
    Memory { at: u64, what: &'static str },
    #[error("the stream's machine is a {name:?}; a guest goes on from QEMU's `virt`")]
    OtherBoard { name: String },
    #[error("the stream's machine has no memory {name:?}: it is none of QEMU's `virt`")]
    NoBlock { name: &'static str },
    #[error(
        "the stream's machine has something in its memory {name:?}, which Stasis does not have; start it without firmware"
    )]
    MemoryInUse { name: String },
    #[error(
        "the stream's machine tells its guest of stolen time, which Stasis does not; start its QEMU with -cpu host,pmu=off,kvm-steal-time=off"
    )]
    StolenTime,
    #[error("the stream's machine has the device {name:?}, which Stasis does not have")]
    UnknownDevice { name: String },
    #[error(
        "{name} is no CPU that Stasis can show to a guest; it can show cortex-a53, cortex-a57 and cortex-a72"
    )]
    NoSuchCpu { name: String },
    #[error(
        "the guest's MIDR_EL1 is {midr:#x}: QEMU has no such CPU without what Stasis does not show"
    )]
    NoCpu { midr: u64 },
    #[error(
        "the guest's counter has {cntfrq} Hz, of which a tick is no whole number of nanoseconds, as QEMU counts them"
    )]
    Frequency { cntfrq: u64 },
    #[error("the counter of the base has {found} Hz, the guest's {cntfrq}")]
    OtherFrequency { found: u64, cntfrq: u64 },
    #[error(
        "the physical timer of vCPU {vcpu} is on, which this KVM does not keep; Linux 6.4 and later do"
    )]
    PhysicalTimer { vcpu: usize },
    #[error(
        "the physical timer of vCPU {vcpu} is on, and CNTPCT_EL0 is {physical:#x} where CNTVCT_EL0 is {cntvct:#x}: under Stasis they are one counter"
    )]
    TwoCounters { vcpu: usize, physical: u64, cntvct: u64 },
    #[error(
        "ID register {id:#x} of vCPU {vcpu} is {found:#x}: its CPU has more than Stasis shows to a guest"
    )]
    Newer { vcpu: usize, id: u64, found: u64 },
    #[error("the guest's counter reads {cntvct:#x}: QEMU's clock does not go that far")]
    Counter { cntvct: u64 },
    #[error(
        "the guest has switched its machine off, or has reset it: there is nothing that could go on"
    )]
    NotOn,
    #[error("the guest's RAM begins at {base:#x}, and that of QEMU's `virt` at 0x40000000")]
    RamBase { base: u64 },
    #[error(
        "a virtual SError is pending, which QEMU's CPUs can't keep; take the checkpoint at another moment"
    )]
    SError,
    #[error("the guest's power key is being pressed; take the checkpoint at another moment")]
    PowerKey,
    #[error("the guest has a device {kind}, which QEMU's `virt` does not have like this")]
    NoDevice { kind: &'static str },
    #[error("the guest's machine has a {entry}, which QEMU's `virt` does not have like this")]
    OtherDevice { entry: Entry },
    #[error("the section \"{section}\" is not as Stasis can take it: {what}")]
    Virtio { section: String, what: &'static str },
    #[error("the stream's machine has {stream} virtio devices, the guest {guest}")]
    VirtioDevices { stream: usize, guest: usize },
    #[error(
        "the guest's network card in slot {slot} has a command that is not done; take the checkpoint at another moment"
    )]
    Busy { slot: usize },
    #[error(
        "the guest's virtio disk in slot {slot} has a request of more buffers than QEMU has room for"
    )]
    LongRequest { slot: usize },
    #[error(
        "the guest's virtio disks have {found} requests that they have not done, and a stream takes {limit} along; take the checkpoint at another moment"
    )]
    ManyRequests { found: usize, limit: usize },
    #[error("a vCPU is in AArch32, which is not converted; take the checkpoint at another moment")]
    AArch32,
    #[error("{register} is {value:#x}, and QEMU's CPU has no such register")]
    NoPlace { register: &'static str, value: u64 },
    #[error("the stream is of a machine that was run by {by}; say --backend {name}")]
    OtherBackend { by: &'static str, name: &'static str },
    #[error(
        "the stream is of another QEMU, or of another CPU, than the base: say which by --qemu and --cpu"
    )]
    OtherMachine,
    #[error(
        "register {id:#x} of vCPU {vcpu} is {found:#x}, not {neutral:#x}, and Stasis does not have it"
    )]
    NotNeutral { vcpu: usize, id: u64, found: u64, neutral: u64 },
    #[error(
        "vCPU {vcpu} has set up performance counters, which Stasis does not have; start its QEMU with -cpu CPU,pmu=off"
    )]
    Pmu { vcpu: usize },
    #[error("the section \"arm_gic\" has version {found}; this knows 12")]
    SectionVersion { found: u32 },
    #[error("the section \"arm_gic\" has another layout: {what}")]
    SectionLayout { what: String },
    #[error("the stream's machine has {stream} CPUs, the guest {guest}")]
    Cpus { stream: usize, guest: usize },
    #[error("interrupt {intid} is in use in the stream, but there are only {nr_irqs}")]
    NoSuchInterrupt { intid: usize, nr_irqs: usize },
    #[error("{what} of CPU {cpu} is {found:#x}, which it cannot be")]
    Field { what: &'static str, cpu: usize, found: u32 },
}
