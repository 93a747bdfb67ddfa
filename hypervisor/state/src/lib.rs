//! The format of a guest's saved state.
//!
//! - [`register`]: a register in memory and in the file, and [`record!`], which declares a record.
//! - [`vgic`], [`vcpu`], [`guest`], [`device`]: the records.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod device;
pub mod guest;
pub mod register;
pub mod vcpu;
pub mod vgic;

pub use register::{Record, RegHeader};

/// The kinds of records, by the number in their header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordType {
    /// [`guest::Guest`].
    Guest = 1,
    /// [`guest::Clock`].
    Clock = 2,
    /// [`vgic::Distributor`].
    VgicDistributor = 0x10,
    /// [`vgic::CpuInterface`].
    VgicCpu = 0x11,
    /// [`vcpu::Core`].
    VcpuCore = 0x20,
    /// [`vcpu::SystemRegisters`].
    VcpuSystem = 0x21,
    /// [`vcpu::FpSimd`].
    VcpuFp = 0x22,
    /// [`vcpu::Debug`].
    VcpuDebug = 0x23,
    /// [`vcpu::Power`].
    VcpuPower = 0x24,
    /// [`vcpu::Identity`].
    VcpuIdentity = 0x25,
    /// [`device::Pl011`].
    DevicePl011 = 0x30,
    /// [`device::Pl031`].
    DevicePl031 = 0x31,
}
