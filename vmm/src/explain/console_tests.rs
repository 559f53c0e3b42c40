use super::*;

fn push(console: &mut Console, text: &str) -> Vec<(u64, u32, u32, u8)> {
    let mut testimonies = Vec::new();
    for (at, byte) in (0..).zip(text.bytes()) {
        if console.is_at_line_start() {
            console.line_begins(at, Code::default(), Some(Areas::default()));
        }
        testimonies.extend(
            console
                .push(byte)
                .map(|t| (t.at, t.head, t.written, t.status)),
        );
    }
    testimonies
}

#[test]
fn a_line_that_says_who_was_woken_is_understood_and_dated_by_its_first_byte() {
    let mut console = Console::default();
    let text = "read lba=0 len=512\nwoken: read: head=3 written=513 status=1\nend\n";
    assert_eq!(push(&mut console, text), [(19, 3, 513, 1)]);
    assert_eq!(console.text(), text);
}

#[test]
fn what_is_no_such_line_says_nothing() {
    let mut console = Console::default();
    for line in [
        "woken:\n",
        "woken: head=1 written=2\n",
        "woken: head=1 written=2 status=256\n",
        "woken: head=-1 written=2 status=0\n",
        " woken: head=1 written=2 status=0\n",
        "woken: head=1 written=2 status=0",
    ] {
        assert_eq!(push(&mut console, line), [], "{line}");
    }
}

#[test]
fn a_guest_that_never_ends_a_line_fills_no_memory() {
    let mut console = Console::default();
    for _ in 0..2 * MAX {
        assert!(console.push(b'a').is_none());
    }
    assert_eq!(console.text.len(), MAX);
    assert_eq!(console.line.len(), LINE_MAX);
}
