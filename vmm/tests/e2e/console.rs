//! The console: stdin and stdout as pipes and as a terminal.

use std::fs::File;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::harness::{
    Running, VMM, Vmm, ending_signals, file, pipe, run_kernel, wait_until, write_all,
};
use crate::kernels;
use crate::needs::Needs;
use crate::pty::Pty;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test(
            "console_output_of_a_string_instruction_arrives_in_order",
            string_output,
        ),
        test(
            "console_10000_piped_bytes_reach_the_guest_without_loss",
            piped_input,
        ),
        test(
            "console_bytes_of_a_pipe_are_the_guests_even_ctrl_a_x",
            piped_ctrl_a_x,
        ),
        test("console_goes_on_after_the_end_of_input", end_of_input),
        test(
            "console_without_a_reader_ends_with_125_and_one_line",
            broken_stdout,
        ),
        test(
            "console_with_a_reader_that_does_not_read_can_be_stopped",
            stuck_stdout,
        ),
        test(
            "console_10000_pasted_characters_reach_the_guest_without_loss",
            pasted_input,
        ),
        test("console_keys_reach_the_guest_one_by_one_and_unseen", keys),
        test("console_ctrl_a_x_leaves_with_status_0", ctrl_a_x),
        test(
            "console_ctrl_a_x_leaves_a_guest_that_takes_no_input",
            ctrl_a_x_deaf,
        ),
        test(
            "console_ctrl_a_x_leaves_while_the_output_is_stuck",
            ctrl_a_x_stuck,
        ),
        test(
            "console_restores_the_terminal_when_the_guest_ends",
            restore_at_exit,
        ),
        test(
            "console_restores_the_terminal_when_the_guest_crashes",
            restore_at_crash,
        ),
        crate::harness::test(
            "console_restores_the_terminal_when_any_signal_ends_it",
            Needs::OwnKvm,
            restore_at_signal,
        ),
        test(
            "console_leaves_the_terminal_alone_in_the_background",
            background,
        ),
    ]
}

fn string_output() {
    let text: Vec<u8> = (0..=255_u8).cycle().take(5000).collect();
    let ended = run_kernel(&kernels::print_string(&text));
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout == text);
}

/// 10,000 bytes of every value but Ctrl-D, which ends [`kernels::ECHO`].
fn ten_thousand_bytes() -> Vec<u8> {
    (0..=255_u8)
        .filter(|&byte| byte != 4)
        .cycle()
        .take(10_000)
        .collect()
}

fn piped_input() {
    let mut sent = ten_thousand_bytes();
    let mut vmm = Vmm::with_kernel(kernels::ECHO)
        .stdin(Stdio::piped())
        .spawn();
    let stdin = vmm.stdin.take().unwrap();
    sent.push(4);
    let writer = write_all(stdin, sent.clone());
    let ended = vmm.wait();
    writer.join().unwrap();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(ended.stdout[0], b'R');
    assert!(ended.stdout[1..] == sent[..10_000]);
}

fn piped_ctrl_a_x() {
    let mut vmm = Vmm::with_kernel(kernels::ECHO)
        .stdin(Stdio::piped())
        .spawn();
    write_all(vmm.stdin.take().unwrap(), b"\x01x\x01\x01\x04".to_vec())
        .join()
        .unwrap();
    let ended = vmm.wait();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.stdout, b"R\x01x\x01\x01");
}

fn end_of_input() {
    let mut vmm = Vmm::with_kernel(kernels::ECHO)
        .stdin(Stdio::piped())
        .spawn();
    write_all(vmm.stdin.take().unwrap(), b"abc".to_vec())
        .join()
        .unwrap();
    vmm.expect("Rabc");
    vmm.signal(libc::SIGTERM);
    assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
}

fn broken_stdout() {
    let (reader, writer) = pipe();
    drop(reader);
    let ended = Vmm::with_kernel(kernels::FLOOD)
        .stdout(writer)
        .spawn()
        .wait();
    assert_eq!(ended.code(), 125);
    assert!(ended.message().contains("output"), "{}", ended.stderr);
}

fn stuck_stdout() {
    let (reader, writer) = small_pipe();
    let vmm = Vmm::with_kernel(kernels::FLOOD).stdout(writer).spawn();
    wait_until_full(&reader);
    vmm.signal(libc::SIGTERM);
    assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
}

/// A pipe of a single page: a guest that prints byte by byte need not be quick to fill it.
fn small_pipe() -> (File, File) {
    let (reader, writer) = pipe();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    (reader, writer)
}

/// Waits until `pipe` takes no more from a writer who does not block: until each of its pages has
/// a byte.
#[track_caller]
fn wait_until_full(pipe: &File) {
    let capacity = rustix::pipe::fcntl_getpipe_size(pipe).unwrap() as u64;
    let full = capacity - 4096 + 1;
    wait_until("the pipe is full", || {
        rustix::io::ioctl_fionread(pipe).unwrap() >= full
    });
}

/// Starts `kernel` in the foreground of `pty`, and waits for its `R`.
fn start(pty: &mut Pty, kernel: &[u8]) -> Running {
    let vmm = Vmm::with_kernel(kernel)
        .stdin(pty.terminal())
        .stdout(pty.terminal())
        .command(Pty::control)
        .spawn();
    pty.expect("R");
    assert!(pty.is_raw());
    vmm
}

fn pasted_input() {
    let mut pty = Pty::new();
    let vmm = start(&mut pty, kernels::ECHO);
    let text: String = ('a'..='z').cycle().take(10_000).collect();
    let writer = write_all(pty.keyboard(), text.clone().into_bytes());
    pty.expect(&text);
    writer.join().unwrap();
    pty.press(b"\x04");
    assert_eq!(vmm.wait().code(), 0);
}

fn keys() {
    let mut pty = Pty::new();
    let vmm = start(&mut pty, kernels::ECHO);
    // Control characters are the guest's; each key is shown once, by the guest.
    for key in ["a", "\x03", "\x1a", "b"] {
        pty.press(key.as_bytes());
        pty.expect(key);
    }
    pty.press(b"\x01\x01");
    pty.expect("\x01");
    pty.press(b"\x04");
    assert_eq!(vmm.wait().code(), 0);
}

fn ctrl_a_x() {
    let mut pty = Pty::new();
    let before = pty.modes();
    let vmm = start(&mut pty, kernels::ECHO);
    pty.press(b"\x01x");
    let ended = vmm.wait();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.stderr, "");
    assert_eq!(pty.modes(), before);
}

fn ctrl_a_x_deaf() {
    let mut pty = Pty::new();
    let vmm = start(&mut pty, kernels::READY_AND_HALT);
    pty.press(&[b'x'; 1000]);
    pty.press(b"\x01x");
    assert_eq!(vmm.wait().code(), 0);
}

fn ctrl_a_x_stuck() {
    for presses in [["\x01", "x"], ["a", "\x01x"], ["a\x01", "x"]] {
        let mut pty = Pty::new();
        let (reader, writer) = small_pipe();
        let vmm = Vmm::with_kernel(kernels::FLOOD)
            .stdin(pty.terminal())
            .stdout(writer)
            .command(Pty::control)
            .spawn();
        wait_until_full(&reader);
        for keys in presses {
            pty.press(keys.as_bytes());
            wait_until("the keys are read", || pty.unread() == 0);
        }
        assert_eq!(vmm.wait().code(), 0, "{presses:?}");
    }
}

fn restore_at_exit() {
    let mut pty = Pty::new();
    let before = pty.modes();
    let vmm = start(&mut pty, kernels::ECHO);
    pty.press(b"\x04");
    assert_eq!(vmm.wait().code(), 0);
    assert_eq!(pty.modes(), before);
}

fn restore_at_crash() {
    let mut pty = Pty::new();
    let before = pty.modes();
    let vmm = start(&mut pty, kernels::CRASH_AT_KEY);
    pty.press(b"k");
    assert_eq!(vmm.wait().code(), 126);
    assert_eq!(pty.modes(), before);
}

fn restore_at_signal() {
    for signal in ending_signals() {
        let mut pty = Pty::new();
        let before = pty.modes();
        let vmm = start(&mut pty, kernels::READY_AND_HALT);
        vmm.signal(signal);
        assert_eq!(vmm.wait().code(), 128 + signal);
        assert_eq!(pty.modes(), before);
    }
}

/// A shell with job control starts `vmm` as a job in the background. A process there that touched
/// the terminal would be stopped by SIGTTOU or SIGTTIN, and this would not end.
fn background() {
    let pty = Pty::new();
    let before = pty.modes();
    let (_dir, kernel) = file("kernel", &kernels::exit(42));
    let mut command = Command::new("sh");
    command
        .args(["-mc", r#""$0" --kernel "$1" & wait $!"#, VMM])
        .arg(kernel);
    let vmm = Vmm::from_command(command)
        .stdin(pty.terminal())
        .command(Pty::control);
    assert_eq!(vmm.spawn().wait().code(), 42);
    assert_eq!(pty.modes(), before);
}
