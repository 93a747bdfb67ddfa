//! `docs/format.md` says what the code does: the same records, registers, shapes and reset values.

use std::{convert::Infallible, fmt::Write, fs, mem::offset_of};

use stasis_state::{
    Record, RecordHeader, RecordType,
    block::{BLOCK_PAGES, BlockHead, CRCS_AT, KINDS_AT},
    devices::{DeviceRecord, Devices, Visitor},
    directory::{DirectoryHead, Entry},
    envelope::Scope,
    guest,
    header::{Header, HeaderTail},
    machine::{self, DeviceKind},
    memory::Extent,
    register::{Home, VALUE_OFFSET},
    vcpu, vgic,
};
use zerocopy::FromZeros;

fn specification() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format.md");
    fs::read_to_string(path).unwrap()
}

/// Returns the table of a record as the specification has it, without the meanings.
fn table<R: Record>() -> String {
    let mut table = title(R::TYPE);
    let reset = R::reset();
    for register in R::REGISTERS {
        let shape = register.shape;
        let width = usize::from(shape.width);
        let start = register.offset + VALUE_OFFSET;
        let value = &reset.as_bytes()[start..start + width * usize::from(shape.count)];
        let (element, _) = value.split_at(width);
        assert!(value.chunks(width).all(|other| other == element));
        let mut bytes = [0; 16];
        bytes[..width].copy_from_slice(element);
        let reset = match u128::from_le_bytes(bytes) {
            small @ 0..10 => small.to_string(),
            large => format!("{large:#x}"),
        };
        let name = register.name.to_uppercase();
        let (id, count) = (register.id, shape.count);
        writeln!(table, "| {id:#06x} | {name} | {count} x {width} | {reset} |").unwrap();
    }
    table
}

/// Adds the table of each record it is shown.
struct Tables<'a>(&'a mut Vec<String>);

impl Visitor<'_> for Tables<'_> {
    type Error = Infallible;

    fn record<R: DeviceRecord>(&mut self, _: &R) -> Result<(), Infallible> {
        self.0.push(table::<R>());
        Ok(())
    }
}

fn title(kind: RecordType) -> String {
    let scope = match kind.scope() {
        Scope::Vcpu => "one per vCPU",
        Scope::AtMostOne => "one or none",
        Scope::Guest if kind.is_absent_at_reset() => "one or none",
        Scope::Guest | Scope::Any => "one",
    };
    format!("### {} ({:#06x}), {scope}\n", kind.name(), kind as u16)
}

#[test]
fn the_tables_of_the_specification_are_those_of_the_code() {
    let mut code = vec![
        table::<guest::Guest>(),
        table::<guest::Clock>(),
        table::<guest::GuestPower>(),
        table::<guest::Lineage>(),
        table::<machine::Machine>(),
        table::<vgic::Distributor>(),
        table::<vgic::CpuInterface>(),
        table::<vcpu::Core>(),
        table::<vcpu::FpSimd>(),
        table::<vcpu::SystemRegisters>(),
        table::<vcpu::Debug>(),
        table::<vcpu::Power>(),
        table::<vcpu::Identity>(),
    ];
    let Ok(()) = Devices::every().records().visit(&mut Tables(&mut code));
    let with_registers = RecordType::ALL.iter().filter(|kind| kind.has_registers());
    assert_eq!(code.len(), with_registers.count());
    let text = specification();
    let mut specified = String::new();
    for line in text.lines() {
        if line.starts_with("### ") && line.contains(" (0x") {
            writeln!(specified, "{line}").unwrap();
        } else if line.starts_with("| 0x") {
            let (columns, _meaning) = line.trim_end_matches(" |").rsplit_once('|').unwrap();
            writeln!(specified, "{columns}|").unwrap();
        }
    }
    let expected = code.concat();
    for (specified, code) in specified.lines().zip(expected.lines()) {
        assert_eq!(specified, code);
    }
    assert_eq!(specified, expected);
}

#[test]
fn the_specification_says_once_what_each_register_can_do() {
    let text = specification();
    let (_, section) = text.split_once("## What a value can do\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut said: Vec<(&str, &str)> = Vec::new();
    for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [record, registers, becomes, checks] = columns[..] else { panic!("{row}") };
        assert!(becomes.len() > 5 && checks.len() > 5, "{row}");
        said.extend(registers.split(", ").map(|register| (record, register)));
    }
    let mut registers = Vec::new();
    let (mut record, mut tables) = ("", text.lines());
    tables.find(|line| *line == "## The tables").unwrap();
    for line in tables.take_while(|line| !line.starts_with("## ")) {
        if let Some((name, _)) = line.strip_prefix("### ").and_then(|line| line.split_once(' ')) {
            record = name;
        } else if line.starts_with("| 0x") {
            registers.push((record, line.split('|').nth(2).unwrap().trim()));
        }
    }
    said.sort_unstable();
    registers.sort_unstable();
    assert_eq!(said, registers);
}

#[test]
fn the_specification_has_every_kind_of_device() {
    let text = specification();
    let (_, after) = text.split_once("The kinds of devices:").unwrap();
    let table = after.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let said = rows.map(|row| row.trim_matches('|').split('|').take(2).map(str::trim).collect());
    let kinds = DeviceKind::ALL.iter().map(|kind| (kind.name().unwrap(), kind.0));
    let mut kinds: Vec<Vec<String>> =
        kinds.map(|(name, kind)| vec![name.to_owned(), format!("{kind:#04x}")]).collect();
    kinds.push(vec!["virtio device".into(), "0x100 + ID".into()]);
    assert_eq!(said.collect::<Vec<Vec<&str>>>(), kinds);
}

/// Returns the columns of the first table behind `text` in the specification, without the meanings
/// and without rows that have no fixed place.
fn layout(text: &str) -> Vec<(usize, String, String)> {
    let specification = specification();
    let (_, after) = specification.split_once(text).unwrap();
    let table = after.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let rows = table.take_while(|line| line.starts_with('|')).filter_map(|row| {
        let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let offset = columns[0].parse().ok()?;
        Some((offset, columns[1].to_owned(), columns[2].to_owned()))
    });
    rows.collect()
}

/// Returns the rows of a table: the offset of each field, its bytes, and its name.
macro_rules! fields {
    ($Type:ty: $($field:ident),*) => {
        vec![$((
            offset_of!($Type, $field),
            size_of_val(&<$Type>::new_zeroed().$field).to_string(),
            stringify!($field).to_owned(),
        )),*]
    };
}

#[test]
fn the_layouts_of_the_specification_are_those_of_the_code() {
    let header = fields!(Header: magic, major, minor, header_len, incompatible, compatible, total_len, reserved, crc);
    assert_eq!(layout("## Header\n"), header);
    let tail = fields!(HeaderTail: directory, reserved).into_iter();
    let tail = tail.map(|(offset, bytes, field)| (Header::LEN + offset, bytes, field));
    assert_eq!(layout("if header_len is at least 64:\n"), tail.collect::<Vec<_>>());
    let (count, body) = (RecordHeader::LEN, "length".to_owned());
    let mut record = fields!(RecordHeader: kind, instance, length, reserved, crc);
    record[0].2 = "type".to_owned();
    record.push((count, body, "body".to_owned()));
    assert_eq!(layout("## Records\n"), record);
    let mut block = fields!(BlockHead: address, pages, reserved);
    block.push((KINDS_AT, BLOCK_PAGES.to_string(), "kinds".to_owned()));
    block.push((CRCS_AT, "4 * raw".to_owned(), "crcs".to_owned()));
    assert_eq!(layout("The body of RAM_BLOCK (0x0041):"), block);
    let mut directory = fields!(DirectoryHead: blocks, touched);
    let entries = format!("{} * blocks", size_of::<Entry>());
    directory.push((size_of::<DirectoryHead>(), entries, "entries".to_owned()));
    assert_eq!(layout("RAM_DIRECTORY (0x0043), one, says"), directory);
    assert_eq!(layout("\nAn entry:\n"), fields!(Entry: address, start, raw, words));
    assert_eq!(layout("(0x0040) is an extent:"), fields!(Extent: address, pages, kind));
    for kind in
        [RecordType::RamBlock, RecordType::RamPages, RecordType::RamDirectory, RecordType::Pad]
    {
        let named = format!("{} ({:#06x})", kind.name(), kind as u16);
        assert!(specification().contains(&named), "{named}");
    }
}

#[test]
fn the_specification_names_the_version_that_is_written() {
    let version = stasis_state::header::VERSION;
    let title = format!("# The checkpoint format, version {version}\n");
    assert!(specification().starts_with(&title));
}

/// Returns each home of a vCPU's registers, and what is there, in the order of the tables.
fn homes() -> Vec<(Home, Vec<String>)> {
    let tables = [
        vcpu::Core::REGISTERS,
        vcpu::FpSimd::REGISTERS,
        vcpu::SystemRegisters::REGISTERS,
        vcpu::Debug::REGISTERS,
        vcpu::Power::REGISTERS,
        vcpu::Identity::REGISTERS,
        vgic::CpuInterface::REGISTERS,
    ];
    let mut homes: Vec<(Home, Vec<String>)> = Vec::new();
    for register in tables.concat() {
        let name = register.name.to_uppercase();
        match homes.iter_mut().find(|(home, _)| *home == register.home) {
            Some((_, names)) => names.push(name),
            None => homes.push((register.home, vec![name])),
        }
    }
    homes
}

#[test]
fn the_architecture_says_where_each_register_of_a_loaded_vcpu_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
    let text = fs::read_to_string(path).unwrap();
    for (home, names) in homes() {
        let home = match home {
            Home::Kept(why) => format!("`Kept`: {why}"),
            Home::Record(why) => format!("`Record`: {why}"),
            Home::El2(register) => format!("`El2`: {register}"),
            other => format!("`{other:?}`"),
        };
        let row = format!("| {home} | {} |", names.join(", "));
        assert!(text.lines().any(|line| line == row), "ARCHITECTURE.md lacks this row:\n{row}");
    }
}
