//! Checkpoints that are damaged, or of another machine: one line that names it; others can still be
//! resumed.

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::Stasis;
use stasis_qemu_tests::tamper::{self, File, Record};
use stasis_state::envelope::{RecordType, Scope};
use stasis_state::guest::{Clock, Guest};
use stasis_state::vcpu::{Identity, Power, PowerState};
use stasis_state::vgic::Distributor;
use std::path::{Path, PathBuf};
use xtask::workspace::read;

/// A disk with a good checkpoint of `idle`, and the bytes of that.
struct Good {
    disk: PathBuf,
    number: u64,
    bytes: Vec<u8>,
}

impl Good {
    fn new(lab: &Lab) -> Result<Self> {
        let disk = lab.disk()?;
        let mut stasis = lab.machine().guest("idle")?.disk(&disk).boot()?;
        stasis.attach("idle")?;
        stasis.qemu.console.wait_for("idle\r\n", stasis_qemu_tests::guests::SILENCE)?;
        stasis.detach()?;
        let number = stasis.checkpoint("idle", "good")?;
        stasis.quit()?;
        let bytes = tamper::get(&disk, number)?;
        ensure!(
            File::parse(&bytes)?.to_bytes() == bytes,
            "taken apart and put together, it is another"
        );
        Ok(Self { disk, number, bytes })
    }

    fn file(&self) -> Result<File> {
        File::parse(&self.bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<u64> {
        tamper::put(&self.disk, name, bytes)
    }

    fn boot(&self, lab: &Lab) -> Result<Stasis> {
        lab.machine().no_archive().disk(&self.disk).boot()
    }

    /// A changed one is refused with a line that has these words; the good one is not.
    fn refuses(&self, lab: &Lab, file: &File, words: &[&str]) -> Result<()> {
        let bad = self.put("bad", &file.to_bytes())?;
        let mut stasis = self.boot(lab)?;
        stasis.refused_for(&format!("resume {bad}"), words)?;
        stasis.is_alive()?;
        stasis.resume(self.number)?;
        stasis.is_alive()?;
        stasis.quit()?;
        unchanged(&self.disk, self.number, &self.bytes)
    }
}

fn unchanged(disk: &Path, number: u64, bytes: &[u8]) -> Result<()> {
    ensure!(tamper::get(disk, number)? == bytes, "checkpoint {number} has changed");
    Ok(())
}

pub fn a_file_cut_short(lab: &Lab) -> Result<()> {
    let good = Good::new(lab)?;
    let whole = good.bytes.len();
    let lengths =
        [0, 1, 7, 47, 48, 49, 63, 64, 100, 1000, whole / 2, whole - 4096, whole - 16, whole - 1];
    let mut bad = Vec::new();
    for length in lengths {
        bad.push(good.put(&format!("cut-{length}"), &good.bytes[..length])?);
    }
    let mut longer = good.bytes.clone();
    longer.extend_from_slice(&[0; 16]);
    bad.push(good.put("longer", &longer)?);

    let mut stasis = good.boot(lab)?;
    for number in bad {
        stasis.refused(&format!("resume {number}"))?;
    }
    stasis.resume(good.number)?;
    stasis.is_alive()?;
    stasis.quit()
}

pub fn one_bit_flipped(lab: &Lab) -> Result<()> {
    let good = Good::new(lab)?;
    let len = good.bytes.len();
    // Everything of the header and the first record's header, and places all over the file.
    let mut places: Vec<usize> = (0..64).collect();
    places.extend((1..160).map(|n| n * len / 160));
    places.push(len - 1);
    let mut bad = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let mut bytes = good.bytes.clone();
        bytes[*place] ^= 1 << (number % 8);
        bad.push((*place, good.put(&format!("flip-{place}"), &bytes)?));
    }
    let mut stasis = good.boot(lab)?;
    for (place, number) in bad {
        stasis
            .refused(&format!("resume {number} --whole"))
            .with_context(|| format!("byte {place} was changed"))?;
    }
    stasis.resume(good.number)?;
    stasis.is_alive()?;
    stasis.quit()?;
    unchanged(&good.disk, good.number, &good.bytes)
}

pub fn a_newer_version(lab: &Lab) -> Result<()> {
    let good = Good::new(lab)?;
    let mut newer = good.file()?;
    newer.header.major += 1;
    let version = format!("format 2.{}", newer.header.minor);
    good.refuses(lab, &newer, &[&version, "up to 1."])?;

    let mut feature = good.file()?;
    feature.header.incompatible = 1 << 40;
    good.refuses(lab, &feature, &["features"])?;

    let mut record = good.file()?;
    record.records.insert(1, Record { kind: 0x0777, instance: 0, body: vec![1; 24] });
    good.refuses(lab, &record, &["0x0777"])?;

    // What a newer minor version adds in a form that may be skipped is skipped.
    const OPTIONAL: u16 = 0x8000;
    let mut skipped = good.file()?;
    skipped.header.minor += 1;
    skipped.records.insert(1, Record { kind: 0x0777 | OPTIONAL, instance: 0, body: vec![1; 24] });
    let number = good.put("skipped", &skipped.to_bytes())?;
    let mut stasis = good.boot(lab)?;
    // And that is said.
    let said = stasis.command(&format!("resume {number}"))?;
    let without = format!("checkpoint {number} has 1 record that this version does not know");
    ensure!(said.iter().any(|line| line.starts_with(&without)), "it was not said: {said:#?}");
    stasis.quit()
}

pub fn a_name_that_could_be_a_commands_goes_on_under_another(lab: &Lab) -> Result<()> {
    let golden = Built::get()?.workspace.root().join("tests/golden/running/1.0-handler.stasis");
    let mut file = File::parse(&read(&golden)?)?;
    let name = file.register::<Guest>(0, "name")?;
    name.fill(0);
    // As versions before 1.3 of the format allowed it.
    name[..6].copy_from_slice(b"a\nok\x1b[");
    let disk = lab.disk()?;
    let number = tamper::put(&disk, "named", &file.to_bytes())?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.refused_for(&format!("resume {number}"), &["as NAME"])?;
    let lines = stasis.command(&format!("resume {number} as harmless"))?;
    ensure!(lines.iter().any(|line| line.contains("\"harmless\" goes on")), "{lines:#?}");
    stasis.quit()
}

pub fn more_vcpus_than_the_guest_has_here(lab: &Lab) -> Result<()> {
    const VCPUS: u16 = 8;
    let good = Good::new(lab)?;
    let mut file = good.file()?;
    file.set::<Guest>(0, "nr_vcpus", VCPUS.into())?;
    file.set::<Distributor>(0, "nr_cpus", VCPUS.into())?;
    let of_a_vcpu = |record: &Record| {
        RecordType::from_number(record.kind).is_some_and(|kind| kind.scope() == Scope::Vcpu)
    };
    let one: Vec<Record> =
        file.records.iter().filter(|record| of_a_vcpu(record)).cloned().collect();
    let behind = file.records.iter().rposition(of_a_vcpu).context("it has no vCPU")? + 1;
    let others = (1..VCPUS)
        .flat_map(|instance| one.iter().cloned().map(move |record| Record { instance, ..record }));
    file.records.splice(behind..behind, others);
    for instance in 1..VCPUS {
        file.set::<Power>(instance, "state", PowerState::Off as u64)?;
        file.set::<Identity>(instance, "mpidr_el1", 0x8000_0000 | u64::from(instance))?;
    }
    let bad = good.put("bad", &file.to_bytes())?;
    let mut stasis = good.boot(lab)?;
    // In the place of a guest: where there is none of its name, its vCPUs share the cores that
    // there are.
    stasis.resume(good.number)?;
    stasis.refused_for(&format!("resume {bad}"), &["8 vcpus"])?;
    stasis.is_alive()?;
    stasis.quit()?;
    unchanged(&good.disk, good.number, &good.bytes)
}

pub fn more_memory(lab: &Lab) -> Result<()> {
    const RAM: u64 = 64 << 30;
    let good = Good::new(lab)?;
    let mut file = good.file()?;
    file.set::<Guest>(0, "ram_size", RAM)?;
    good.refuses(lab, &file, &["68719476736 bytes"])
}

pub fn another_counter_frequency(lab: &Lab) -> Result<()> {
    let good = Good::new(lab)?;
    let mut file = good.file()?;
    file.set::<Clock>(0, "cntfrq", 54_000_000)?;
    good.refuses(lab, &file, &["54000000 hz", "62500000 hz"])
}

pub fn another_cpu(lab: &Lab) -> Result<()> {
    let good = Good::new(lab)?;
    // One that zeroes memory by blocks of 128 bytes.
    let mut file = good.file()?;
    file.set::<Identity>(0, "dczid_el0", 5)?;
    good.refuses(lab, &file, &["dczid_el0.bs is 5", "this machine's is 4"])
}
