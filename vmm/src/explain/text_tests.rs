use super::super::sample::{OURS, Shape, story};
use super::*;

/// The lines of the section whose title begins so.
fn section(text: &str, title: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| !line.starts_with(title));
    lines
        .take_while(|line| !line.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for indirect in [false, true] {
        for past_end in [false, true] {
            for (ours, queue_size, len) in [(true, 8, 512), (false, 512, 1 << 20)] {
                shapes.push(Shape {
                    queue_size,
                    indirect,
                    len,
                    past_end,
                    ours,
                });
            }
        }
    }
    shapes
}

#[test]
fn no_line_is_longer_than_80_columns() {
    for shape in shapes() {
        for line in render(&story(shape)).lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }
}

#[test]
fn each_side_of_a_request_is_one_screenful() {
    for shape in shapes() {
        let text = render(&story(shape));
        for title in [
            "The read, the driver",
            "The read, the device",
            "The write, the driver",
            "The write, the device",
        ] {
            let lines = section(&text, title).len();
            assert!((8..=24).contains(&lines), "{title}: {lines}\n{text}");
        }
    }
}

#[test]
fn the_story_of_the_built_in_guest_is_told_so() {
    let text = render(&story(OURS));
    assert_eq!(text, include_str!("text_tests/ours.txt"));
}

#[test]
fn the_columns_stay_apart_however_long_it_took() {
    let mut told = story(OURS);
    let taken = 9_999_999_000;
    for step in &mut told.acts[0].steps {
        (step.at_ns, step.since_ns) = (Some(taken), Some(taken));
        if let Event::DescriptorsWritten { chain, .. } = &mut step.event {
            chain[1].descriptor.len = 1 << 20;
        }
    }
    let text = render(&told);
    let side = section(&text, "The read, the driver");
    assert!(
        side[1].starts_with(" 1     9999999 +9999999 writes 3 "),
        "{side:#?}"
    );
    let kvm = side.iter().find(|line| line.contains("KVM_EXIT")).unwrap();
    assert!(
        kvm.starts_with(" 6 kvm 9999999 +9999999 KVM_EXIT_MMIO "),
        "{kvm}"
    );
    assert!(text.contains("len 1048576 NEXT|WRITE -> 2  data"), "{text}");
}

#[test]
fn every_line_of_a_step_begins_in_one_column() {
    let text = render(&story(OURS));
    let side = section(&text, "The read, the driver");
    let column = side[1].find("writes").unwrap();
    for line in &side[1..] {
        let (head, told) = line.split_at(column);
        assert!(head.ends_with(' ') && !told.is_empty(), "{line}");
        let continued = head.trim().is_empty();
        assert!(continued || !told.starts_with(' '), "{line}");
    }
}

#[test]
fn of_mapped_registers_no_read_is_said_to_be_an_exit() {
    let mut told = story(OURS);
    told.device.registers = "mapped".into();
    let text = render(&told);
    assert!(text.contains("each write to a register, and each is an exit"));
    assert!(text.contains("registers=mapped"));
}

#[test]
fn what_a_terminal_would_obey_is_not_printed() {
    let mut told = story(OURS);
    told.machine.cmdline = "a\x1b[2Jb\r\u{9b}c".into();
    let text = render(&told);
    assert!(text.contains("a?[2Jb??c"));
    assert!(!text.contains(['\x1b', '\r', '\u{9b}']));
}

#[test]
fn a_chain_that_is_long_is_cut() {
    let mut told = story(OURS);
    for step in &mut told.acts[0].steps {
        if let Event::Walked { chain, .. } = &mut step.event {
            *chain = vec![chain[1].clone(); 128];
        }
    }
    let text = render(&told);
    assert!(text.contains("3 buffers") && text.contains("128 buffers"));
    assert!(text.contains("and 124 more"));
}
