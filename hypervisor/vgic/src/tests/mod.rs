//! Tests: one per rule, and random histories against a second, obvious model.
//!
//! - [`interface`]: a CPU interface, for both. [`hardware`]: a core's virtual interface. [`gicv3`]:
//!   its values in registers of a GICv3.
//! - [`machine`]: the vGIC on several cores, with a guest that does what it is told. [`reference`]:
//!   the second model.
//! - [`rules`], [`access`] (rule 8): a test that bears the number of each rule, and fails when it
//!   is broken.
//! - [`docs`]: `docs/vgic.md` names these tests.
//! - [`refill`]: each entry of all others in two ways. [`random`], [`late`]: histories. [`cost`]:
//!   accesses to hardware. [`records`]: what a file may say.

mod access;
pub mod cost;
mod docs;
mod gicv3;
mod hardware;
mod interface;
mod late;
mod machine;
mod random;
mod records;
mod reference;
mod refill;
mod rules;
