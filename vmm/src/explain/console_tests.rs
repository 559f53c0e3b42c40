use super::*;

fn push(console: &mut Console, text: &str) -> Vec<Testimony> {
    text.bytes().filter_map(|byte| console.push(byte)).collect()
}

#[test]
fn a_line_that_says_who_was_woken_is_understood() {
    let mut console = Console::default();
    let text = "read lba=0 len=512\nwoken: read: head=3 written=513 status=1\nend\n";
    let said = Testimony {
        head: 3,
        written: 513,
        status: 1,
    };
    assert_eq!(push(&mut console, text), [said]);
    assert_eq!(console.text(), text);
    push(&mut console, "\x1b[2Jend\r");
    assert_eq!(console.text(), format!("{text}[2Jend\n"));
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
