//! Machines as other firmware leaves them, and with other CPUs than the boards have.

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{ticks, transcript};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::Setup;
use xtask::workspace::{read, write};

use crate::same_machine;

/// The offset of Stasis behind the code before it: an image begins at a multiple of 2 MiB.
const BEHIND: usize = 2 << 20;
/// The header of an arm64 Linux `Image`, and in it the first instruction and the image's size.
const HEADER: usize = 64;
const CODE: usize = 0;
const SIZE: usize = 16;

/// Code that leaves the stack pointer, the byte order and the layout of EL2's registers as they
/// rarely are.
const LEAVES_BEHIND: [u32; 7] = [
    0xd53c_1009, // mrs x9, sctlr_el2
    0xb267_0129, // orr x9, x9, #(1 << 25): EE, big-endian
    0xd51c_1009, // msr sctlr_el2, x9
    0xd2c0_0089, // mov x9, #(1 << 34): E2H
    0xd51c_1109, // msr hcr_el2, x9
    0xd500_40bf, // msr spsel, #0
    0xd503_3fdf, // isb
];

/// Returns the instruction `b` to `bytes` bytes further on.
fn branch(bytes: usize) -> u32 {
    0x1400_0000 | (bytes / 4) as u32
}

/// Returns an image that executes `code` first, and then is `image`.
fn after(code: &[u32], image: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = image.get(..HEADER).context("the image has no header")?.to_vec();
    let size: [u8; 8] = bytes[SIZE..SIZE + 8].try_into()?;
    let size = u64::from_le_bytes(size) + BEHIND as u64;
    bytes[SIZE..SIZE + 8].copy_from_slice(&size.to_le_bytes());
    bytes[CODE..CODE + 4].copy_from_slice(&branch(HEADER).to_le_bytes());
    bytes.extend(code.iter().flat_map(|instruction| instruction.to_le_bytes()));
    bytes.extend(branch(BEHIND - bytes.len()).to_le_bytes());
    bytes.resize(BEHIND, 0);
    bytes.extend_from_slice(image);
    Ok(bytes)
}

/// All cores come up, and a guest runs on the last.
fn comes_up(setup: Setup) -> Result<()> {
    let mut stasis = setup.guest("counter")?.boot()?;
    for line in &stasis.greeting {
        ensure!(!line.contains("was not started") && !line.contains("did not arrive"), "{line}");
    }
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 5)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn what_it_leaves_in_el2s_registers_makes_no_difference(lab: &Lab) -> Result<()> {
    let path = lab.path("Image");
    write(&path, &after(&LEAVES_BEHIND, &read(&Built::get()?.image)?)?)?;
    // The guest is on the core that has it left so.
    comes_up(lab.machine().image(&path).cpu("cortex-a76").cpus(1))
}

pub fn a_cpu_may_have_more_than_a_cortex_a72(lab: &Lab) -> Result<()> {
    for cpu in ["cortex-a76", "neoverse-n1", "max"] {
        comes_up(lab.machine().cpu(cpu)).with_context(|| cpu.to_owned())?;
    }
    Ok(())
}

pub fn what_newer_cpus_add_is_undefined_in_a_guest(lab: &Lab) -> Result<()> {
    const UNDEFINED: &str = ": ESR Err(2000000)";
    for cpu in ["cortex-a76", "max"] {
        let mut stasis = lab.machine().cpu(cpu).guest("probe")?.boot()?;
        stasis.attach("probe")?;
        let lines = transcript(&mut stasis.qemu.console, same_machine::answer)?;
        let registers = lines.iter().filter(|line| line.starts_with("MRS "));
        let (undefined, there): (Vec<_>, Vec<_>) =
            registers.partition(|line| line.ends_with(UNDEFINED));
        ensure!(there.is_empty() && undefined.len() >= 8, "{cpu}: {there:#?}, of {lines:#?}");
        stasis.kill()?;
    }
    Ok(())
}
