//! A guest whose registers all differ, and a file in memory.
#![allow(dead_code)]

pub mod edit;

use stasis_state::{
    Capture, Checkpoint, Error, GuestState, LoadError, PAGE_SIZE, ReadRam, Routines, Stats, Target,
    WriteRam,
    device::{Pl061, SharedMemory, Watchdog},
    virtio::{ALL_QUEUES, GenerationId, Virtio, device_id},
};

pub fn save(state: &GuestState, ram: &[u8]) -> (Vec<u8>, Stats) {
    save_all(state, ram, &[])
}

/// Returns the state of a guest that shares memory.
pub fn save_all(state: &GuestState, ram: &[u8], shared: &[&[u8]]) -> (Vec<u8>, Stats) {
    let ram = ram.to_vec();
    let shared: Vec<Vec<u8>> = shared.iter().map(|region| region.to_vec()).collect();
    let shared: Vec<&dyn ReadRam> = shared.iter().map(|region| region as _).collect();
    let capture = Capture::new(state.records(), &ram, &shared, Routines::default());
    let mut file = Vec::new();
    let stats = capture.expect("a sound state").write(&mut file, &mut |_, _| ()).unwrap();
    assert_eq!(stats.bytes, file.len() as u64);
    (file, stats)
}

pub fn load(file: &[u8]) -> Result<Checkpoint, Error> {
    match stasis_state::read(&mut &*file, Routines::default(), &mut |_, _| ()) {
        Ok(checkpoint) => Ok(checkpoint),
        Err(LoadError::Format(error)) => Err(error),
        Err(LoadError::Source(never) | LoadError::Refused(never)) => match never {},
    }
}

pub fn load_ram(file: &[u8], checkpoint: &Checkpoint) -> Result<Vec<u8>, Error> {
    load_all(file, checkpoint, Vec::new())
}

/// Returns the RAM of the guest of a file, and the content of what is shared, as far as that is
/// wanted.
pub fn load_all(
    file: &[u8],
    checkpoint: &Checkpoint,
    shared: Vec<Option<&mut dyn WriteRam>>,
) -> Result<Vec<u8>, Error> {
    let mut ram = vec![0xa5; *checkpoint.state.guest.ram_size as usize];
    let shared = shared.into_iter().map(|region| region.map(|region| region as _)).collect();
    let target = Target { ram: &mut ram, shared };
    let routines = Routines::default();
    match stasis_state::read_memory(&mut &*file, checkpoint, target, routines, &mut |_, _| ()) {
        Ok(()) => Ok(ram),
        Err(LoadError::Format(error)) => Err(error),
        Err(LoadError::Source(never) | LoadError::Refused(never)) => match never {},
    }
}

/// Returns RAM of which the pages with a letter are filled with it, and the others are zero. Pages
/// with a capital letter begin with another byte, so that they are no word over and over.
pub fn ram(pages: &str) -> Vec<u8> {
    pages.bytes().flat_map(page).collect()
}

fn page(letter: u8) -> [u8; PAGE_SIZE] {
    let mut page = [if letter == b'.' { 0 } else { letter }; PAGE_SIZE];
    if letter.is_ascii_uppercase() {
        page[0] = 1;
    }
    page
}

/// Returns a sound state of which no two registers are alike.
pub fn state(nr_vcpus: u8, ram_size: usize) -> GuestState {
    let mut state = GuestState::reset(nr_vcpus);
    state.guest.name[..6].copy_from_slice(b"golden");
    *state.guest.ram_base = 0x4000_0000;
    *state.guest.ram_size = ram_size as u64;
    *state.clock.cntvct = 123_456_789;
    *state.clock.cntfrq = 62_500_000;
    *state.clock.wall_time = 1_800_000_000;

    let cpus = u8::try_from((1u16 << nr_vcpus) - 1).unwrap();
    let last = nr_vcpus - 1;
    let dist = &mut state.distributor;
    *dist.nr_irqs = 288;
    *dist.dist_base = 0x0800_0000;
    *dist.cpu_base = 0x0801_0000;
    *dist.ctlr = 1;
    for spi in 0..256 {
        dist.spi_prio[spi] = (spi as u8) << 3;
        dist.spi_targets[spi] = 1 << (spi % usize::from(nr_vcpus));
    }
    for word in 0..8 {
        dist.spi_group[word] = 0x1111_0000 + word as u32;
        dist.spi_enable[word] = 0x2222_0000 + word as u32;
        dist.spi_latch[word] = 0x3333_0000 + word as u32;
        dist.spi_level[word] = 0x4444_0000 + word as u32;
        dist.spi_edge[word] = 0x5555_0000 + word as u32;
    }
    dist.spi_prio[1] = 0xa0;
    dist.spi_group[0] &= !2;
    dist.spi_active[0] = 2;
    dist.spi_active_cpu[1] = last;

    for (index, vcpu) in (0..).zip(&mut state.vcpus) {
        let mut next = u64::from(index) << 32 | 0xabcd_0000;
        let mut unique = || {
            next += 1;
            next
        };
        vcpu.core.x.fill_with(&mut unique);
        *vcpu.core.pc = 0x4000_1000 + u64::from(index);
        *vcpu.core.pstate = 0x3c5;
        vcpu.fp.v.fill_with(|| [unique(), unique()]);
        *vcpu.fp.fpsr = unique() as u32;
        *vcpu.system.vbar_el1 = unique();
        *vcpu.system.ttbr1_el1 = unique();
        *vcpu.system.cntv_cval_el0 = unique();
        *vcpu.debug.os_lock = 0;
        vcpu.debug.dbgbvr.fill_with(&mut unique);
        *vcpu.identity.midr_el1 = 0x410f_d034;
        *vcpu.identity.mpidr_el1 = 0x8000_0000 | u64::from(index);
        *vcpu.power.entry = unique();
        let gic = &mut vcpu.cpu_interface;
        *gic.priv_enable = 0x4800_ffff;
        *gic.priv_latch = 0x0400_0000;
        *gic.priv_level = 0x0800_0000;
        gic.priv_prio.fill(0xa0);
        gic.sgi_src[5] = cpus;
        *gic.cc_ctlr = 1;
        *gic.cc_pmr = 0xf0;
        if index == last {
            gic.cc_apr[2] = 1 << (0xa0 / 2 - 64);
        }
    }
    *state.devices.pl011.rx_count = 2;
    state.devices.pl011.rx_fifo[0] = 0x141;
    state.devices.pl011.rx_fifo[1] = 0x42;
    *state.devices.pl031.offset = 77;
    state
}

/// Returns a watchdog that has barked.
pub fn watchdog() -> Watchdog {
    let mut watchdog = Watchdog::default();
    *watchdog.wcs = 0b11;
    *watchdog.wor = 0x0bad_cafe;
    *watchdog.wcv = 987_654_321;
    watchdog
}

/// Returns a GPIO controller whose registers all differ, with the power key down.
pub fn pl061() -> Pl061 {
    let mut gpio = Pl061::default();
    (*gpio.data, *gpio.dir, *gpio.is, *gpio.ibe) = (0x10, 0x30, 0x04, 0x08);
    (*gpio.iev, *gpio.ie, *gpio.edges, *gpio.afsel) = (0x0c, 0x0e, 0x09, 0x80);
    *gpio.key_until = 129_706_789;
    gpio
}

/// Returns a disk with requests in its queue, a network card whose driver is at its beginning, and
/// a source of random bytes that waits for its reset.
pub fn virtio() -> Virtio {
    let mut virtio = Virtio::default();
    for (n, id) in [device_id::BLOCK, device_id::NETWORK, device_id::ENTROPY].iter().enumerate() {
        virtio.device_id[n] = *id;
        virtio.features[n] = 1 << 32 | 0x1234_0000 << n;
        virtio.driver_features[n] = 1 << 32;
        virtio.features_sel[n] = n as u32;
        virtio.driver_features_sel[n] = 1;
        virtio.status[n] = [0xf, 0x3, 0x4f][n];
        virtio.interrupt_status[n] = n as u32 + 1;
        virtio.config_generation[n] = 77 + n as u32;
    }
    virtio.set_name(0, "root");
    virtio.set_name(1, "lan");
    virtio.queue_sel[1] = 1;
    for queue in 0..ALL_QUEUES.min(6) {
        let number = queue as u64 + 1;
        virtio.queue_num[queue] = 1 << (queue + 2);
        virtio.queue_ready[queue] = (queue % 2 == 0).into();
        virtio.queue_desc[queue] = 0x4000_0000 + number * 0x1000;
        virtio.queue_driver[queue] = 0x4000_0000 + number * 0x1100;
        virtio.queue_device[queue] = 0x4000_0000 + number * 0x1200;
        virtio.queue_next_avail[queue] = 0xfff0 + queue as u16;
        virtio.queue_used[queue] = 0xffe0 + queue as u16;
    }
    virtio.capacity[0] = 0x20_0000;
    virtio.mac[1] = 0x0605_0403_0252;
    virtio.net_status[1] = 3;
    virtio
}

/// Returns a generation ID that the guest has not read yet.
pub fn generation() -> GenerationId {
    let mut generation = GenerationId::default();
    *generation.id = core::array::from_fn(|n| 0xa0 + n as u8);
    *generation.is_new = 1;
    generation
}

/// Returns two regions, of two pages and of one. Somebody has rung in the second.
pub fn shared() -> SharedMemory {
    let mut shared = SharedMemory::default();
    for (n, name, base, pages) in [(0, "ring", 0x1000_0000, 2), (1, "log", 0x1800_0000, 1)] {
        shared.set_name(n, name);
        shared.base[n] = base;
        shared.size[n] = pages * PAGE_SIZE as u64;
        shared.index[n] = n as u8;
        shared.peers[n] = 2 + n as u8;
    }
    shared.status[1] = 0b101;
    shared
}
