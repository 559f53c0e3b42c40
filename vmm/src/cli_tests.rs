use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::CommandFactory;

use super::*;
use crate::config::{DiskConfig, Engine, Notify, Registers};

fn parse_words(words: &[&str]) -> Result<VmConfig, NoRun> {
    parse_os(words.iter().map(Into::into))
}

fn parse_os(words: impl Iterator<Item = OsString>) -> Result<VmConfig, NoRun> {
    match parse(std::iter::once("vmm".into()).chain(words))? {
        Command::Run(config) => Ok(*config),
        #[cfg(feature = "bench")]
        Command::Bench(request) => panic!("no machine: {request:?}"),
        #[cfg(feature = "explain")]
        Command::Explain(request) => panic!("no machine: {request:?}"),
    }
}

pub(super) fn config(words: &[&str]) -> VmConfig {
    parse_words(words).unwrap()
}

/// The message for a wrong command line, without the hint at its end.
#[track_caller]
pub(super) fn refusal(words: &[&str]) -> String {
    match parse_words(words) {
        Err(NoRun::Wrong(line)) => {
            assert!(!line.contains('\n'), "more than one line: {line}");
            line.strip_suffix(SEE_HELP).expect(&line).to_owned()
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn disk_refusal(value: &str) -> String {
    let line = refusal(&["--disk", value]);
    let (argument, reason) = line.split_once(">': ").expect(&line);
    assert!(
        argument.contains(&format!("'{value}' for '--disk ")),
        "{argument}"
    );
    reason.to_owned()
}

fn memory_refusal(value: &str) -> String {
    let line = refusal(&["--memory", value]);
    let prefix = format!("invalid value '{value}' for '--memory <SIZE>': ");
    line.strip_prefix(&prefix).expect(&line).to_owned()
}

#[test]
fn the_definition_of_the_arguments_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn without_arguments_it_is_the_built_in_guest_with_one_cpu_128_mib_and_no_disk() {
    let config = config(&[]);
    assert_eq!((config.kernel, config.initrd), (None, None));
    assert_eq!(config.disks, []);
    assert_eq!(config.cpus, 1);
    assert_eq!(config.memory, 128 << 20);
    assert_eq!(config.cmdline.as_c_str(), c"");
    assert_eq!(config.stats, None);
}

#[test]
fn statistics_are_text_if_no_format_is_given_and_the_format_follows_an_equals_sign() {
    for (word, report) in [
        ("--stats", StatsReport::Text),
        ("--stats=text", StatsReport::Text),
        ("--stats=json", StatsReport::Json),
    ] {
        assert_eq!(config(&[word]).stats, Some(report));
        assert_eq!(config(&[word, "--cpus", "2"]).cpus, 2);
    }
    assert!(refusal(&["--stats=xml"]).contains("'xml' for '--stats[=<FORMAT>]'"));
    refusal(&["--stats", "json"]);
}

#[test]
fn every_option_reaches_the_machine() {
    let config = config(&[
        "--kernel",
        "k.elf",
        "--initrd",
        "i.cpio",
        "--cpus",
        "16",
        "--memory",
        "1G",
        "--cmdline",
        "run=info",
        "--disk",
        "a.img",
        "--disk",
        "b.img,readonly=on,id=my disk,notify=ioeventfd",
        "--disk",
        "c.img,readonly=off,notify=trap",
    ]);
    assert_eq!(config.kernel, Some("k.elf".into()));
    assert_eq!(config.initrd, Some("i.cpio".into()));
    assert_eq!(config.cpus, 16);
    assert_eq!(config.memory, 1 << 30);
    assert!(
        config
            .cmdline
            .to_str()
            .unwrap()
            .starts_with("run=info virtio_mmio.device=")
    );
    let disk = |path: &str, readonly, id: &str, notify| DiskConfig {
        readonly,
        notify,
        ..DiskConfig::new(path.into(), id)
    };
    assert_eq!(
        config.disks,
        [
            disk("a.img", false, "disk0", Notify::Trap),
            disk("b.img", true, "my disk", Notify::IoEventFd),
            disk("c.img", false, "disk2", Notify::Trap),
        ]
    );
}

#[test]
fn a_disk_has_from_1_to_64_queues() {
    for (options, queues) in [("", 1), (",queues=1", 1), (",queues=64", 64)] {
        let config = config(&["--disk", &format!("a.img{options}")]);
        assert_eq!(config.disks[0].queues, queues, "{options}");
    }
    for value in ["0", "65", "", "-1", "+4", "two", "65537"] {
        let reason = disk_refusal(&format!("a,queues={value}"));
        assert_eq!(
            reason,
            format!("queues is a number from 1 to 64, not '{value}'")
        );
    }
}

#[test]
fn the_registers_can_be_mapped() {
    for (options, registers) in [
        ("", Registers::Trap),
        (",registers=trap", Registers::Trap),
        (",registers=mapped", Registers::Mapped),
    ] {
        let config = config(&["--disk", &format!("a.img{options}")]);
        assert_eq!(config.disks[0].registers, registers, "{options}");
    }
}

#[test]
fn the_mode_of_the_cache_can_be_chosen() {
    for (options, writeback) in [
        ("", true),
        (",cache=writeback", true),
        (",cache=writethrough", false),
    ] {
        let config = config(&["--disk", &format!("a{options}")]);
        assert_eq!(config.disks[0].writeback, writeback, "{options}");
    }
}

#[test]
fn the_size_of_blocks_can_be_chosen() {
    for (options, size) in [
        ("", 512),
        (",block_size=512", 512),
        (",block_size=4096", 4096),
    ] {
        let config = config(&["--disk", &format!("a{options}")]);
        assert_eq!(config.disks[0].block_size, size, "{options}");
    }
}

#[test]
fn direct_io_can_be_asked_for() {
    for (options, direct) in [("", false), (",direct=off", false), (",direct=on", true)] {
        let config = config(&["--disk", &format!("a{options}")]);
        assert_eq!(config.disks[0].direct, direct, "{options}");
    }
}

#[test]
fn the_engine_can_be_chosen_and_io_uring_can_have_a_thread_that_polls() {
    for (options, engine, sqpoll) in [
        ("", Engine::Sync, false),
        (",engine=sync,sqpoll=off", Engine::Sync, false),
        (",engine=io_uring", Engine::IoUring, false),
        (",sqpoll=on,engine=io_uring", Engine::IoUring, true),
        (",engine=auto,sqpoll=on", Engine::Auto, true),
    ] {
        let config = config(&["--disk", &format!("a{options}")]);
        let disk = &config.disks[0];
        assert_eq!((disk.engine, disk.sqpoll), (engine, sqpoll), "{options}");
    }
}

#[test]
fn limits_can_be_set_for_requests_for_bytes_or_for_both() {
    for (options, iops, bps) in [
        ("", None, None),
        (",throttle=iops:1", Some(1), None),
        (",throttle=bps:50M", None, Some(50 << 20)),
        (",throttle=iops:2k+bps:1GiB", Some(2048), Some(1 << 30)),
        (",throttle=bps:7+iops:5", Some(5), Some(7)),
    ] {
        let limits = config(&["--disk", &format!("a{options}")]).disks[0].limits;
        let set = (limits.iops.map(u64::from), limits.bps.map(u64::from));
        assert_eq!(set, (iops, bps), "{options}");
    }
}

#[test]
fn limits_that_are_none_are_refused() {
    for value in [
        "",
        "1000",
        "iops",
        "ios:5",
        "iops:5+",
        "iops:1+iops:2",
        "iops:1+bps",
    ] {
        let reason = disk_refusal(&format!("a,throttle={value}"));
        let expected = "throttle is iops:N, bps:SIZE (a second), or both with a '+' between them";
        assert_eq!(reason, format!("{expected}, not '{value}'"));
    }
    for limit in [
        "iops:0",
        "bps:-1",
        "iops:1.5",
        "bps:",
        "bps:99999999999999999999",
    ] {
        let reason = disk_refusal(&format!("a,throttle={limit}"));
        let expected = "no number from 1 on, with K, M, G or T after it or nothing";
        assert_eq!(
            reason,
            format!("throttle has '{limit}', which is {expected}")
        );
    }
}

#[test]
fn every_notify_mode_can_be_chosen_by_its_name() {
    for (name, mode) in [
        ("trap", Notify::Trap),
        ("ioeventfd", Notify::IoEventFd),
        ("ioeventfd-datamatch", Notify::IoEventFdDatamatch),
        ("poll", Notify::Poll),
    ] {
        let config = config(&["--disk", &format!("a,notify={name}")]);
        assert_eq!(config.disks[0].notify, mode);
    }
}

#[test]
fn a_path_need_not_be_utf_8() {
    let path = OsStr::from_bytes(b"\xff.img");
    let words = ["--disk".into(), path.into()];
    assert_eq!(parse_os(words.into_iter()).unwrap().disks[0].path, path);
}

#[test]
fn a_command_line_may_begin_with_a_hyphen() {
    assert_eq!(config(&["--cmdline", "-x"]).cmdline.as_c_str(), c"-x");
}

#[test]
fn help_and_version_are_texts_and_no_errors() {
    let Err(NoRun::Text(help)) = parse_words(&["--help"]) else {
        panic!("no text");
    };
    for part in [
        "--kernel",
        "--disk",
        "--cpus",
        "--memory",
        "--cmdline",
        "Examples:",
        "Ctrl-A X",
    ] {
        assert!(help.contains(part), "no {part} in {help}");
    }
    assert!(matches!(parse_words(&["--version"]), Err(NoRun::Text(t)) if t.starts_with("vmm ")));
}

#[cfg(feature = "bench")]
#[test]
fn bench_is_a_command_where_it_is_the_first_word_alone() {
    let bench = parse(["vmm", "bench", "exits"]).unwrap();
    assert!(matches!(bench, Command::Bench(_)));
    assert_eq!(
        refusal(&["--cpus", "1", "bench"]),
        "unexpected argument 'bench' found"
    );
}

#[test]
fn unknown_repeated_and_incomplete_arguments_are_named() {
    assert_eq!(refusal(&["--fast"]), "unexpected argument '--fast' found");
    assert_eq!(
        refusal(&["disk.img"]),
        "unexpected argument 'disk.img' found"
    );
    assert_eq!(
        refusal(&["--kernel", "a", "--kernel", "b"]),
        "the argument '--kernel <FILE>' cannot be used multiple times"
    );
    assert_eq!(
        refusal(&["--memory"]),
        "a value is required for '--memory <SIZE>' but none was supplied"
    );
    assert!(refusal(&["--kernel", ""]).contains("--kernel <FILE>"));
}

#[test]
fn a_value_with_line_breaks_still_makes_one_line() {
    refusal(&["--memory", "1\n\n2"]);
    refusal(&["--disk", "a,b\nc"]);
    refusal(&["--\n\nx"]);
}

#[test]
fn sizes_are_bytes_or_have_a_binary_suffix() {
    for (text, size) in [
        ("2097152", 2 << 20),
        ("2048K", 2 << 20),
        ("2048kib", 2 << 20),
        ("128M", 128 << 20),
        ("128m", 128 << 20),
        ("128MiB", 128 << 20),
        ("3G", 3 << 30),
        ("1T", 1 << 40),
    ] {
        assert_eq!(config(&["--memory", text]).memory, size, "{text}");
    }
}

#[test]
fn sizes_that_are_no_numbers_are_refused() {
    for text in [
        "", "M", "12Q", "1.5G", "+1G", "0x200000", "1 G", "128MB", "1GG",
    ] {
        assert!(memory_refusal(text).contains("a whole number"), "{text}");
    }
    assert!(refusal(&["--memory", "-1"]).contains("-1"));
}

#[test]
fn sizes_that_overflow_are_refused() {
    for text in [
        "18446744073709551616",
        "16777216T",
        "99999999999999999999999G",
    ] {
        assert_eq!(memory_refusal(text), "it is more than 2^64 - 1 bytes");
    }
}

#[test]
fn ram_that_is_too_small_or_no_multiple_of_a_page_is_refused() {
    for text in ["0", "0M", "1", "1M", "2097151"] {
        assert_eq!(
            memory_refusal(text),
            "the least a machine can have is 2 MiB"
        );
    }
    for text in ["2097153", "2049K"] {
        assert_eq!(
            memory_refusal(text),
            "it is no multiple of a page, 4096 bytes"
        );
    }
}

#[test]
fn a_number_of_cpus_that_is_none_or_0_is_refused() {
    for text in ["0", "", "+4", "four", "1.5", "0x4", "1 ", "4294967296"] {
        let start = format!("invalid value '{text}' for '--cpus <N>': ");
        assert!(refusal(&["--cpus", text]).starts_with(&start), "{text}");
    }
    assert!(refusal(&["--cpus", "-1"]).contains("-1"));
}

#[cfg(feature = "qcow2")]
#[test]
fn an_image_in_qcow2_is_not_read_past_the_cache() {
    let error = refusal(&["--disk", "a,direct=on,format=qcow2"]);
    assert!(error.ends_with(": direct=on is for format=raw"), "{error}");
}

#[test]
fn wrong_disks_are_refused_with_the_reason() {
    for (value, reason) in [
        (
            "a,readonly",
            "'readonly' is no KEY=VALUE (a path cannot hold a comma)",
        ),
        ("a,", "'' is no KEY=VALUE (a path cannot hold a comma)"),
        (
            "a,b.img",
            "'b.img' is no KEY=VALUE (a path cannot hold a comma)",
        ),
        (
            "a,driver=raw",
            "unknown key 'driver': format, readonly, id, notify, queues, registers, cache, direct, engine, \
             sqpoll, block_size and throttle are known",
        ),
        (
            "a,=on",
            "unknown key '': format, readonly, id, notify, queues, registers, cache, direct, engine, \
             sqpoll, block_size and throttle are known",
        ),
        ("a,readonly=on,readonly=on", "key 'readonly' is given twice"),
        ("a,id=x,notify=trap,id=y", "key 'id' is given twice"),
        ("a,notify=trap,notify=trap", "key 'notify' is given twice"),
        ("a,readonly=yes", "readonly is 'on' or 'off', not 'yes'"),
        ("a,readonly=", "readonly is 'on' or 'off', not ''"),
        ("a,direct=yes", "direct is 'on' or 'off', not 'yes'"),
        ("a,direct=on,direct=on", "key 'direct' is given twice"),
        ("a,format=vmdk", "format is 'raw' or 'qcow2', not 'vmdk'"),
        ("a,format=raw,format=raw", "key 'format' is given twice"),
        (
            "a,engine=uring",
            "engine is 'sync', 'io_uring' or 'auto', not 'uring'",
        ),
        ("a,engine=auto,engine=auto", "key 'engine' is given twice"),
        (
            "a,engine=io_uring,sqpoll=1",
            "sqpoll is 'on' or 'off', not '1'",
        ),
        (
            "a,sqpoll=on",
            "sqpoll=on is for engine=io_uring or engine=auto",
        ),
        (
            "a,sqpoll=on,engine=sync",
            "sqpoll=on is for engine=io_uring or engine=auto",
        ),
        (
            "a,notify=irq",
            "notify is 'trap', 'ioeventfd', 'ioeventfd-datamatch' or 'poll', not 'irq'",
        ),
        ("a,block_size=1024", "block_size is 512 or 4096, not '1024'"),
        (
            "a,registers=yes",
            "registers is 'trap' or 'mapped', not 'yes'",
        ),
        (
            "a,cache=none",
            "cache is 'writeback' or 'writethrough', not 'none'",
        ),
        (
            "a,cache=writeback,cache=writeback",
            "key 'cache' is given twice",
        ),
        ("a,id=", "the id is empty"),
        (
            "a,id=123456789012345678901",
            "the id '123456789012345678901' is 21 bytes long, and no more than 20 fit",
        ),
        (
            "a,id=gr\u{fc}n",
            "the id 'gr\u{fc}n' is not printable ASCII",
        ),
        (",readonly=on", "the path is empty"),
    ] {
        assert_eq!(disk_refusal(value), reason);
    }
    assert!(refusal(&["--disk", ""]).contains("--disk"));
}

#[test]
fn there_are_as_many_disks_as_windows_and_no_more() {
    let disks = |n| vec!["--disk=a.img"; n];
    assert_eq!(config(&disks(VIRTIO_MMIO_MAX)).disks.len(), VIRTIO_MMIO_MAX);
    assert_eq!(
        refusal(&disks(VIRTIO_MMIO_MAX + 1)),
        "--disk is given 19 times, and there can be no more than 18 disks"
    );
}

#[test]
fn a_kernel_command_line_that_cannot_be_passed_on_is_refused() {
    assert_eq!(
        refusal(&["--cmdline", "a\tb"]),
        "--cmdline: it holds a character that is not printable ASCII"
    );
    let line = refusal(&["--cmdline", &"x".repeat(5000)]);
    assert!(
        line.starts_with("--cmdline: its 5000 bytes are too many: "),
        "{line}"
    );
}

#[test]
fn threads_are_pinned_where_the_user_asks_for_it() {
    assert!(!config(&[]).pin);
    assert!(config(&["--pin"]).pin);
}

#[test]
fn the_sandbox_is_on_and_cores_are_without_ram_unless_the_user_says_otherwise() {
    let plain = config(&[]);
    assert!(plain.sandbox && !plain.dump_guest_core);
    assert!(!config(&["--no-sandbox"]).sandbox);
    assert!(config(&["--dump-guest-core"]).dump_guest_core);
}
