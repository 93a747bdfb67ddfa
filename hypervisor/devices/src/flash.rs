//! The second flash bank of QEMU's `virt`, with nothing in it. A boot loader looks there for its
//! environment, and an external abort would end the boot loader. The bank reads as zeros, as QEMU's
//! does while no file is given for it, and ignores commands.

use crate::device::{Access, Context, Device, Effects, Window};
use crate::equipment::Equipment;
use crate::tree::Writer;
use stasis_state::machine::DeviceKind;

/// The empty flash bank. The device tree does not name it, so only a guest that knows its address
/// uses it.
#[derive(Clone, Copy, Debug)]
pub struct EmptyFlash;

impl Device for EmptyFlash {
    const WINDOW: Window = Window { base: 0x0400_0000, size: 64 << 20, count: 1, spi: None };
    const KIND: DeviceKind = DeviceKind::EMPTY_FLASH;
    type Record = ();

    fn fitted(_: &Equipment<'_>) -> Option<()> {
        Some(())
    }

    fn restored((): (), _: u64) -> Self {
        Self
    }

    fn record(&self) -> &() {
        &()
    }

    fn read(&mut self, _: Access, _: &mut impl Context) -> u64 {
        0
    }

    fn write(&mut self, _: Access, _: u64, _: &mut impl Context) -> Effects {
        Effects::NONE
    }

    fn describe(_: &Equipment<'_>, _: &mut Writer) {}
}
