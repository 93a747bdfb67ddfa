//! The description of the registers, as gdb reads it: `target.xml`, written piece by piece, so that
//! nobody needs room for all of it.

use core::fmt::{self, Write};

use stasis_state::register::Record;
use stasis_state::vcpu::SystemRegisters;

use crate::registers::{GENERAL, SYSTEM, V0, VECTORS};

/// A part of a text: what stands before `skip` is left out, and what finds no room in `into`.
struct Window<'a> {
    skip: usize,
    into: &'a mut [u8],
    len: usize,
}

impl Write for Window<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let (before, rest) = text.as_bytes().split_at(self.skip.min(text.len()));
        self.skip -= before.len();
        let room = &mut self.into[self.len..];
        let fits = rest.len().min(room.len());
        room[..fits].copy_from_slice(&rest[..fits]);
        self.len += fits;
        Ok(())
    }
}

/// Writes the description from byte `offset` on into `into`, and returns how many bytes there are;
/// 0 behind its end.
pub fn read(offset: usize, into: &mut [u8]) -> usize {
    let mut window = Window { skip: offset, into, len: 0 };
    // A window takes all that is written.
    let _ = write(&mut window);
    window.len
}

/// Writes all of the description. Its features and their registers have gdb's own names;
/// `org.stasis.system` is of Stasis.
fn write(to: &mut dyn Write) -> fmt::Result {
    to.write_str(
        r#"<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">"#,
    )?;
    to.write_str(r#"<architecture>aarch64</architecture>"#)?;
    to.write_str(r#"<feature name="org.gnu.gdb.aarch64.core">"#)?;
    for n in 0..GENERAL {
        write!(to, r#"<reg name="x{n}" bitsize="64"/>"#)?;
    }
    to.write_str(r#"<reg name="sp" bitsize="64" type="data_ptr"/>"#)?;
    to.write_str(r#"<reg name="pc" bitsize="64" type="code_ptr"/>"#)?;
    to.write_str(r#"<reg name="cpsr" bitsize="32"/></feature>"#)?;
    to.write_str(r#"<feature name="org.gnu.gdb.aarch64.fpu">"#)?;
    write_vector_type(to)?;
    for n in 0..VECTORS {
        write!(to, r#"<reg name="v{n}" bitsize="128" regnum="{}" type="vector"/>"#, V0 + n)?;
    }
    to.write_str(r#"<reg name="fpsr" bitsize="32"/><reg name="fpcr" bitsize="32"/></feature>"#)?;
    to.write_str(r#"<feature name="org.stasis.system">"#)?;
    for (n, register) in SystemRegisters::REGISTERS.iter().enumerate() {
        let (name, bits, number) = (register.name, 8 * register.shape.width, SYSTEM + n);
        write!(to, r#"<reg name="{name}" bitsize="{bits}" regnum="{number}" group="system"/>"#)?;
    }
    to.write_str("</feature></target>")
}

/// Writes the type of a vector register: its elements by their widths.
fn write_vector_type(to: &mut dyn Write) -> fmt::Result {
    const ELEMENTS: [(&str, &str, usize); 6] = [
        ("d_f", "ieee_double", 2),
        ("d_u", "uint64", 2),
        ("s_f", "ieee_single", 4),
        ("s_u", "uint32", 4),
        ("h_u", "uint16", 8),
        ("b_u", "uint8", 16),
    ];
    for (name, element, count) in ELEMENTS {
        write!(to, r#"<vector id="{name}" type="{element}" count="{count}"/>"#)?;
    }
    to.write_str(r#"<union id="vector">"#)?;
    for (name, ..) in ELEMENTS {
        write!(to, r#"<field name="{name}" type="{name}"/>"#)?;
    }
    to.write_str(r#"<field name="q" type="uint128"/></union>"#)
}
