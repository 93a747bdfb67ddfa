//! Tries to hurt whoever runs it: every access, call and register that may catch a hypervisor
//! unprepared, and more of each than there is time for.
//!
//! The guest asks for the name of an attack, or of none for all of them, and keeps each up for
//! [`LENGTH_MS`] at least. It expects no particular answers. It must come to its end, printing
//! `survived`, whatever they are; and whoever else is on the machine must not notice.

#![no_std]
#![no_main]

mod caches;
mod calls;
mod devices;
mod exits;
mod holds;
mod memory;
mod sgis;
mod storms;
mod system;
mod tables;
mod virtio;

use stasis_guests::{println, timer, uart};

stasis_guests::entry!(run, storms::irq);

/// The least that an attack takes, in milliseconds of the guest's time.
const LENGTH_MS: u64 = 800;

type Attack = (&'static str, fn());

const ATTACKS: [Attack; 11] = [
    ("devices", devices::attack),
    ("memory", memory::attack),
    ("tables", tables::attack),
    ("calls", calls::attack),
    ("registers", system::attack),
    ("caches", caches::attack),
    ("interrupts", storms::attack),
    ("sgis", sgis::attack),
    ("exits", exits::attack),
    ("holds", holds::attack),
    ("virtio", virtio::attack),
];

fn run() {
    let mut line = [0; 16];
    let wanted = loop {
        println!("which attack?");
        let name = read_line(&mut line);
        let known = name.is_empty() || ATTACKS.iter().any(|attack| attack.0.as_bytes() == name);
        if known {
            break name;
        }
        for (name, _) in ATTACKS {
            println!("  {name}");
        }
    };
    for (name, attack) in ATTACKS {
        if wanted.is_empty() || wanted == name.as_bytes() {
            println!("attack: {name}");
            let end = timer::now() + timer::frequency() * LENGTH_MS / 1000;
            while timer::now() < end {
                attack();
            }
        }
    }
    println!("survived");
}

/// Returns what is typed up to a carriage return, or as much of it as there is room for.
fn read_line(line: &mut [u8]) -> &[u8] {
    let mut length = 0;
    loop {
        let byte = uart::get();
        if byte == b'\r' {
            return &line[..length];
        }
        if let Some(place) = line.get_mut(length) {
            *place = byte;
            length += 1;
        }
    }
}
