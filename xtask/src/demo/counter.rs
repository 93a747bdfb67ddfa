//! The bare-metal guest of the demo: a counter that its timer drives, and a hash over memory that
//! the guest keeps changing.

use anyhow::Result;
use stasis_guests::workload::{Model, TICKS_PER_HASH, parse};

use super::{Step, Values, Workload};
use crate::console::Console;

pub struct Counter {
    model: Model,
}

impl Counter {
    pub fn new() -> Self {
        Self { model: Model::new() }
    }
}

impl Workload for Counter {
    fn begin(&mut self, _: &mut Console) -> Result<()> {
        Ok(())
    }

    fn step(&self, line: &str) -> Option<Step> {
        let (tick, hash) = parse(line)?;
        Some((tick, format!("{hash:016x}")))
    }

    fn stride(&self) -> u64 {
        TICKS_PER_HASH
    }

    fn expected(&mut self, step: u64) -> String {
        format!("{:016x}", self.model.hash_at(step))
    }

    fn before(&mut self, _: &mut Console) -> Result<()> {
        Ok(())
    }

    fn after(&mut self, _: &mut Console) -> Result<Values> {
        // The guest checks its registers and its time itself, and prints FAULT if they are wrong.
        Ok(vec![(
            "the guest's own checks",
            "registers, interrupts and time as they were".to_owned(),
        )])
    }
}
