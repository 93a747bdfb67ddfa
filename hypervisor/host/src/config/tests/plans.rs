//! How cores' time is divided: what is refused, and in which words.

use super::*;

#[test]
fn each_broken_rule_of_a_plan_names_core_and_window() {
    let complaint = |change: fn(&mut Configuration)| {
        let mut configuration = divided();
        change(&mut configuration);
        compile(&configuration).expect_err("a broken rule").to_string()
    };
    let at = |what: &str| std::format!("stasis.dtb: core 1: {what}");
    assert_eq!(
        complaint(|all| all.cores[0].frame_us = 99),
        at("a frame of 99 us is not possible; 100 us to 60 s are")
    );
    assert_eq!(
        complaint(|all| all.cores[0].windows.clear()),
        at("0 windows are not possible; 1 to 64 are")
    );
    assert_eq!(
        complaint(|all| all.cores[0].windows[0].length_us = 49),
        at("window 0: a length of 49 us is not possible; 50 us at least is")
    );
    assert_eq!(
        complaint(|all| all.cores[0].windows[0].length_us = 2001),
        at("window 1: it begins at 2 ms, before the window before it ends, at 2001 us")
    );
    for length_us in [8001, u64::MAX] {
        let mut configuration = divided();
        configuration.cores[0].windows[1].length_us = length_us;
        let end_us = length_us.saturating_add(2000);
        assert_eq!(
            compile(&configuration).unwrap_err().to_string(),
            at(&std::format!("window 1: it ends at {end_us} us, after the frame's end at 10 ms"))
        );
    }
    assert_eq!(
        complaint(|all| all.cores[0].windows[1].guest.push('e')),
        at("window 1: there is no guest \"linuxe\"")
    );
    assert_eq!(
        complaint(|all| all.guests[1].cores.clear()),
        at("window 0: guest \"counter\" is not configured to have a vCPU on this core")
    );
    assert_eq!(
        complaint(|all| all.cores.push(all.cores[0].clone())),
        at("it has another plan already")
    );
    assert_eq!(
        complaint(|all| {
            all.cores[0].windows.remove(0);
            all.cores[0].frame_us = 8000;
            all.cores[0].windows[0].at_us = 0;
        }),
        "stasis.dtb: guest \"counter\": the windows of core 1 fill its frame, and none is this guest's"
    );
}

#[test]
fn a_core_has_time_for_who_has_a_window_or_where_windows_leave_some() {
    let window = |at_us| WindowConfig { guest: "rt".to_string(), at_us, length_us: 500 };
    let plan = |number, windows| CoreConfig { number, frame_us: 1000, windows };
    let plans = [plan(1, vec![window(0)]), plan(2, vec![window(0), window(500)])];
    let open = |guest: &str| (0..4).map(|core| has_time(&plans, core, guest)).collect::<Vec<_>>();
    assert_eq!(open("rt"), [true; 4]);
    assert_eq!(open("linux"), [true, true, false, true]);
}

#[test]
fn windows_leave_the_console_time_on_its_core() {
    let with_window_of = |length_us| {
        let mut configuration = divided();
        configuration.guests.iter_mut().for_each(|guest| guest.cores = vec![CONSOLE_CORE]);
        configuration.cores[0].number = CONSOLE_CORE;
        configuration.cores[0].windows[1].length_us = length_us;
        compile(&configuration).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with_window_of(7950), Ok(()));
    let refusal = |left: &str| {
        Err(std::format!(
            "stasis.dtb: core 0: the windows leave {left} of the frame, and the console is on this core; \
             50 us at least it needs"
        ))
    };
    assert_eq!(with_window_of(7951), refusal("49 us"));
    assert_eq!(with_window_of(8000), refusal("0 us"));
}

#[test]
fn a_plan_that_was_written_wrong_is_named() {
    let complaint = |change: fn(&mut DeviceTreeNode)| {
        let dtb = compile(&divided()).unwrap();
        let mut tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
        change(tree.root.child_mut("core@1").unwrap());
        parse(&tree.to_dtb()).expect_err("a broken rule").to_string()
    };
    let at = |what: &str| std::format!("stasis.dtb: core 1: {what}");
    assert_eq!(
        complaint(|core| drop(core.remove_property("frame-us"))),
        at("property \"frame-us\" is missing")
    );
    assert_eq!(complaint(|core| put(core, "fps", &[])), at("property \"fps\" is not known"));
    assert_eq!(
        complaint(|core| put(core.child_mut("window@1").unwrap(), "at-us", &[0; 4])),
        at("window 1: property \"at-us\" is not a 64-bit number")
    );
    assert_eq!(
        complaint(|core| core.add_child(DeviceTreeNode::new("door@2").unwrap())),
        at("node \"door@2\" is not known; windows are called window@<n>")
    );
    assert_eq!(
        complaint(|core| drop(core.remove_property("reg"))),
        "stasis.dtb: core core@1: property \"reg\" is missing"
    );
}

#[test]
fn a_plan_that_is_typed_is_refused_without_the_name_of_a_file() {
    let window =
        |guest: &str, at_us, length_us| WindowConfig { guest: guest.to_string(), at_us, length_us };
    let said = |windows: Vec<WindowConfig>| {
        let plan = CoreConfig { number: 1, frame_us: 10_000, windows };
        let guests = vec![("one".to_string(), vec![1]), ("two".to_string(), vec![1])];
        check_plan(&plan, guests).map_err(|error| error.to_string())
    };
    assert_eq!(said(vec![window("one", 0, 9_000)]), Ok(()));
    let outside = said(vec![window("one", 5_000, 6_000)]).unwrap_err();
    assert!(outside.starts_with("core 1: window 0: it ends at "), "{outside}");
    let full = said(vec![window("one", 0, 10_000)]).unwrap_err();
    assert!(full.starts_with("guest \"two\": "), "{full}");
}
