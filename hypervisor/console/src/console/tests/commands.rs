//! What a line means: commands, help, and guests by name.

use super::*;

#[test]
fn each_command_is_understood() {
    let of = |guests: &[&'static str], name| Command::Checkpoint { guests: guests.to_vec(), name };
    let cases = [
        ("help", Command::Help(None)),
        ("help resume", Command::Help(Some("resume"))),
        ("guests", Command::Guests { json: false }),
        ("guests --json", Command::Guests { json: true }),
        ("top", Command::Top { seconds: None, times: 1, json: false }),
        ("top 2", Command::Top { seconds: Some(2), times: 1, json: false }),
        ("top --json 2 10", Command::Top { seconds: Some(2), times: 10, json: true }),
        ("pause linux", Command::Pause(vec!["linux"])),
        ("unpause 1", Command::Unpause(vec!["1"])),
        ("shutdown linux", Command::Shutdown(vec!["linux"])),
        ("stop linux", Command::Stop(vec!["linux"])),
        ("start linux", Command::Start(vec!["linux"])),
        ("restart linux", Command::Restart(vec!["linux"])),
        ("remove linux", Command::Remove(vec!["linux"])),
        ("pause all", Command::Pause(vec![])),
        ("stop linux,1", Command::Stop(vec!["linux", "1"])),
        ("start probe,linux", Command::Start(vec!["probe", "linux"])),
        ("dmesg", Command::Dmesg { lines: 16 << 10 }),
        ("dmesg 3", Command::Dmesg { lines: 3 }),
        ("checkpoint linux", of(&["linux"], None)),
        ("  checkpoint\t1 before ", of(&["1"], Some("before"))),
        ("checkpoint linux,1 before ", of(&["linux", "1"], Some("before"))),
        ("checkpoint all", of(&[], None)),
        (
            "resume 3",
            Command::Resume {
                which: "3",
                copy: None,
                any_speed: false,
                whole: false,
                keep_disks: false,
            },
        ),
        (
            "resume 3 --any-speed as twin",
            Command::Resume {
                which: "3",
                copy: Some("twin"),
                any_speed: true,
                whole: false,
                keep_disks: false,
            },
        ),
        (
            "resume --whole 3",
            Command::Resume {
                which: "3",
                copy: None,
                any_speed: false,
                whole: true,
                keep_disks: false,
            },
        ),
        (
            "resume set-1/",
            Command::Resume {
                which: "set-1/",
                copy: None,
                any_speed: false,
                whole: false,
                keep_disks: false,
            },
        ),
        (
            "resume 3 --keep-disks",
            Command::Resume {
                which: "3",
                copy: None,
                any_speed: false,
                whole: false,
                keep_disks: true,
            },
        ),
        ("clone linux as twin", Command::Clone { guest: "linux", name: "twin" }),
        ("delete before", Command::Delete("before")),
        ("attach linux", Command::Attach { guest: "linux", terminal: false }),
        ("log linux", Command::Log { guest: "linux", lines: 24 }),
        ("log linux 3", Command::Log { guest: "linux", lines: 3 }),
        ("store", Command::Store { json: false }),
        ("store upgrade", Command::UpgradeStore),
        ("store compress lz4", Command::CompressStore("lz4")),
        ("store list --json", Command::Store { json: true }),
        ("volume", Command::Volumes { json: false }),
        ("volume list --json", Command::Volumes { json: true }),
        ("volume create root 1G", Command::CreateVolume { name: "root", size: 1 << 30 }),
        ("volume copy root other", Command::CopyVolume { name: "root", to: "other" }),
        ("volume delete root", Command::DeleteVolume("root")),
        ("gic linux", Command::Gic("linux")),
        ("weight", Command::Weights { json: false }),
        ("weight linux,1 300", Command::SetWeight { guests: vec!["linux", "1"], weight: 300 }),
        ("weight all 1", Command::SetWeight { guests: vec![], weight: 1 }),
        ("windows --json", Command::Windows { json: true }),
        ("windows 0 none", Command::Divide { core: 0, frame: None }),
        (
            "windows 1 10ms a:0ms:2ms,b:5ms:500us",
            Command::Divide {
                core: 1,
                frame: Some((
                    10_000,
                    vec![
                        Window { guest: "a", at_us: 0, length_us: 2000 },
                        Window { guest: "b", at_us: 5000, length_us: 500 },
                    ],
                )),
            },
        ),
        ("cancel", Command::Cancel),
        ("quit", Command::Quit),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line), Ok(command), "{line}");
    }
}

#[test]
fn a_question_mark_asks_for_help() {
    assert_eq!(parse("?"), Ok(Command::Help(None)));
    assert_eq!(parse("? top"), Ok(Command::Help(Some("top"))));
    assert!(parse("help ?").is_ok());
}

#[test]
fn mistyped_input_gets_an_answer() {
    let cases = [
        ("", "no command"),
        (
            "chekpoint 1",
            "no command \"chekpoint\"; did you mean \"checkpoint\"? (\"help\" lists them)",
        ),
        ("exit", "no command \"exit\"; did you mean \"quit\"? (\"help\" lists them)"),
        ("reboot", "no command \"reboot\" (\"help\" lists them)"),
        ("help puase", "no command \"puase\"; did you mean \"pause\"? (\"help\" lists them)"),
        (
            "volume create root",
            "size is missing; usage: volume [list|create|copy|delete] [name] [size|new] [--json]",
        ),
        (
            "volume create root much",
            "\"much\" is no size such as \"1G\" or \"512M\"; usage: volume [list|create|copy|delete] [name] [size|new] [--json]",
        ),
        (
            "volume make",
            "\"make\" stands where only \"list|create|copy|delete\" can; usage: volume [list|create|copy|delete] [name] [size|new] [--json]",
        ),
        (
            "volume list root",
            "\"root\" is one argument too many; usage: volume [list|create|copy|delete] [name] [size|new] [--json]",
        ),
        ("pause", "<guests> is missing; usage: pause <guests>"),
        ("checkpoint", "<guests> is missing; usage: checkpoint <guests> [name]"),
        (
            "resume",
            "<number|name|set/> is missing; usage: resume <number|name|set/> [as <new name>] [--any-speed] [--whole] [--keep-disks]",
        ),
        (
            "resume 1 as",
            "<new name> is missing; usage: resume <number|name|set/> [as <new name>] [--any-speed] [--whole] [--keep-disks]",
        ),
        (
            "resume 1 is twin",
            "\"is\" stands where only \"as\" can; usage: resume <number|name|set/> [as <new name>] [--any-speed] [--whole] [--keep-disks]",
        ),
        ("weight linux", "weight is missing; usage: weight [guests] [weight] [--json]"),
        (
            "weight linux 0",
            "\"0\" is no number from 1 to 10000; usage: weight [guests] [weight] [--json]",
        ),
        (
            "windows 1 10",
            "\"10\" is no time such as \"10ms\" or \"500us\"; usage: windows [core] [frame|none] [guest:at:length,...] [--json]",
        ),
        (
            "windows 1 10ms a:0ms",
            "\"a:0ms\" is no window such as \"linux:0ms:2ms\": its guest, where it begins in the frame, how long it is; usage: windows [core] [frame|none] [guest:at:length,...] [--json]",
        ),
        (
            "windows 1 none a",
            "\"a\" is one argument too many; usage: windows [core] [frame|none] [guest:at:length,...] [--json]",
        ),
        (
            "windows x 10ms a:0ms:1ms",
            "\"x\" is no number from 0 to 4294967295; usage: windows [core] [frame|none] [guest:at:length,...] [--json]",
        ),
        (
            "windows 1 none --json",
            "\"--json\" is no option of it; usage: windows [core] [frame|none] [guest:at:length,...] [--json]",
        ),
        (
            "weight linux 300 --json",
            "\"--json\" is no option of it; usage: weight [guests] [weight] [--json]",
        ),
        (
            "windows 1 10ms b:c:5ms:500us",
            "\"b:c:5ms:500us\" is no window such as \"linux:0ms:2ms\": its guest, where it begins in the frame, how long it is; usage: windows [core] [frame|none] [guest:at:length,...] [--json]",
        ),
        ("guests all", "\"all\" is one argument too many; usage: guests [--json]"),
        ("guests --jsno", "\"--jsno\" is no option of it; usage: guests [--json]"),
        ("checkpoint 1 a b c", "\"b\" is one argument too many; usage: checkpoint <guests> [name]"),
        ("checkpoint a,,b", "\"a,,b\" names a guest without a name"),
        ("checkpoint a,b,a", "\"a,b,a\" names a guest twice"),
        ("top 0", "\"0\" is no number from 1 to 3600; usage: top [seconds] [times] [--json]"),
        ("log linux x", "\"x\" is no number from 1 to 16384; usage: log <guest> [lines]"),
        ("\x1b[2J", "no command \"\\u{1b}[2J\" (\"help\" lists them)"),
    ];
    for (line, message) in cases {
        assert_eq!(parse(line).unwrap_err().to_string(), message);
    }
}

#[test]
fn help_has_a_line_for_every_command_and_explains_each() {
    let mut help = String::new();
    write_help(&mut help, None).unwrap();
    assert_eq!(help.lines().count(), 26);
    assert!(
        help.contains(
            "  pause <guests>                                                                    stop guests' time\n"
        ),
        "{help}"
    );
    for line in help.lines() {
        let word = line.split_ascii_whitespace().next().unwrap();
        let mut one = String::new();
        write_help(&mut one, Some(word)).unwrap();
        assert!(one.starts_with(word) && one.lines().count() > 1, "{one}");
        assert!(one.lines().all(|line| line.len() <= 110), "{one}");
    }
    let mut one = String::new();
    write_help(&mut one, Some("attach")).unwrap();
    assert!(one.starts_with("attach <guest> [--terminal]: connect this terminal to a guest's\n"));
}

#[test]
fn no_command_begins_with_the_key_for_a_break() {
    let mut help = String::new();
    write_help(&mut help, None).unwrap();
    assert!(help.contains("send-break") && help.lines().all(|line| !line.trim().starts_with('b')));
}

#[test]
fn a_guest_is_found_by_name_and_number() {
    assert_eq!(find_guest(&GUESTS, "counter"), Ok(1));
    assert_eq!(find_guest(&GUESTS, "12"), Ok(1));
    assert_eq!(
        find_guest(&GUESTS, "2").unwrap_err().to_string(),
        "no guest \"2\"; there are: 1 linux, 12 counter"
    );
    assert_eq!(find_guest(&[], "2").unwrap_err().to_string(), "no guest \"2\"; there is none");
}

#[test]
fn several_guests_are_found_in_the_order_of_the_words_and_all_if_none_is_named() {
    assert_eq!(find_guests(&GUESTS, &["counter", "1"]), Ok(vec![1, 0]));
    assert_eq!(find_guests(&GUESTS, &[]), Ok(vec![0, 1]));
    let why = |guests: &[GuestRow<'_>], words: &[&str]| {
        find_guests(guests, words).unwrap_err().to_string()
    };
    assert_eq!(why(&[], &[]), "there is no guest");
    assert_eq!(why(&GUESTS, &["counter", "12"]), "guest \"counter\" is named twice");
    assert!(why(&GUESTS, &["linux", "nobody"]).starts_with("no guest \"nobody\""));
}
