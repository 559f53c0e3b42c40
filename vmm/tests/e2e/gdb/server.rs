//! The socket of `--gdb` from outside: what it is, and that nobody who connects there takes down the
//! machine, whatever he sends.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use libtest_mimic::Trial;

use super::Debugged;
use crate::harness::{Running, VMM, Vmm, expect, file, pipe, run, wait_readable, wait_until};
use crate::kernels;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let kvm = |name, body| crate::harness::test(name, Needs::Kvm, body);
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    let cli = |name, body| crate::harness::test(name, Needs::Nothing, body);
    vec![
        cli("gdb_wrong_addresses_are_refused", wrong_addresses),
        own_kvm("gdb_a_path_that_is_taken_is_refused", path_taken),
        own_kvm("gdb_a_port_that_is_taken_is_refused", port_taken),
        own_kvm("gdb_a_free_port_is_chosen_and_told", free_port),
        own_kvm("gdb_malformed_packets_do_no_harm", malformed),
        own_kvm("gdb_random_packets_do_no_harm", random),
        crate::harness::test(
            "gdb_packets_to_a_running_guest_leave_no_int3_behind",
            super::BREAKPOINTS,
            running,
        ),
        kvm("gdb_stops_by_ctrl_c_though_no_vcpu_runs", no_vcpu_runs),
        own_kvm("gdb_a_signal_at_once_leaves_no_socket", signal_at_once),
        own_kvm("gdb_a_second_debugger_waits_for_the_first", second),
        kvm("gdb_a_debugger_that_is_cut_off_lets_the_guest_run", cut_off),
        own_kvm(
            "gdb_a_debugger_that_does_not_read_holds_up_no_end",
            does_not_read,
        ),
    ]
}

fn wrong_addresses() {
    for address in [
        "",
        "tcp",
        "tcp:",
        "tcp:+1",
        "tcp:65536",
        "unix:",
        "udp:1",
        "1234",
    ] {
        let ended = run(["--gdb", address]);
        assert_eq!(ended.code(), 2, "{address}");
        assert!(ended.message().contains("--gdb"), "{}", ended.stderr);
    }
    let ended = run(["--gdb-wait"]);
    assert_eq!(ended.code(), 2);
    assert!(
        ended.message().contains("--gdb <ADDRESS>"),
        "{}",
        ended.stderr
    );
}

fn path_taken() {
    let (_dir, path) = file("taken", b"mine");
    let ended = run(["--gdb", &format!("unix:{}", path.display())]);
    assert_eq!(ended.code(), 125);
    let begin = format!("--gdb {}: ", path.display());
    assert!(ended.message().starts_with(&begin), "{}", ended.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

fn port_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = run(["--gdb", &format!("tcp:{}", address.port())]);
    assert_eq!(ended.code(), 125);
    let begin = format!("--gdb {address}: ");
    assert!(ended.message().starts_with(&begin), "{}", ended.stderr);
}

/// A guest that spins, and what connects to it.
fn start() -> (Running, String) {
    let (mut messages, stderr) = pipe();
    let mut vmm = Vmm::with_kernel(kernels::READY_AND_SPIN)
        .command(|command| _ = command.args(["--gdb", "tcp:0"]).stderr(stderr))
        .spawn();
    expect(&mut messages, "target remote ");
    let mut address = String::new();
    while !address.ends_with('\n') {
        let mut byte = [0];
        messages.read_exact(&mut byte).unwrap();
        address.push(byte[0].into());
    }
    vmm.expect("R");
    // What else it says has nobody to read it, and fits into the pipe.
    std::mem::forget(messages);
    (vmm, address.trim().into())
}

fn free_port() {
    let (vmm, address) = start();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    drop(TcpStream::connect(&address).unwrap());
    vmm.signal(libc::SIGTERM);
    assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
}

/// `payload` as a packet.
fn packet(payload: &[u8]) -> Vec<u8> {
    let sum = payload
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    [b"$", payload, format!("#{sum:02x}").as_bytes()].concat()
}

/// Sends `bytes` and reads until the connection is closed, or a `?` has been answered.
fn send(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    let (bytes, question) = (bytes.to_vec(), packet(b"?"));
    let mut writer = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        // The other side may have closed it.
        let _ = writer
            .write_all(&bytes)
            .and_then(|()| writer.write_all(&question));
    });
    let mut answers: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        assert!(wait_readable(&stream), "neither an answer nor an end");
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(len) => answers.extend(&buffer[..len]),
        }
        if answers.windows(4).any(|window| window == b"$T05") {
            break;
        }
    }
    drop(stream);
    writer.join().unwrap();
}

/// Asserts that the machine still runs its guest, and ends it.
#[track_caller]
fn assert_alive(mut vmm: Running, address: &str) {
    // A debugger has it print once more: RIP and the rest of the registers are in a packet.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&packet(b"?")).unwrap();
    expect(&mut stream, "$T05thread:01;#");
    stream.write_all(&packet(b"g")).unwrap();
    expect(&mut stream, "+$");
    stream.write_all(&packet(b"D")).unwrap();
    expect(&mut stream, "$OK#9a");
    vmm.signal(libc::SIGTERM);
    drop(vmm.stdin.take());
    assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
}

fn malformed() {
    let (vmm, address) = start();
    let long = vec![b'x'; 100_000];
    let payloads: &[&[u8]] = &[
        b"",
        b"g",
        b"G",
        b"G00",
        b"Gxxyyzz",
        b"m",
        b"m0",
        b"m,",
        b"m7fff000,ffffffffffffffff",
        b"mffffffffffffffff,ffffffffffffffff",
        b"mfffffffffffff000,2000",
        b"M0,1:",
        b"M0,ffffffff:00",
        b"X0,ffffffffffffffff:",
        b"Z0,ffffffffffffffff,1",
        b"Z0,ffffffffffffffffffffffff,1",
        b"Z1,0,0",
        b"Z2,ffffffffffffffff,ffffffffffffffff",
        b"Z2,0,0",
        b"Z9,0,0",
        b"z0,0,1",
        b"z2,0,8",
        b"H",
        b"Hg0",
        b"Hg-1",
        b"Hgffffffffffffffff",
        b"Hc7fffffff",
        b"vCont",
        b"vCont;",
        b"vCont;s",
        b"vCont;s:99",
        b"vCont;q:1",
        b"vCont;c:1;s:1;r:1",
        b"T99",
        b"T0",
        b"qXfer:features:read:target.xml:ffffffff,ffffffff",
        b"qXfer:features:read:other.xml:0,ff",
        b"qThreadExtraInfo,ff",
        b"qSupported:multiprocess-;x",
        b"p0",
        b"P0=0",
        b"\xff\xfe\xfd",
        &long,
    ];
    for payload in payloads {
        send(&address, &packet(payload));
        send(&address, payload);
    }
    // A packet with a wrong sum, one without an end, and what is in none.
    for bytes in [
        b"$g#00".as_slice(),
        b"$g",
        b"-",
        b"+++\x03\x03",
        b"#",
        b"$$$###",
        &long,
    ] {
        send(&address, bytes);
    }
    assert_alive(vmm, &address);
}

fn random() {
    let (vmm, address) = start();
    // xorshift, with a seed: what is found is found again.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let alphabet = b"gGmMXzZHTsScCDqQvp?!,:;-+#$0123456789abcdef\x03\x7d\xff";
    for _ in 0..300 {
        let payload: Vec<u8> = (0..next() % 40)
            .map(|_| alphabet[next() as usize % alphabet.len()])
            // `k` and `vKill` end the machine, as they should.
            .filter(|byte| *byte != b'k')
            .collect();
        send(&address, &packet(&payload));
    }
    assert_alive(vmm, &address);
}

fn running() {
    let (vmm, address) = start();
    let mut stream = TcpStream::connect(&address).unwrap();
    let mut ask = |question: &[u8], answer: &str| {
        stream.write_all(&packet(question)).unwrap();
        expect(&mut stream, answer);
    };
    // The first two instructions, which are not met again: 66 ba f8 03, b0 52.
    ask(b"Z0,100000,1", "$OK#9a");
    ask(b"Z0,100004,1", "$OK#9a");
    ask(b"c", "+");
    ask(b"c", "+");
    ask(b"z0,100000,1", "+$E");
    ask(b"Z0,100001,1", "+$E");
    ask(b"m100000,6", "+$E");
    ask(b"g", "+$E");
    stream.write_all(&[3]).unwrap();
    expect(&mut stream, "$T02thread:01;#");
    stream.write_all(&packet(b"m100000,6")).unwrap();
    expect(&mut stream, "$66baf803b052#");
    drop(stream);
    assert_alive(vmm, &address);
}

fn no_vcpu_runs() {
    let (vmm, address) = start();
    let mut stream = TcpStream::connect(&address).unwrap();
    // There is no such vCPU, and of the others is said nothing.
    stream.write_all(&packet(b"vCont;c:63")).unwrap();
    expect(&mut stream, "+");
    stream.write_all(&[3]).unwrap();
    expect(&mut stream, "$T02thread:01;#");
    drop(stream);
    assert_alive(vmm, &address);
}

fn signal_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gdb");
    let gdb = format!("unix:{}", path.display());
    let vmm = Vmm::with_kernel(kernels::READY_AND_SPIN)
        .command(|command| _ = command.args(["--gdb", &gdb]))
        .spawn();
    wait_until("there is a socket", || path.exists());
    vmm.signal(libc::SIGTERM);
    assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
    assert!(!path.exists(), "the socket is left");
}

fn second() {
    let (vmm, address) = start();
    let mut first = TcpStream::connect(&address).unwrap();
    let mut second = TcpStream::connect(&address).unwrap();
    second.write_all(&packet(b"?")).unwrap();
    first.write_all(&packet(b"?")).unwrap();
    expect(&mut first, "+$T05thread:01;#");
    second.set_nonblocking(true).unwrap();
    let error = second.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    second.set_nonblocking(false).unwrap();
    drop(first);
    expect(&mut second, "+$T05thread:01;#");
    drop(second);
    assert_alive(vmm, &address);
}

fn cut_off() {
    let mut guest = Debugged::kernel(kernels::READY_AND_SPIN);
    let mut stream = UnixStream::connect(&guest.socket).unwrap();
    // Where there can be one, a breakpoint at what the guest is to do.
    stream.write_all(&packet(b"Z0,100000,1")).unwrap();
    stream.write_all(&packet(b"?")).unwrap();
    expect(&mut stream, "$T05thread:01;#");
    drop(stream);
    guest.vmm.expect("R");
    guest.vmm.signal(libc::SIGTERM);
    assert_eq!(guest.wait().code(), 128 + libc::SIGTERM);
}

fn does_not_read() {
    let (vmm, address) = start();
    let mut stream = TcpStream::connect(&address).unwrap();
    // All of RAM, in one answer that is never read.
    stream.write_all(&packet(b"m100000,7f00000")).unwrap();
    assert!(wait_readable(&stream), "no answer to {VMM}");
    vmm.signal(libc::SIGTERM);
    assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
}
