//! What the cores and the guests do: the tables of `top`.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use stasis_console::table::{Cell, Column, Table};
use stasis_guest::stats::{Reason, Snapshot};

/// A vCPU, and its counters over the time that is looked at.
#[derive(Clone, Debug)]
pub struct VcpuRow<'a> {
    /// The vCPU's guest.
    pub guest: &'a str,
    /// The vCPU's index in its guest.
    pub vcpu: usize,
    /// The physical core that it is on.
    pub core: u32,
    /// What it has had and done.
    pub counters: Snapshot,
}

impl VcpuRow<'_> {
    /// Returns the vCPU's share of its core in thousandths, rounded to the nearest, of the time
    /// between the two looks at the vCPU. With others in the way, these are not at the same
    /// instants for all vCPUs.
    fn thousandths(&self) -> u64 {
        let whole = u128::from(self.counters.at.max(1));
        let part = u128::from(self.counters.ticks.min(self.counters.at));
        ((part * 1000 + whole / 2) / whole) as u64
    }
}

/// Everything that `top` shows.
#[derive(Clone, Debug)]
pub struct Top<'a> {
    /// Ticks of the counter that are looked at.
    pub ticks: u64,
    /// Ticks of the counter in a second.
    pub frequency: u64,
    /// The physical cores.
    pub cores: Vec<u32>,
    /// The vCPUs.
    pub vcpus: Vec<VcpuRow<'a>>,
}

impl Top<'_> {
    /// Writes it: over how long, then the cores, then the vCPUs.
    pub fn write(&self, out: &mut dyn Write, json: bool) -> fmt::Result {
        let millis = (u128::from(self.ticks) * 1000 / u128::from(self.frequency.max(1))) as u64;
        match json {
            true => writeln!(out, "{{\"milliseconds\":{millis}}}")?,
            false => writeln!(out, "over {}.{:03} s", millis / 1000, millis % 1000)?,
        }
        self.core_table().write(out, json)?;
        self.vcpu_table().write(out, json)
    }

    fn core_table(&self) -> Table {
        const COLUMNS: &[Column] = &[
            Column::number("core"),
            Column::number("guests").key("share"),
            Column::number("vCPUs").key("vcpus"),
        ];
        let rows = self.cores.iter().map(|&core| {
            let here = || self.vcpus.iter().filter(move |vcpu| vcpu.core == core);
            let share: u64 = here().map(VcpuRow::thousandths).sum();
            vec![
                Cell::Number(core.into()),
                Cell::Share(share.min(1000)),
                Cell::Number(here().count() as u64),
            ]
        });
        Table { columns: COLUMNS, rows: rows.collect(), nothing: "no cores" }
    }

    fn vcpu_table(&self) -> Table {
        const fn exits(reason: usize) -> Column {
            Column::number(Reason::ALL[reason].name())
        }
        const COLUMNS: &[Column] = &[
            Column::text("guest"),
            Column::number("vCPU").key("vcpu"),
            Column::number("core"),
            Column::number("share"),
            Column::number("switches"),
            Column::number("interrupts"),
            exits(0),
            exits(1),
            exits(2),
            exits(3),
            exits(4),
            exits(5),
        ];
        let rows = self.vcpus.iter().map(|vcpu| {
            let counters = &vcpu.counters;
            let [irq, mmio, sysreg, call, wait, fault] = counters.exits.map(Cell::Number);
            vec![
                Cell::text(vcpu.guest),
                Cell::Number(vcpu.vcpu as u64),
                Cell::Number(vcpu.core.into()),
                Cell::Share(vcpu.thousandths()),
                Cell::Number(counters.switches),
                Cell::Number(counters.interrupts),
                irq,
                mmio,
                sysreg,
                call,
                wait,
                fault,
            ]
        });
        Table { columns: COLUMNS, rows: rows.collect(), nothing: "no guests" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
        let mut out = String::new();
        write(&mut out).unwrap();
        out
    }

    #[test]
    fn top_shows_cores_and_vcpus_and_their_shares_add_up() {
        let vcpu = |guest, vcpu, core, ticks| VcpuRow {
            guest,
            vcpu,
            core,
            counters: Snapshot {
                at: 10_000,
                ticks,
                switches: 9,
                interrupts: 70,
                exits: [1, 2, 3, 4, 5, 6],
            },
        };
        let mut top = Top {
            ticks: 10_000,
            frequency: 5_000,
            cores: vec![0, 1],
            vcpus: vec![
                vcpu("linux", 0, 1, 2_504),
                vcpu("linux", 1, 1, 7_496),
                vcpu("twin", 0, 0, 0),
            ],
        };
        assert_eq!(
            written(|out| top.write(out, false)),
            "over 2.000 s\n\
            \x20 core  guests  vCPUs\n\
            \x20    0    0.0%      1\n\
            \x20    1  100.0%      2\n\
            \x20 guest  vCPU  core  share  switches  interrupts  irq  mmio  sysreg  call  wait  fault\n\
            \x20 linux     0     1  25.0%         9          70    1     2       3     4     5      6\n\
            \x20 linux     1     1  75.0%         9          70    1     2       3     4     5      6\n\
            \x20 twin      0     0   0.0%         9          70    1     2       3     4     5      6\n"
        );
        let json = written(|out| top.write(out, true));
        let lines: Vec<&str> = json.lines().collect();
        assert_eq!(lines[0], "{\"milliseconds\":2000}");
        assert_eq!(lines[2], "{\"core\":1,\"share\":1.000,\"vcpus\":2}");
        assert!(
            lines[3].starts_with("{\"guest\":\"linux\",\"vcpu\":0,\"core\":1,\"share\":0.250,")
        );
        // Nothing that was measured makes it divide by zero or overflow.
        (top.ticks, top.frequency) = (0, 0);
        top.vcpus[0].counters.ticks = u64::MAX;
        top.vcpus[0].counters.at = 0;
        top.vcpus[1].counters.ticks = u64::MAX;
        written(|out| top.write(out, false));
    }
}
