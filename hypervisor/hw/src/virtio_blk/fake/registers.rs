//! The registers of a virtio disk for tests, as the transport of `virtio-drivers` reaches them
//! (virtio 1.2, 4.2).

use super::{Device, Manner, Queue};
use std::cell::RefCell;
use std::rc::Rc;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The device's registers.
pub struct Registers(pub Rc<RefCell<Device>>);

impl Transport for Registers {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().features
    }

    fn write_driver_features(&mut self, features: u64) {
        assert_eq!(features & !self.0.borrow().features, 0, "only what was offered is accepted");
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        assert_eq!(queue, 0);
        self.0.borrow().queue_max
    }

    fn notify(&mut self, queue: u16) {
        assert_eq!(queue, 0);
        let device = &mut *self.0.borrow_mut();
        assert!(device.status.contains(DeviceStatus::DRIVER_OK), "3.1.1: not before DRIVER_OK");
        device.fetch();
        while device.manner == Manner::AtOnce && !device.own.has.is_empty() {
            device.work();
        }
    }

    fn get_status(&self) -> DeviceStatus {
        self.0.borrow().status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        let device = &mut *self.0.borrow_mut();
        if status.is_empty() && device.ignores_reset {
            return;
        }
        device.status = status;
        if device.refuses_features {
            device.status.remove(DeviceStatus::FEATURES_OK);
        }
        if status.is_empty() {
            device.reset();
        }
    }

    fn set_guest_page_size(&mut self, bytes: u32) {
        assert_eq!(bytes, 4096);
    }

    fn requires_legacy_layout(&self) -> bool {
        self.0.borrow().legacy
    }

    fn queue_set(
        &mut self,
        _: u16,
        len: u32,
        descriptors: PhysAddr,
        available: PhysAddr,
        used: PhysAddr,
    ) {
        let device = &mut *self.0.borrow_mut();
        if device.legacy {
            let behind = |end: u64| end.next_multiple_of(4096);
            let available_end = descriptors + u64::from(len) * 18 + 6;
            assert_eq!(available, descriptors + u64::from(len) * 16);
            assert_eq!(used, behind(available_end), "2.7.2: the legacy layout");
        }
        device.own.queue = Some(Queue { len: len as u16, descriptors, available, used });
    }

    fn queue_unset(&mut self, _: u16) {
        self.0.borrow_mut().own.queue = None;
    }

    fn queue_used(&mut self, _: u16) -> bool {
        self.0.borrow().own.queue.is_some()
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let device = &mut *self.0.borrow_mut();
        if device.manner == Manner::WorstMoment {
            device.work();
        }
        device.own.interrupt = false;
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let device = &mut *self.0.borrow_mut();
        if device.restless {
            device.capacity = device.capacity.wrapping_add(1 << 32);
        }
        let value = match offset {
            0 => device.capacity as u32,
            4 => (device.capacity >> 32) as u32,
            0x14 => device.block_size,
            _ => panic!("the configuration space at {offset:#x}"),
        };
        Ok(T::read_from_bytes(value.as_bytes()).expect("these fields are words"))
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _: usize,
        _: T,
    ) -> Result<(), Error> {
        panic!("the driver configures nothing");
    }
}
