//! Tests: one per rule, and random histories against a second, obvious model.
//!
//! - [`interface`]: a CPU interface, for both. [`hardware`]: GICH and GICV. [`machine`]: the vGIC on
//!   several cores, with a guest that does what it is told. [`reference`]: the second model.

mod access;
mod cost;
mod hardware;
mod interface;
mod late;
mod machine;
mod random;
mod records;
mod reference;
mod rules;
