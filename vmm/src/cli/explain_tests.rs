use clap::CommandFactory;

use super::*;

fn parse_words(words: &[&str]) -> Result<Request, NoRun> {
    let args = std::iter::once(&"explain").chain(words);
    parse(&args.map(OsString::from).collect::<Vec<_>>())
}

#[test]
fn the_definition_of_the_arguments_is_sound() {
    Explain::command().debug_assert();
}

#[test]
fn without_arguments_the_built_in_guest_reads_and_writes_a_built_in_disk() {
    let Request { config, json, html } = parse_words(&[]).unwrap();
    assert_eq!((config.kernel, config.initrd), (None, None));
    assert_eq!((config.disks, config.cpus), (vec![], 1));
    assert!(config.sandbox);
    assert_eq!(
        config.cmdline.to_str(),
        Ok("run=explain indirect=off queue_size=8 virtio_mmio.device=4K@0xd0000000:5")
    );
    assert_eq!((json, html), (None, None));
}

#[test]
fn every_option_reaches_the_machine_or_the_story() {
    let request = parse_words(&[
        "--kernel",
        "k",
        "--initrd",
        "i",
        "--disk",
        "d.img,readonly=on,id=x,block_size=4096",
        "--cmdline",
        "run=explain lba=8",
        "--memory",
        "64M",
        "--html",
        "s.html",
        "--json",
        "s.json",
        "--no-sandbox",
    ])
    .unwrap();
    let config = request.config;
    assert_eq!(config.kernel, Some("k".into()));
    assert_eq!(config.initrd, Some("i".into()));
    let disk = &config.disks[0];
    assert_eq!(disk.path, PathBuf::from("d.img"));
    assert_eq!(
        (&*disk.id, disk.readonly, disk.block_size),
        ("x", true, 4096)
    );
    assert_eq!((config.memory, config.sandbox), (64 << 20, false));
    assert!(
        config
            .cmdline
            .to_str()
            .unwrap()
            .starts_with("run=explain lba=8 virtio_mmio")
    );
    assert_eq!(request.html, Some("s.html".into()));
    assert_eq!(request.json, Some(JsonOutput::File("s.json".into())));
}

#[test]
fn json_alone_is_for_stdout_wherever_it_is() {
    for words in [
        &["--json"][..],
        &["--json", "--html", "s.html"],
        &["--html", "s", "--json"],
    ] {
        assert_eq!(
            parse_words(words).unwrap().json,
            Some(JsonOutput::Stdout),
            "{words:?}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    for (words, part) in [
        (&["frob"][..], "'frob'"),
        (&["--disk", "a.img", "--disk", "b.img"], "--disk"),
        (&["--disk", "a.img,notify=poll"], "notify=trap"),
        (&["--disk", "a.img,notify=ioeventfd"], "notify=trap"),
        (&["--disk", "a.img,frob=1"], "unknown key 'frob'"),
        (&["--cpus", "2"], "'--cpus'"),
        (&["--memory", "1"], "MiB"),
        (&["--cmdline", "\u{e9}"], "--cmdline: "),
        (&["--html"], "--html"),
        (&["--json", "a", "--html", "a"], "a is to be two files"),
    ] {
        match parse_words(words) {
            Err(NoRun::Wrong(line)) => {
                assert!(!line.contains('\n'), "{line}");
                assert!(
                    line.contains(part) && line.ends_with(SEE_HELP),
                    "{words:?}: {line}"
                );
            }
            other => panic!("not refused: {words:?}: {other:?}"),
        }
    }
}

#[test]
fn help_is_a_text() {
    assert!(matches!(parse_words(&["--help"]), Err(NoRun::Text(text)) if text.contains("--html")));
}
