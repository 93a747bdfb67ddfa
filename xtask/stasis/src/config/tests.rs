use super::*;

fn parse(text: &str) -> Result<Config> {
    let made = ["linux", "initramfs", "initramfs-disks", "arceos", "counter", "ring"];
    Config::of(&Written::parse(text.to_owned())?, Path::new("/there"), &made.map(str::to_owned))
}

/// A guest on a core with a frame.
const PLAN: &str = r#"[[guest]]
name = "a"
image = "@counter"
memory = "64M"
cores = [1]
weight = 200
[[core]]
number = 1
frame = "10ms"
windows = [
    { guest = "a", at = "0ms", length = "1ms" },
    { guest = "a", at = "2500us", length = "1ms" },
]
"#;

fn error(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

#[test]
fn a_guest_has_defaults_for_what_is_not_said() {
    let config =
        parse("[[guest]]\nname = \"a\"\nimage = \"@counter\"\nmemory = \"64M\"\n").unwrap();
    let guest = &config.configuration.guests[0];
    assert_eq!((guest.memory, guest.vcpus, guest.autostart), (64 << 20, 1, true));
    assert_eq!((guest.kind, &guest.initrd, &guest.cores[..]), (None, &None, &[][..]));
    let made = Source::Made("counter".to_owned());
    assert_eq!(config.files, [("counter".to_owned(), made)]);
}

#[test]
fn every_example_is_a_configuration() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        parse(&text).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
        names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    let expected = [
        "counter",
        "device",
        "disk",
        "linux",
        "linux-and-realtime",
        "one-per-core",
        "shared-memory",
        "two-linux",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_misspelt_key_is_named_with_its_line() {
    let error = error("[[guest]]\nname = \"a\"\nimgae = \"@counter\"\nmemory = \"64M\"\n");
    assert!(error.starts_with("line 3: imgae: unknown field `imgae`"), "{error}");
}

#[test]
fn a_wrong_value_is_named_with_its_line_and_key() {
    let guest = |memory: &str, more: &str| {
        error(&format!("[[guest]]\nname = \"a\"\nimage = \"x\"\nmemory = \"{memory}\"\n{more}\n"))
    };
    assert_eq!(guest("much", ""), "line 4: memory: \"much\" is no size such as \"256M\"");
    assert!(guest("3M", "").starts_with("line 4: memory: memory of 3145728 bytes"));
    assert!(guest("64M", "vcpus = 9").starts_with("line 5: vcpus: 9 vCPUs"));
    assert!(
        guest("64M", "counter-frequency = 54")
            .starts_with("line 5: counter-frequency: counter-frequency of 54 Hz")
    );
    assert!(guest("64M", "vcpus = \"two\"").starts_with("line 5: vcpus: invalid type"));
    assert!(guest("64M", "kind = \"exe\"").starts_with("line 5: kind: \"exe\" is none of"));
    assert!(guest("64M", "initrd = \"@none\"").starts_with("line 5: initrd: there is no @none"));
}

#[test]
fn a_core_is_divided_as_it_is_written() {
    let config = parse(PLAN).unwrap().configuration;
    assert_eq!(config.guests[0].cores, [1]);
    assert_eq!(config.guests[0].weight, 200);
    let core = &config.cores[0];
    assert_eq!((core.number, core.frame_us, core.windows.len()), (1, 10_000, 2));
    let window = &core.windows[1];
    assert_eq!((&*window.guest, window.at_us, window.length_us), ("a", 2_500, 1_000));
}

#[test]
fn what_is_wrong_with_a_core_is_named_with_its_line_and_key() {
    let changed = |from: &str, to: &str| error(&PLAN.replacen(from, to, 1));
    assert_eq!(
        changed("10ms", "10"),
        "line 9: frame: \"10\" is no time such as \"10ms\"; it ends in us, ms or s"
    );
    assert_eq!(
        changed("2500us", "500us"),
        "line 12: at: window 1: it begins at 500 us, before the window before it ends, at 1 ms"
    );
    assert_eq!(
        changed("1ms", "20ms"),
        "line 11: length: window 0: it ends at 20 ms, after the frame's end at 10 ms"
    );
    assert_eq!(
        changed("guest = \"a\", at = \"2500us\"", "guest = \"b\", at = \"2500us\""),
        "line 12: guest: window 1: there is no guest \"b\""
    );
    let on_core_0 = PLAN.replace("[1]", "[0]").replace("number = 1", "number = 0");
    assert!(parse(&on_core_0).is_ok());
    assert_eq!(
        error(&on_core_0.replace("\"2500us\", length = \"1ms\"", "\"1ms\", length = \"9ms\"")),
        "line 10: windows: the windows leave 0 us of the frame, and the console is on this core; \
         50 us at least it needs"
    );
    assert_eq!(
        changed("cores = [1]", "cores = [1, 2]"),
        "line 5: cores: 2 cores for 1 vCPUs are too many; one for each is enough"
    );
    assert!(changed("cores = [1]", "core = 1").starts_with("line 5: core: unknown field"));
    assert!(changed("length = \"1ms\"", "len = \"1ms\"").starts_with("line 11"));
}

#[test]
fn what_is_done_without_asking_is_read_and_checked() {
    let guest =
        |more: &str| format!("[[guest]]\nname = \"a\"\nimage = \"x\"\nmemory = \"64M\"\n{more}\n");
    let text = guest("on-crash = \"resume\"\non-reset = \"stop\"\ncheckpoint-every = \"60s\"");
    let config = parse(&text).unwrap().configuration.guests.remove(0);
    assert_eq!((config.on_crash, config.on_reset), (Policy::Resume, Policy::Stop));
    assert_eq!(config.periodic, Some(Periodic { every_us: 60_000_000, keep: 3, run_share: 50 }));
    assert_eq!(config.well_after_us, 60_000_000);
    let text = guest("checkpoint-every = \"1s\"\ncheckpoint-run-share = 90\nwell-after = \"5s\"");
    let config = parse(&text).unwrap().configuration.guests.remove(0);
    assert_eq!(config.periodic, Some(Periodic { every_us: 1_000_000, keep: 3, run_share: 90 }));
    assert_eq!(config.well_after_us, 5_000_000);
    let error = |more: &str| error(&guest(more));
    assert_eq!(
        error("on-reset = \"pray\""),
        "line 5: on-reset: \"pray\" is none of \"stop\", \"restart\", \"resume\""
    );
    assert_eq!(
        error("checkpoint-keep = 3"),
        "line 5: checkpoint-keep: checkpoint-keep is said without checkpoint-every"
    );
    assert_eq!(
        error("checkpoint-run-share = 90"),
        "line 5: checkpoint-run-share: checkpoint-run-share is said without checkpoint-every"
    );
    assert_eq!(
        error("checkpoint-every = \"1s\"\ncheckpoint-run-share = 100"),
        "line 6: checkpoint-run-share: a run share of 100 % is not possible; 1 to 99 are"
    );
    assert_eq!(
        error("well-after = \"soon\""),
        "line 5: well-after: \"soon\" is no time such as \"10ms\"; it ends in us, ms or s"
    );
    assert_eq!(
        error("checkpoint-every = \"10ms\""),
        "line 5: checkpoint-every: checkpoints every 10 ms are not possible; every 1 s to 31536000 s are"
    );
}

#[test]
fn two_guests_of_one_name_are_refused_at_the_second() {
    let guest = "[[guest]]\nname = \"a\"\nimage = \"x\"\nmemory = \"64M\"\n";
    assert_eq!(error(&guest.repeat(2)), "line 6: name: another guest has the same name");
}

#[test]
fn a_missing_key_and_a_missing_guest_are_named() {
    assert!(error("[[guest]]\nname = \"a\"\nmemory = \"64M\"\n").contains("missing field `image`"));
    assert_eq!(error(""), "there is no [[guest]]");
}

#[test]
fn two_files_of_one_name_are_refused() {
    let error =
        error("[[guest]]\nname = \"a\"\nimage = \"one/x\"\ninitrd = \"two/x\"\nmemory = \"64M\"\n");
    assert_eq!(error, "line 4: initrd: two different files would both be \"x\" in the archive");
}

/// Two guests that share memory.
const SHARED: &str = r#"[[guest]]
name = "a"
image = "@counter"
memory = "64M"
[[guest]]
name = "b"
image = "@counter"
memory = "64M"
[[shared]]
name = "ring"
size = "2M"
guests = ["a", "b"]
"#;

#[test]
fn shared_memory_is_read() {
    let config = parse(SHARED).unwrap();
    let guests = vec!["a".to_owned(), "b".to_owned()];
    let ring = SharedRegion { name: "ring".to_owned(), size: 2 << 20, guests };
    assert_eq!(config.configuration.shared, [ring]);
}

#[test]
fn what_is_wrong_with_shared_memory_is_named_with_its_line_and_key() {
    for (from, to, expected) in [
        ("\"2M\"", "\"2X\"", "line 11: size: \"2X\" is no size such as"),
        ("\"2M\"", "\"1G\"", "line 11: size: a size of 1073741824 bytes"),
        ("[\"a\", \"b\"]", "[\"a\", \"c\"]", "line 12: guests: there is no guest \"c\""),
        ("[\"a\", \"b\"]", "[\"a\"]", "line 12: guests: 1 guests are not possible"),
        ("\"ring\"", "\"r g\"", "line 10: name: the name has the character ' '"),
        ("guests =", "guest =", "line 12: guest: unknown field"),
    ] {
        let error = error(&SHARED.replace(from, to));
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn writes_to_the_store_are_verified_unless_the_user_says_otherwise() {
    let with = |line: &str| format!("{SHARED}[store]\n{line}\n");
    for (line, verify) in
        [("", true), ("verify-writes = true", true), ("verify-writes = false", false)]
    {
        assert_eq!(parse(&with(line)).unwrap().configuration.store.verify_writes, verify);
    }
    for (line, expected) in [
        (
            "verify-writes = 0",
            "line 14: verify-writes: invalid type: integer `0`, expected a boolean",
        ),
        ("verify = false", "line 14: verify: unknown field `verify`"),
    ] {
        let error = error(&with(line));
        assert!(error.starts_with(expected), "{error}");
    }
    let several = error(&format!("{SHARED}[[store]]\nverify-writes = false\n"));
    assert_eq!(several, "line 13: write [store] in place of [[store]]: there is one");
}

#[test]
fn what_is_wrong_with_devices_is_named_with_its_line_and_key() {
    let guest = "[[guest]]\nname = \"a\"\nimage = \"@counter\"\nmemory = \"64M\"\n";
    let with = |line: &str| format!("{guest}devices = [\"/pl031@9010000\"]\n{line}\n");
    assert_eq!(parse(&with("")).unwrap().configuration.guests[0].devices, ["/pl031@9010000"]);
    let error_of = |line: &str| error(&with(line));
    assert!(error_of("on-crash = \"resume\"").starts_with("line 6: on-crash: it has devices"));
    let odd = error(&format!("{guest}devices = [\"a/b\"]\n"));
    assert!(odd.starts_with("line 5: devices: device \"a/b\" is neither"), "{odd}");
}

#[test]
fn virtio_devices_are_read_and_checked() {
    let guest =
        |more: &str| format!("[[guest]]\nname = \"a\"\nimage = \"x\"\nmemory = \"64M\"\n{more}\n");
    let text = guest(
        "disks = [{ volume = \"root\", size = \"1G\" }]\nnetworks = [\"lan\"]\nentropy = true\nterminal = true",
    );
    let config = parse(&text).unwrap().configuration.guests.remove(0);
    assert_eq!(config.disks, [DiskConfig { volume: "root".to_owned(), size: 1 << 30, from: None }]);
    assert_eq!((config.networks, config.entropy), (vec!["lan".to_owned()], true));
    assert!(config.terminal);
    let error = |more: &str| error(&guest(more));
    assert!(
        error("disks = [{ volume = \"root\", size = \"1000\" }]").starts_with("line 5: disks: ")
    );
    assert!(error("disks = [{ volume = \"root\" }]").starts_with("line 5: disks"));
    assert!(error("networks = [\"a b\"]").starts_with("line 5: networks: network \"a b\""));
}

#[test]
fn what_is_wrong_with_devices_that_access_memory_is_named_with_its_line_and_key() {
    let guest = "[[guest]]\nname = \"a\"\nimage = \"@counter\"\nmemory = \"64M\"\n";
    let with = |map: &str, dma: &str| {
        format!("{guest}devices = [\"/a@1\"]\nmemory-map = \"{map}\"\ndma = \"{dma}\"\n")
    };
    let config = parse(&with("identity", "trusted")).unwrap().configuration;
    let guest = &config.guests[0];
    assert_eq!((guest.memory_map, guest.dma_trusted), (MemoryMap::Identity, true));
    assert_eq!(
        error(&with("flat", "trusted")),
        "line 6: memory-map: \"flat\" is none of \"virt\", \"identity\""
    );
    assert_eq!(error(&with("identity", "yes")), "line 7: dma: \"yes\" is not \"trusted\"");
    assert!(error(&with("virt", "trusted")).starts_with("line 7: dma: devices that access memory"));
}

#[test]
fn what_was_written_wrong_is_answered_by_what_to_type() {
    let guest = |line: &str| {
        error(&format!("[[guest]]\nname = \"a\"\nimage = \"@counter\"\nmemory = \"64M\"\n{line}\n"))
    };
    let single = "line 1: write [[guest]] in place of [guest]: there can be several";
    assert_eq!(error("[guest]\nname = \"a\"\nimage = \"@counter\"\nmemory = \"64M\"\n"), single);
    assert_eq!(
        error("[guest]\nname = \"a\"\n[guest]\nname = \"b\"\n").split_once(": ").unwrap().1,
        &single[8..]
    );
    assert_eq!(
        guest("[shared]\nname = \"x\""),
        "line 5: write [[shared]] in place of [shared]: there can be several"
    );
    let unknown = guest("checkpoint_every = \"60s\"");
    assert!(
        unknown.starts_with("line 5: checkpoint_every: unknown field `checkpoint_every`, did you mean \"checkpoint-every\"?; expected one of `name`"),
        "{unknown}"
    );
    assert_eq!(
        error("[[guest]]\nname = \"a\"\nimage = \"@counter\"\nmemory = 64\n"),
        "line 4: memory: a number needs its unit, in quotes: memory = \"64M\""
    );
    assert_eq!(
        guest("checkpoint-every = 60"),
        "line 5: checkpoint-every: a number needs its unit, in quotes: checkpoint-every = \"60s\""
    );
}

#[test]
fn a_network_with_an_uplink_is_read_and_what_is_wrong_has_its_line() {
    let text =
        |uplink: &str| format!("{SHARED}[[network]]\nname = \"lan\"\nuplink = \"{uplink}\"\n");
    let networks = parse(&text("/virtio_mmio@a003a00")).unwrap().configuration.networks;
    assert_eq!(networks[0].uplink.as_deref(), Some("/virtio_mmio@a003a00"));
    let refused = error(&text("a card"));
    assert!(refused.starts_with("line 15: uplink: uplink \"a card\" is neither"), "{refused}");
}
