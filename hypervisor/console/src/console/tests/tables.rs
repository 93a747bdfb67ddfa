//! How guests and checkpoints are listed.

use super::*;

#[test]
fn the_guests_are_listed_in_columns() {
    assert_eq!(
        written(|out| table::guests(&GUESTS).write(out, false)),
        "  number  name     state    vCPUs   memory       own     shared  to load  core\n\
        \x20      1  linux    running      2  256 MiB   3.0 MiB  253.0 MiB  1.5 MiB  1,2\n\
        \x20     12  counter  off          1   16 MiB  16.0 MiB          -        -  -\n"
    );
    assert_eq!(written(|out| table::guests(&[]).write(out, false)), "no guests\n");
}

#[test]
fn the_guests_are_listed_for_a_program() {
    assert_eq!(
        written(|out| table::guests(&GUESTS).write(out, true)),
        "{\"number\":1,\"name\":\"linux\",\"state\":\"running\",\"vcpus\":2,\"memory\":268435456,\"own\":3145728,\"shared\":265289728,\"to_load\":1572864,\"cores\":[1,2],\"changed\":8192}\n\
         {\"number\":12,\"name\":\"counter\",\"state\":\"off\",\"vcpus\":1,\"memory\":16777216,\"own\":16777216,\"shared\":0,\"to_load\":0,\"cores\":[],\"changed\":0}\n"
    );
    assert_eq!(written(|out| table::guests(&[]).write(out, true)), "");
}

#[test]
fn the_checkpoints_are_listed_with_size_and_time() {
    let row = |number, size, pages, when| StoreRow {
        number,
        name: "linux",
        guest: Some("linux"),
        size,
        frees: size / 2,
        parent: None,
        pages,
        when,
        member: None,
    };
    let rows = [
        StoreRow { guest: None, ..row(1, 999, None, 0) },
        row(2, 1536, Some(5120), 951_782_399),
        StoreRow {
            member: Some((1, 3)),
            parent: Some(2),
            ..row(3, 20_987_456, Some(5120), 1_795_361_445)
        },
        row(4, u64::MAX, Some(u64::MAX), 4_107_542_400),
    ];
    let listed = |rows: &[StoreRow<'_>]| written(|out| table::store(rows).write(out, false));
    assert_eq!(
        listed(&rows[..3]),
        "  number  name   guest       size      frees  pages  parent  when (UTC)           of set\n\
        \x20      1  linux  -      999 bytes  499 bytes      -       -  -                    -\n\
        \x20      2  linux  linux    1.5 KiB  768 bytes   5120       -  2000-02-28 23:59:59  -\n\
        \x20      3  linux  linux   20.0 MiB   10.0 MiB   5120       2  2026-11-22 15:30:45  2 of 3\n"
    );
    assert!(listed(&rows[3..]).contains("2100-03-01 00:00:00"));
    listed(&[row(u64::MAX, 0, None, u64::MAX)]);
    assert_eq!(listed(&[]), "no checkpoints\n");
    let odd = StoreRow { name: "a\"b\\", ..row(7, 999, None, 0) };
    assert_eq!(
        written(|out| table::store(&[odd]).write(out, true)),
        "{\"number\":7,\"name\":\"a\\\"b\\\\\",\"guest\":\"linux\",\"size\":999,\"frees\":499,\"pages\":null,\"parent\":null,\"when\":null,\"member\":null}\n"
    );
}

#[test]
fn volumes_are_listed_with_what_a_resume_has_set_aside() {
    let row = |name, set_aside| VolumeRow {
        name,
        size: 1 << 30,
        frees: 4096,
        when: 0,
        guest: Some("linux".to_string()).filter(|_| name == "root"),
        set_aside,
    };
    let aside = |checkpoint, guest: Option<&str>| SetAsideRow {
        volume: "root".to_string(),
        checkpoint,
        guest: guest.map(str::to_string),
    };
    let rows = [
        row("root", None),
        row("root-before-3", Some(aside(Some(3), Some("linux")))),
        row("root-before-4", Some(aside(Some(4), None))),
        row("root-recovered-1", Some(aside(None, Some("linux")))),
    ];
    assert_eq!(
        written(|out| table::volumes(&rows).write(out, false)),
        "  name                 size    frees  when (UTC)  guest  set aside\n\
        \x20 root              1.0 GiB  4.0 KiB  -           linux  -\n\
        \x20 root-before-3     1.0 GiB  4.0 KiB  -           -      root of linux, checkpoint 3\n\
        \x20 root-before-4     1.0 GiB  4.0 KiB  -           -      root, checkpoint 4\n\
        \x20 root-recovered-1  1.0 GiB  4.0 KiB  -           -      root of linux\n"
    );
    let json = written(|out| table::volumes(&rows[..3]).write(out, true));
    let ends = [
        "\"guest\":\"linux\",\"set_aside\":null}",
        "\"set_aside\":{\"volume\":\"root\",\"checkpoint\":3,\"guest\":\"linux\"}}",
        "\"set_aside\":{\"volume\":\"root\",\"checkpoint\":4,\"guest\":null}}",
    ];
    assert_eq!(json.lines().count(), ends.len());
    assert!(json.lines().zip(ends).all(|(line, end)| line.ends_with(end)), "{json}");
}
