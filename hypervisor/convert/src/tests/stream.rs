//! Where the section is in a stream.

use zerocopy::IntoBytes;

use super::*;
use crate::Error;
use crate::qemu::section::{ArmGic, VirtState};
use crate::qemu::{encode, stream::locate};

/// Returns a description's field list, as QEMU writes it.
fn fields(fields: &[(&str, usize)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, len)| format!(r#"{{"name": "{name}", "type": "buffer", "size": {len}}}"#))
        .collect();
    fields.join(", ")
}

/// A stream with a RAM section that holds anything, and after it the sections of some devices.
struct Stream {
    bytes: Vec<u8>,
    devices: Vec<String>,
}

impl Stream {
    fn new(ram: &[u8]) -> Self {
        let mut bytes = b"QEVM\0\0\0\x03".to_vec();
        bytes.extend([0x01, 0, 0, 0, 2, 3]);
        bytes.extend(b"ram\0\0\0\0\0\0\0\x04");
        bytes.extend(ram);
        bytes.extend([0x7e, 0, 0, 0, 2]);
        Self { bytes, devices: Vec::new() }
    }

    fn section(mut self, name: &str, version: u32, contents: &[u8], description: &str) -> Self {
        let number = (40 + self.devices.len() as u32).to_be_bytes();
        self.bytes.push(0x04);
        self.bytes.extend(number);
        self.bytes.push(name.len() as u8);
        self.bytes.extend(name.bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(version.to_be_bytes());
        self.bytes.extend(contents);
        self.bytes.push(0x7e);
        self.bytes.extend(number);
        self.devices.push(format!(
            r#"{{"name": "{name}", "instance_id": 0, "version": {version}, {description}}}"#
        ));
        self
    }

    fn buffer(self, name: &str, contents: &[u8]) -> Self {
        let description = format!(r#""fields": [{}]"#, fields(&[("data", contents.len())]));
        self.section(name, 1, contents, &description)
    }

    fn gic(self, gic: &ArmGic) -> Self {
        self.section(
            "arm_gic",
            12,
            gic.as_bytes(),
            &format!(r#""fields": [{}]"#, fields(ArmGic::FIELDS)),
        )
    }

    fn finish(self) -> Vec<u8> {
        let Self { mut bytes, devices } = self;
        let json = format!(r#"{{"page_size": 4096, "devices": [{}]}}"#, devices.join(", "));
        bytes.extend([0x00, 0x06]);
        bytes.extend((json.len() as u32).to_be_bytes());
        bytes.extend(json.bytes());
        bytes
    }
}

fn some_gic() -> ArmGic {
    let bytes: Vec<u8> = (0..6000u32).map(|n| ((n * 37) >> 3) as u8).collect();
    let state = state(Shape { nr_irqs: 288, nr_cpus: 4, prio_bits: 5 }, &bytes);
    encode(&state, Backend::Tcg).section
}

#[test]
fn the_section_is_found_even_if_a_guest_has_one_in_its_memory() {
    let trap = Stream::new(b"").gic(&encode(&machine(), Backend::Tcg).section).finish();
    let stream = Stream::new(&trap)
        .buffer("cpu", b"registers")
        .gic(&some_gic())
        .buffer("pl011", &trap)
        .finish();
    let located = locate(&stream).unwrap();
    assert_eq!(located.section(&stream).unwrap(), some_gic());
    assert_eq!((located.cpus, located.virt), (1, None));
}

#[test]
fn replacing_the_section_changes_nothing_else() {
    let mut stream = Stream::new(b"").gic(&some_gic()).buffer("pl011", b"x").finish();
    let before = stream.clone();
    let located = locate(&stream).unwrap();
    located.replace(&mut stream, &encode(&machine(), Backend::Tcg).section).unwrap();
    assert_ne!(stream, before);
    located.replace(&mut stream, &some_gic()).unwrap();
    assert_eq!(stream, before);
}

#[test]
fn the_registers_of_gich_are_read_where_they_are() {
    let mut contents = some_gic().as_bytes().to_vec();
    let virt: Vec<u8> = (0..size_of::<VirtState>()).map(|n| n as u8).collect();
    contents.extend(b"\x05\x12arm_gic_virt_state\0\0\0\x01");
    contents.extend(&virt);
    let description = format!(
        r#""fields": [{}], "subsections": [{{"vmsd_name": "arm_gic_virt_state", "version": 1, "fields": [{}]}}]"#,
        fields(ArmGic::FIELDS),
        fields(VirtState::FIELDS)
    );
    let stream = Stream::new(b"").section("arm_gic", 12, &contents, &description).finish();
    let located = locate(&stream).unwrap();
    assert_eq!(located.section(&stream).unwrap(), some_gic());
    assert_eq!(located.virt_state(&stream).unwrap().as_bytes(), virt);
}

#[test]
fn another_version_or_layout_is_named() {
    let gic = some_gic();
    let description = format!(r#""fields": [{}]"#, fields(ArmGic::FIELDS));
    let stream = Stream::new(b"").section("arm_gic", 13, gic.as_bytes(), &description).finish();
    assert_eq!(locate(&stream), Err(Error::SectionVersion { found: 13 }));

    let description = description.replace("irq_target", "irq_prey");
    let stream = Stream::new(b"").section("arm_gic", 12, gic.as_bytes(), &description).finish();
    let what = "irq_prey with 1 times 1020 bytes stands where irq_target with 1020 bytes should";
    assert_eq!(locate(&stream), Err(Error::SectionLayout { what: what.into() }));
}

#[test]
fn what_is_no_stream_or_has_no_gic_is_named() {
    assert_eq!(locate(b"STASIS"), Err(Error::NotAStream));
    let stream = Stream::new(b"").buffer("pl011", b"x").finish();
    assert_eq!(locate(&stream), Err(Error::NoSection));
    assert_eq!(locate(&stream[..40]), Err(Error::NoDescription));
}

#[test]
fn sections_that_do_not_fit_their_description_are_named() {
    let stream = Stream::new(b"")
        .gic(&some_gic())
        .section("pl011", 2, b"xy", r#""fields": [{"name": "data", "size": 3}]"#)
        .finish();
    let error = Error::SectionLost { name: "pl011".into(), instance: 0 };
    assert_eq!(locate(&stream), Err(error));
}

proptest! {
    #[test]
    fn any_damage_to_a_stream_is_survived(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut stream = Stream::new(b"").gic(&some_gic()).buffer("pl011", b"x").finish();
        // Most of it is the section itself, where damage is not noticed.
        let interesting = stream.len() - 1500;
        for (at, byte) in damage {
            let at = interesting + at.index(1500);
            stream[at] = byte;
        }
        if cut {
            stream.truncate(interesting + end.index(1500));
        }
        if let Ok(located) = locate(&stream) {
            let _ = located.section(&stream);
            let _ = located.virt_state(&stream);
        }
    }
}
