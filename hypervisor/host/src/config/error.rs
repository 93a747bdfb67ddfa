//! What can be wrong with a configuration.

use alloc::string::String;

use stasis_state::name::BadName;

use super::core_plan::CoreProblem;
use super::memory_map::TRUSTED;
use super::network::NetworkProblem;
use super::policy::{EVERY_US, MAX_WATCHDOG_US, RUN_SHARES, WELL_AFTER_US};
use super::property::PropertyProblem;
use super::shared::SharedProblem;
use super::time::Time;
use super::virtio::VirtioProblem;
use super::{COMPATIBLE, FILE_NAME};
use crate::periodic::GUEST_PART;
use stasis_console::text::quoted;

/// What can be wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is no device tree, or a damaged one.
    #[error("{FILE_NAME}: {0}")]
    DeviceTree(dtoolkit::error::FdtParseError),
    /// The file is another device tree, or one of a newer Stasis.
    #[error("{FILE_NAME}: its root is not compatible with \"{COMPATIBLE}\"")]
    NotAConfiguration,
    /// A child of the root is nothing known.
    #[error(
        "{FILE_NAME}: node \"{0}\" is not known; there are guest@<n>, core@<n>, shared@<n>, network@<n> and store"
    )]
    UnknownNode(String),
    /// There is no guest in it.
    #[error("{FILE_NAME}: no guest is configured")]
    NoGuests,
    /// A guest's configuration breaks a rule.
    #[error("{FILE_NAME}: guest {guest}: {problem}")]
    Guest {
        /// The guest's place among the guests, from 0.
        index: usize,
        /// The guest: its name in quotes, or its node where the name is unusable.
        guest: String,
        /// The rule.
        problem: Problem,
    },
    /// What is said of memory that guests share breaks a rule.
    #[error("{FILE_NAME}: shared {shared}: {problem}")]
    Shared {
        /// The region's place among them, from 0.
        index: usize,
        /// The region: its name in quotes, or its node where the name is unusable.
        shared: String,
        /// The rule.
        problem: SharedProblem,
    },
    /// What is said of a network breaks a rule.
    #[error("{FILE_NAME}: network {network}: {problem}")]
    Network {
        /// The network's place among them, from 0.
        index: usize,
        /// The network: its name in quotes, or its node where the name is unusable.
        network: String,
        /// The rule.
        problem: NetworkProblem,
    },
    /// What is said of the store breaks a rule.
    #[error("{FILE_NAME}: store: {0}")]
    Store(PropertyProblem),
    /// A core's plan breaks a rule.
    #[error("{FILE_NAME}: core {core}: {problem}")]
    Core {
        /// The plan's place among the cores' plans, from 0.
        index: usize,
        /// The core: its number, or its node where the number is unusable.
        core: String,
        /// The rule.
        problem: CoreProblem,
    },
}

/// What can be wrong with a plan that a core gets while guests run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The plan breaks a rule.
    #[error("core {core}: {problem}")]
    Core {
        /// The core's number.
        core: u32,
        /// The rule.
        problem: CoreProblem,
    },
    /// A guest could not go on under the plan.
    #[error("guest {guest}: {problem}")]
    Guest {
        /// The guest's name in quotes.
        guest: String,
        /// The rule.
        problem: Problem,
    },
    /// A guest might have to wait for memory in its window.
    #[error(
        "guest {} can't have a window: it shares memory with clones, or has overcommit, and would wait for copies in it",
        quoted(.0)
    )]
    Waits(String),
}

/// What can be wrong with one guest's configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A property is missing, unknown or of another type.
    #[error(transparent)]
    Property(#[from] PropertyProblem),
    /// A string that must say something is empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Two guests have the same name.
    #[error("another guest has the same name")]
    Duplicate,
    /// Two guests have the same name for their periodic checkpoints, which is cut where the guest's
    /// is long.
    #[error(
        "its periodic checkpoints would be called {}, as those of {} are: let the names differ in their first {GUEST_PART} bytes",
        quoted(.name),
        quoted(.other)
    )]
    SameCheckpoints {
        /// Name of the checkpoints.
        name: String,
        /// Name of the other guest.
        other: String,
    },
    /// A string holds a character that ends strings.
    #[error("{0} has a NUL character in it")]
    Nul(&'static str),
    /// No such kind of image.
    #[error("kind \"{0}\" is none of \"linux\", \"elf\", \"raw\"")]
    Kind(String),
    /// Memory that stage 2 cannot map in whole blocks, or none.
    #[error("memory of {0} bytes is not a multiple of 2 MiB, from 2 MiB to 255 GiB")]
    Memory(u64),
    /// No such memory map.
    #[error("{} is none of \"virt\", \"identity\"", quoted(.0))]
    MemoryMap(String),
    /// Memory that must be there is not reserved.
    #[error("a guest with {0} needs its memory from the beginning: leave overcommit out")]
    Overcommit(&'static str),
    /// More vCPUs than a GICv2 has targets for, or none.
    #[error("{0} vCPUs are not possible; 1 to 8 are")]
    Vcpus(u32),
    /// More cores than vCPUs.
    #[error("{cores} cores for {vcpus} vCPUs are too many; one for each is enough")]
    TooManyCores {
        /// Cores that are named.
        cores: usize,
        /// vCPUs that there are.
        vcpus: u8,
    },
    /// A counter that is too slow or too fast for any machine.
    #[error("counter-frequency of {0} Hz is not possible; 1000000 to 1000000000 are")]
    CounterFrequency(u32),
    /// A weight that is none.
    #[error("a weight of {0} is not possible; 1 to 10000 are")]
    Weight(u32),
    /// A vCPU that would never run.
    #[error("the windows of core {0} fill its frame, and none is this guest's")]
    NoWindow(u32),
    /// No such policy.
    #[error("{} is none of \"stop\", \"restart\", \"resume\"", quoted(.found))]
    Policy {
        /// Which policy.
        key: &'static str,
        /// What it is said to be.
        found: String,
    },
    /// A watchdog with too much patience.
    #[error("a watchdog of {} is not possible; up to {} are", Time(*.0), Time(MAX_WATCHDOG_US))]
    Watchdog(u64),
    /// Checkpoints too often, or too rarely to be meant.
    #[error("checkpoints every {} are not possible; every {} to {} are", Time(*.0), Time(*EVERY_US.start()), Time(*EVERY_US.end()))]
    Every(u64),
    /// Keeping no checkpoint, or too many.
    #[error("keeping {0} checkpoints is not possible; 1 to 255 are")]
    Keep(u32),
    /// A guest that is never undisturbed by checkpoints, or always.
    #[error("a run share of {} % is not possible; {} to {} are", .0, RUN_SHARES.start(), RUN_SHARES.end())]
    RunShare(u32),
    /// A guest that is not well for longer than anybody looks.
    #[error("well after {} is not possible; up to {} are", Time(*.0), Time(*WELL_AFTER_US.end()))]
    WellAfter(u64),
    /// A device that nothing can be called.
    #[error("device {} is neither a path, such as \"/pl031@9010000\", nor an alias", quoted(.0))]
    Device(String),
    /// A device that has two owners.
    #[error("device {} is given twice", quoted(.0))]
    DeviceTwice(String),
    /// Something else than trust.
    #[error("{} is not \"{TRUSTED}\"", quoted(.0))]
    Dma(String),
    /// Devices would find other memory than the guest means.
    #[error(
        "devices that access memory need memory-map = \"identity\": they know the machine's addresses"
    )]
    DmaElsewhere,
    /// Trust in devices that are not there.
    #[error("dma is said, and it has no devices")]
    DmaOfNothing,
    /// A guest that can't be stored is to be stored.
    #[error("it has devices, whose state can't be stored, and so no checkpoints")]
    Unstorable {
        /// What asks for checkpoints.
        key: &'static str,
    },
    /// A virtio device breaks a rule.
    #[error(transparent)]
    Virtio(#[from] VirtioProblem),
    /// Checkpoints to keep, and none that are made.
    #[error("checkpoint-keep is said without checkpoint-every")]
    KeepOfNone,
    /// A share of the time that is left by checkpoints, and none that are made.
    #[error("checkpoint-run-share is said without checkpoint-every")]
    RunShareOfNone,
}

impl Problem {
    /// Returns the key of the written configuration that is wrong, as far as one is.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Property(_) => "name",
            Self::Empty(key) | Self::Nul(key) => key,
            Self::Name(_) | Self::Duplicate | Self::SameCheckpoints { .. } => "name",
            Self::Kind(_) => "kind",
            Self::Memory(_) => "memory",
            Self::MemoryMap(_) => "memory-map",
            Self::Overcommit(_) => "overcommit",
            Self::Dma(_) | Self::DmaElsewhere | Self::DmaOfNothing => "dma",
            Self::Vcpus(_) => "vcpus",
            Self::TooManyCores { .. } | Self::NoWindow(_) => "cores",
            Self::Weight(_) => "weight",
            Self::CounterFrequency(_) => "counter-frequency",
            Self::Policy { key, .. } | Self::Unstorable { key } => key,
            Self::Device(_) | Self::DeviceTwice(_) => "devices",
            Self::Virtio(problem) => problem.key(),
            Self::Watchdog(_) => "watchdog",
            Self::Every(_) => "checkpoint-every",
            Self::Keep(_) | Self::KeepOfNone => "checkpoint-keep",
            Self::RunShare(_) | Self::RunShareOfNone => "checkpoint-run-share",
            Self::WellAfter(_) => "well-after",
        }
    }
}
