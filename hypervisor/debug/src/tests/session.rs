//! gdb's packets, and what is answered.

use std::format;
use std::string::String;

use super::{LEN, Model, RAM};
use crate::plan::{Action, Stop};
use crate::points::Kind;
use crate::session::{BUFFER_BYTES, End, Session};

/// Sends packets to a guest, and returns the last answer, without its frame.
struct Gdb<'a>(Session<'a, &'a mut Model>);

impl<'a> Gdb<'a> {
    fn new(model: &'a mut Model, buffer: &'a mut [u8; BUFFER_BYTES]) -> Self {
        let mut gdb = Self(Session::new(model, buffer));
        assert_eq!(gdb.ask("QStartNoAckMode"), "OK");
        gdb.raw(b"+");
        gdb
    }

    fn raw(&mut self, bytes: &[u8]) -> String {
        let mut all = String::new();
        for byte in bytes {
            self.0.receive(*byte);
            let answers = String::from_utf8_lossy(self.0.answers()).into_owned();
            self.0.sent(answers.len());
            all.push_str(&answers);
        }
        all
    }

    fn ask(&mut self, packet: &str) -> String {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        let answer = self.raw(format!("${packet}#{sum:02x}").as_bytes());
        plain(&answer)
    }

    fn stop(&mut self, stop: Stop) -> String {
        self.0.stopped(stop);
        let answer = String::from_utf8_lossy(self.0.answers()).into_owned();
        self.0.sent(answer.len());
        plain(&answer)
    }
}

/// Returns what is in the frame of a packet, with repeated characters written out.
fn plain(answer: &str) -> String {
    let (Some(start), Some(end)) = (answer.find('$'), answer.rfind('#')) else {
        return String::new();
    };
    let mut out = String::new();
    let mut chars = answer[start + 1..end].chars();
    while let Some(one) = chars.next() {
        match one {
            '*' => {
                let count = chars.next().unwrap() as usize - 29;
                let last = out.chars().next_back().unwrap();
                out.extend(core::iter::repeat_n(last, count));
            }
            _ => out.push(one),
        }
    }
    out
}

macro_rules! gdb {
    ($gdb:ident, $model:ident) => {
        let mut buffer = [0; BUFFER_BYTES];
        let mut $gdb = Gdb::new(&mut $model, &mut buffer);
    };
}

#[test]
fn vcpus_are_threads_from_1_on() {
    let mut model = Model::new();
    gdb!(gdb, model);
    assert_eq!(gdb.ask("qfThreadInfo"), "m01,02");
    assert_eq!(gdb.ask("T2"), "OK");
    assert_eq!(gdb.ask("T3"), "E01");
    assert_eq!(gdb.ask("qAttached"), "1");
    assert_eq!(gdb.ask("?"), "T05thread:01;");
    assert_eq!(gdb.ask("Hg2"), "OK");
    assert_eq!(gdb.ask("p20"), "0001004000000000");
}

#[test]
fn the_description_is_whole_whatever_the_pieces_are() {
    let mut model = Model::new();
    gdb!(gdb, model);
    let mut whole = |piece: usize| {
        let mut text = String::new();
        loop {
            let offset = text.len();
            let answer = gdb.ask(&format!("qXfer:features:read:target.xml:{offset:x},{piece:x}"));
            match answer.strip_prefix('m') {
                Some(part) => text.push_str(part),
                None => return text,
            }
        }
    };
    let text = whole(0xffb);
    assert_eq!(text, whole(97));
    assert!(text.ends_with("</feature></target>"), "{text}");
    assert!(text.contains(r#"<reg name="vbar_el1" bitsize="64" regnum="#));
}

#[test]
fn memory_is_read_to_the_last_byte_of_ram_and_not_beyond() {
    let mut model = Model::new();
    model.ram[LEN - 2..].copy_from_slice(&[0xab, 0xcd]);
    gdb!(gdb, model);
    assert_eq!(gdb.ask(&format!("m{:x},8", RAM + LEN as u64 - 2)), "abcd");
    assert_eq!(gdb.ask("m9000000,4"), "E0e");
    assert_eq!(gdb.ask("mffffffffffffffff,8"), "E0e");
}

#[test]
fn memory_is_written_over_the_border_of_pages() {
    let mut model = Model::new();
    gdb!(gdb, model);
    assert_eq!(gdb.ask(&format!("M{:x},4:01020304", RAM + 0xffe)), "OK");
    assert_eq!(gdb.ask("M9000000,1:00"), "E0e");
    assert_eq!(model.ram[0xffe..0x1002], [1, 2, 3, 4]);
}

#[test]
fn one_vcpu_steps_while_the_others_go_or_stand() {
    let mut model = Model::new();
    gdb!(gdb, model);
    gdb.ask("vCont;s:2;c");
    assert!(gdb.0.is_running());
    assert_eq!(gdb.stop(Stop::Stepped { vcpu: 1 }), "T05thread:02;");
    gdb.ask("vCont;s:2");
    gdb.stop(Stop::Stepped { vcpu: 1 });
    gdb.ask("vCont;c");
    let actions: Vec<_> = model.plans.iter().map(|plan| &plan.actions[..2]).collect();
    use Action::{Run, Stay, Step};
    assert_eq!(actions, [[Run, Step], [Stay, Step], [Run, Run]]);
}

#[test]
fn both_kinds_of_breakpoints_are_the_hardwares() {
    let mut model = Model::new();
    let before = model.ram.clone();
    gdb!(gdb, model);
    assert_eq!(gdb.ask("Z0,40000100,4"), "OK");
    assert_eq!(gdb.ask("Z1,40000200,4"), "OK");
    assert_eq!(gdb.ask("Z2,40000300,8"), "OK");
    gdb.ask("vCont;c");
    assert_eq!(gdb.stop(Stop::Breakpoint { vcpu: 0 }), "T05thread:01;hwbreak:;");
    assert_eq!(gdb.ask("z0,40000100,4"), "OK");
    gdb.ask("vCont;c");
    let hit = Stop::Watchpoint { vcpu: 1, address: 0x4000_0300, kind: Kind::Store };
    assert_eq!(gdb.stop(hit), "T05thread:02;watch:40000300;");
    assert_eq!(model.ram, before, "nothing is written");
    assert!(model.plans[0].points.has_breakpoint(0x4000_0100));
    assert!(!model.plans[1].points.has_breakpoint(0x4000_0100));
    assert!(model.plans[1].needs_registers(0));
}

#[test]
fn the_seventh_breakpoint_is_refused() {
    let mut model = Model::new();
    gdb!(gdb, model);
    for n in 0..6 {
        assert_eq!(gdb.ask(&format!("Z{},400000{n}0,4", n % 2)), "OK");
    }
    assert_eq!(gdb.ask("Z1,40000100,4"), "E1c");
}

#[test]
fn ctrl_c_stops_a_guest_that_runs() {
    let mut model = Model::new();
    gdb!(gdb, model);
    gdb.ask("vCont;c");
    assert_eq!(gdb.raw(&[3]), "");
    assert!(gdb.0.is_running(), "until it stands still");
    assert_eq!(gdb.stop(Stop::Interrupted), "T02thread:01;");
    assert_eq!(model.interrupts, 1);
}

#[test]
fn a_guest_that_ends_ends_the_session() {
    let mut model = Model::new();
    gdb!(gdb, model);
    gdb.ask("vCont;c");
    assert_eq!(gdb.stop(Stop::Ended), "W00");
    assert_eq!(gdb.0.end(), Some(End::Ended));
}

#[test]
fn a_guest_that_cannot_be_changed_refuses_by_number() {
    let mut model = Model::new();
    model.limits = None;
    gdb!(gdb, model);
    assert_eq!(gdb.ask("M40000000,1:ff"), "E1e");
    assert_eq!(gdb.ask("P0=0100000000000000"), "E1e");
    assert_eq!(gdb.ask("Z0,40000000,4"), "E1e");
    for packet in ["vCont;c", "vCont;s:1", "s", "c"] {
        assert_eq!(gdb.ask(packet), "T11thread:01;", "{packet}");
        assert!(!gdb.0.is_running());
    }
    assert_eq!(gdb.ask("D"), "OK");
    assert_eq!(gdb.0.end(), Some(End::Left));
}

#[test]
fn what_asks_for_too_much_ends_the_session_and_nothing_else() {
    for packet in ["m40000000,ffffffff", "m40000000,ffffffffffffffff"] {
        let mut model = Model::new();
        model.ram.iter_mut().zip(0..).for_each(|(byte, n): (_, usize)| *byte = n as u8);
        gdb!(gdb, model);
        gdb.ask(packet);
        assert_eq!(gdb.0.end(), Some(End::Protocol), "{packet}");
    }
}
