use clap::CommandFactory;

use super::*;

fn parse_words(words: &[&str]) -> Result<Request, NoRun> {
    let args = std::iter::once(&"bench").chain(words);
    parse(&args.map(OsString::from).collect::<Vec<_>>())
}

fn measurement(words: &[&str]) -> Measurement {
    match parse_words(words) {
        Ok(Request::Measure(measurement)) => *measurement,
        other => panic!("no measurement: {other:?}"),
    }
}

#[track_caller]
fn refusal(words: &[&str]) -> String {
    match parse_words(words) {
        Err(NoRun::Wrong(line)) => {
            assert!(!line.contains('\n'), "more than one line: {line}");
            line.strip_suffix(SEE_HELP).expect(&line).to_owned()
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn the_definition_of_the_arguments_is_sound() {
    Bench::command().debug_assert();
}

#[test]
fn without_a_command_everything_is_measured() {
    let all = measurement(&["--pin", "--quick", "--html", "a.html"]);
    assert!(all.exits && all.start && all.pin && all.quick);
    assert_eq!(all.block, Some(BlockOptions::default()));
    assert_eq!(all.outputs.html, Some("a.html".into()));
    assert_eq!(all.linux, Some(Source::Unmeasured));
    let all = measurement(&["--linux", "l.jsonl"]);
    assert_eq!(all.linux, Some(Source::File("l.jsonl".into())));
}

#[test]
fn a_command_measures_one_thing() {
    let exits = measurement(&["exits", "--json", "e.json", "--csv", "e.csv"]);
    assert_eq!((exits.exits, exits.block, exits.start), (true, None, false));
    assert_eq!(exits.linux, None);
    assert_eq!(exits.outputs.json, Some("e.json".into()));
    assert_eq!(exits.outputs.csv, Some("e.csv".into()));
    let start = measurement(&["start"]);
    assert_eq!((start.exits, start.block, start.start), (false, None, true));
    let blk = measurement(&["blk"]);
    assert_eq!((blk.exits, blk.start), (false, false));
    assert_eq!(blk.block, Some(BlockOptions::default()));
    assert!(!blk.pin && !blk.quick);
}

#[test]
fn every_option_of_blk_reaches_the_measurement() {
    let blk = measurement(&[
        "blk",
        "--disk",
        "d.img",
        "--size",
        "1G",
        "--bs",
        "512,64K",
        "--depth",
        "1,2",
        "--rw",
        "randwrite",
        "--notify",
        "ioeventfd,trap",
        "--registers",
        "mapped",
        "--engine",
        "io_uring",
        "--queues",
        "1,3",
        "--cpus",
        "4",
        "--wait",
        "poll",
        "--seconds",
        "0.5",
    ]);
    assert_eq!(
        blk.block,
        Some(BlockOptions {
            disk: Some("d.img".into()),
            size: Some(1 << 30),
            block_sizes: vec![512, 64 << 10],
            depths: vec![1, 2],
            rw: Rw::RandWrite,
            notify: vec![Notify::IoEventFd, Notify::Trap],
            registers: Some(Registers::Mapped),
            engine: Engine::IoUring,
            queues: vec![1, 3],
            cpus: Some(4),
            wait: Some(Wait::Poll),
            amount: Amount::Seconds(0.5),
        })
    );
    let counted = measurement(&["blk", "--count", "7"]);
    assert_eq!(counted.block.unwrap().amount, Amount::Requests(7));
}

#[test]
fn reports_are_compared() {
    let request = parse_words(&["compare", "a.json", "b.json", "--json", "c.json"]).unwrap();
    assert_eq!(
        request,
        Request::Compare {
            a: "a.json".into(),
            b: "b.json".into(),
            json: Some("c.json".into()),
        }
    );
}

#[test]
fn a_refusal_is_a_line_whatever_the_names_of_files_are() {
    let line = refusal(&["--json", "a\n\nb", "--csv", "a\n\nb"]);
    assert_eq!(line, "a b is to be two files at once");
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    for (words, part) in [
        (&["frob"][..], "'frob'"),
        (&["--fast"], "'--fast'"),
        (&["--quick", "exits"], "exits"),
        (&["exits", "--depth", "1"], "'--depth'"),
        (&["compare", "a.json"], "<B.json>"),
        (&["compare", "a.json", "b.json", "--pin"], "'--pin'"),
        (&["blk", "--rw", "trim"], "[possible values: randread,"),
        (&["blk", "--notify", "trap,x"], "'x' for '--notify"),
        (&["blk", "--wait", "sleep"], "irq, poll"),
        (&["blk", "--bs", "4Q"], "a whole number"),
        (&["blk", "--bs", "1000"], "--bs: "),
        (&["blk", "--size", "513"], "--size: "),
        (&["blk", "--size", "0"], "--size: "),
        (&["blk", "--seconds", "-1"], "-1"),
        (
            &["blk", "--count", "1", "--seconds", "1"],
            "cannot be used with",
        ),
        (&["--json", "r", "--csv", "r"], "r is to be two files"),
    ] {
        let line = refusal(words);
        assert!(line.contains(part), "{words:?}: {line}");
    }
}

#[test]
fn a_number_that_is_none_of_an_option_is_refused_with_those_that_are() {
    for (option, words, range) in [
        ("--depth", ["0", "129", "1,+4"], "1 to 128"),
        ("--queues", ["0", "1,9", "+4"], "1 to 8"),
        ("--cpus", ["0", "9", "+4"], "1 to 8"),
        ("--seconds", ["0", "nan", "+1"], "0.01 to 3600"),
        ("--count", ["0", "1000000001", "+7"], "1 to 1000000000"),
    ] {
        for word in words {
            let line = refusal(&["blk", option, word]);
            let number = word.trim_start_matches("1,");
            let begin = format!("invalid value '{number}' for '{option} <");
            let end = format!(">': it is no number from {range}");
            assert!(line.starts_with(&begin) && line.ends_with(&end), "{line}");
        }
    }
}

#[test]
fn help_is_a_text() {
    for words in [&["--help"][..], &["blk", "--help"]] {
        assert!(matches!(parse_words(words), Err(NoRun::Text(text)) if text.contains("--json")));
    }
}
