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
