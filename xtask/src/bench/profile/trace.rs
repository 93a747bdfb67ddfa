//! [`Calls`]: makes stacks of functions from a trace of instructions. The instructions themselves show calls and returns.

use std::collections::{BTreeMap, HashMap};

use super::Profile;
use super::functions::Functions;

/// The name for everything that the guest executes.
const GUEST: &str = "the guest";

/// The calls under way on each core, and the instructions that were counted in each stack of calls.
pub struct Calls<'f, 'e> {
    functions: &'f Functions<'e>,
    cores: HashMap<usize, Core>,
    /// Number of instructions by the addresses of the calls that they are in, and their own
    /// address.
    counts: HashMap<Vec<u64>, u64>,
    guest: u64,
}

/// The state of one core.
#[derive(Default)]
struct Core {
    /// The addresses of the calls that have not returned. Calls that were made before the trace are
    /// not known.
    calls: Vec<u64>,
    /// The address of a call, if the next instruction is the first one behind it.
    calling: Option<u64>,
}

/// The kinds of instructions that matter here (DDI 0487, C6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call,
    Return,
    Other,
}

impl Kind {
    fn of(instruction: u32) -> Self {
        const BL: (u32, u32) = (0xfc00_0000, 0x9400_0000);
        const BLR: (u32, u32) = (0xffff_fc1f, 0xd63f_0000);
        const RET: (u32, u32) = (0xffff_fc1f, 0xd65f_0000);
        let is = |(mask, value)| instruction & mask == value;
        match () {
            () if is(BL) || is(BLR) => Self::Call,
            () if is(RET) => Self::Return,
            () => Self::Other,
        }
    }
}

impl<'f, 'e> Calls<'f, 'e> {
    /// Returns a trace without instructions.
    pub fn new(functions: &'f Functions<'e>) -> Self {
        Self { functions, cores: HashMap::new(), counts: HashMap::new(), guest: 0 }
    }

    /// Counts the instruction at `pc`, which a core has executed.
    pub fn step(&mut self, core: usize, pc: u64) {
        let Some(instruction) = self.functions.instruction(pc) else {
            self.guest += 1;
            return;
        };
        let core = self.cores.entry(core).or_default();
        core.calls.extend(core.calling.take());
        let stack = core.calls.iter().copied().chain([pc]).collect();
        *self.counts.entry(stack).or_default() += 1;
        match Kind::of(instruction) {
            Kind::Call => core.calling = Some(pc),
            Kind::Return => drop(core.calls.pop()),
            Kind::Other => {}
        }
    }

    /// Returns everything that was counted.
    pub fn profile(&self) -> Profile {
        let mut names = HashMap::<u64, Vec<String>>::new();
        let mut stacks = BTreeMap::from([(vec![GUEST.to_owned()], self.guest)]);
        for (addresses, count) in &self.counts {
            let mut stack = Vec::new();
            for &address in addresses {
                let at = names.entry(address).or_insert_with(|| self.functions.at(address));
                stack.extend_from_slice(at);
            }
            *stacks.entry(stack).or_default() += count;
        }
        Profile { stacks }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn calls_and_returns_are_told_from_the_rest() {
        for (instruction, kind) in [
            (0x9400_0010, Kind::Call),
            (0x97ff_fff0, Kind::Call),
            (0xd63f_0100, Kind::Call),
            (0xd65f_03c0, Kind::Return),
            // B, BR, ERET, NOP.
            (0x1400_0010, Kind::Other),
            (0xd61f_0100, Kind::Other),
            (0xd69f_03e0, Kind::Other),
            (0xd503_201f, Kind::Other),
        ] {
            assert_eq!(Kind::of(instruction), kind, "{instruction:#x}");
        }
    }
}
