//! Why something is not what it should be.

use alloc::string::String;

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
