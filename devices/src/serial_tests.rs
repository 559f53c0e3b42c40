use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;

const DATA: u64 = 0;
const INTERRUPT_ENABLE: u64 = 1;
const INTERRUPT_IDENTIFICATION: u64 = 2;
const LINE_CONTROL: u64 = 3;
const LINE_STATUS: u64 = 5;
const MODEM_CONTROL: u64 = 4;
const MODEM_STATUS: u64 = 6;
const SCRATCH: u64 = 7;

#[derive(Default)]
struct Edges(AtomicU32);

impl Interrupt for Edges {
    fn signal(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn console(out: impl Write + Send + 'static) -> (SerialConsole, Arc<Edges>, EventFd) {
    let edges = Arc::new(Edges::default());
    let room = EventFd::new(EFD_NONBLOCK).unwrap();
    let console = SerialConsole::new(edges.clone(), Box::new(out), room.try_clone().unwrap());
    (console, edges, room)
}

fn read(console: &mut SerialConsole, offset: u64) -> u8 {
    let mut data = [0];
    console.read(offset, &mut data);
    data[0]
}

#[test]
fn bytes_written_to_the_data_register_come_out_in_order() {
    let screen = Screen::default();
    let (mut console, _, _) = console(screen.clone());
    assert!(matches!(console.write(DATA, b"h"), Response::Done));
    assert!(matches!(console.write(DATA, b"ello"), Response::Done));
    assert_eq!(*screen.0.lock().unwrap(), b"hello");
}

#[test]
fn output_that_cannot_be_written_ends_the_machine() {
    let (mut console, _, _) = console(Broken);
    let response = console.write(DATA, b"x");
    assert!(
        matches!(response, Response::Failed(DeviceError::Output(_))),
        "{response:?}"
    );
}

#[test]
fn output_that_waits_does_not_hold_up_the_input() {
    /// Takes a byte when it has been told that input got through.
    struct Waiting(mpsc::Sender<()>, mpsc::Receiver<()>);

    impl Write for Waiting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(()).unwrap();
            self.1
                .recv_timeout(Duration::from_secs(60))
                .map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let (writing, wait_for_writing) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let (mut console, _, _) = console(Waiting(writing, wait));
    let input = console.input();
    let guest = thread::spawn(move || console.write(DATA, b"x"));
    wait_for_writing.recv().unwrap();
    assert_eq!(input.enqueue(b"ab").unwrap(), 2);
    go_on.send(()).unwrap();
    assert!(matches!(guest.join().unwrap(), Response::Done));
}

#[test]
fn input_raises_an_interrupt_where_it_is_enabled_and_is_read_in_order() {
    let (mut console, edges, _) = console(io::sink());
    console.write(INTERRUPT_ENABLE, &[1]);
    assert_eq!(console.input().enqueue(b"ab").unwrap(), 2);
    assert_eq!(edges.0.load(Ordering::SeqCst), 1);
    assert_eq!(read(&mut console, LINE_STATUS) & 1, 1);
    assert_eq!(read(&mut console, DATA), b'a');
    assert_eq!(read(&mut console, DATA), b'b');
    assert_eq!(read(&mut console, LINE_STATUS) & 1, 0);
}

#[test]
fn the_interrupt_for_input_is_identified_until_the_last_byte_has_been_read() {
    let (mut console, _, _) = console(io::sink());
    console.input().enqueue(b"abc").unwrap();
    let identification = |console: &mut SerialConsole| read(console, INTERRUPT_IDENTIFICATION);
    assert_eq!(identification(&mut console), 0xc1, "it is not enabled");
    console.write(INTERRUPT_ENABLE, &[1]);
    for byte in b"abc" {
        assert_eq!(identification(&mut console), 0xc4);
        assert_eq!(identification(&mut console), 0xc4, "not read yet");
        assert_eq!(read(&mut console, DATA), *byte);
    }
    assert_eq!(identification(&mut console), 0xc1);
}

#[test]
fn a_divisor_is_not_taken_for_enabled_interrupts() {
    let (mut console, _, _) = console(io::sink());
    console.input().enqueue(b"a").unwrap();
    console.write(LINE_CONTROL, &[0x83]);
    console.write(INTERRUPT_ENABLE, &[1]);
    assert_eq!(read(&mut console, INTERRUPT_IDENTIFICATION), 0xc1);
}

#[test]
fn the_carrier_is_there_until_the_line_is_hung_up_and_the_change_is_told_once() {
    let (mut console, _, _) = console(io::sink());
    assert_eq!(read(&mut console, MODEM_STATUS), 0xb0);
    console.input().hang_up().unwrap();
    assert_eq!(read(&mut console, MODEM_STATUS), 0x38);
    console.input().hang_up().unwrap();
    assert_eq!(read(&mut console, MODEM_STATUS), 0x30);
}

#[test]
fn a_hung_up_line_still_has_what_came_before() {
    let (mut console, _, _) = console(io::sink());
    console.input().enqueue(b"a").unwrap();
    console.input().hang_up().unwrap();
    assert_eq!(read(&mut console, LINE_STATUS) & 1, 1);
    assert_eq!(read(&mut console, DATA), b'a');
    assert_eq!(read(&mut console, LINE_STATUS) & 1, 0);
}

#[test]
fn a_lost_carrier_interrupts_who_wants_it_until_it_has_been_read_of() {
    let (mut console, edges, _) = console(io::sink());
    let edges = || edges.0.load(Ordering::SeqCst);
    console.input().hang_up().unwrap();
    assert_eq!(edges(), 0, "it is not enabled");
    console.write(INTERRUPT_ENABLE, &[8]);
    assert_eq!(edges(), 1, "it has been lost before");
    assert_eq!(read(&mut console, INTERRUPT_IDENTIFICATION), 0xc0);
    read(&mut console, MODEM_STATUS);
    assert_eq!(read(&mut console, INTERRUPT_IDENTIFICATION), 0xc1);
    console.write(INTERRUPT_ENABLE, &[8]);
    assert_eq!(edges(), 1);
}

#[test]
fn a_carrier_that_is_lost_later_interrupts_and_input_comes_first() {
    let (mut console, edges, _) = console(io::sink());
    console.write(INTERRUPT_ENABLE, &[9]);
    console.input().enqueue(b"a").unwrap();
    console.input().hang_up().unwrap();
    assert_eq!(edges.0.load(Ordering::SeqCst), 2);
    assert_eq!(read(&mut console, INTERRUPT_IDENTIFICATION), 0xc4);
    read(&mut console, DATA);
    assert_eq!(read(&mut console, INTERRUPT_IDENTIFICATION), 0xc0);
}

#[test]
fn in_loopback_mode_the_carrier_is_the_modem_control() {
    let (mut console, _, _) = console(io::sink());
    console.input().hang_up().unwrap();
    console.write(MODEM_CONTROL, &[0x18]);
    assert_eq!(read(&mut console, MODEM_STATUS) & 0x80, 0x80);
    console.write(MODEM_CONTROL, &[0x10]);
    assert_eq!(read(&mut console, MODEM_STATUS) & 0x80, 0);
}

#[test]
fn a_full_fifo_takes_what_fits_and_tells_when_it_has_been_emptied() {
    let (mut console, _, room) = console(io::sink());
    let fits = console.input().room();
    assert_eq!(
        console.input().enqueue(&vec![b'x'; fits + 10]).unwrap(),
        fits
    );
    assert_eq!(console.input().room(), 0);
    assert_eq!(console.input().enqueue(b"more").unwrap(), 0);
    for _ in 0..fits {
        assert_eq!(room.read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        read(&mut console, DATA);
    }
    assert_eq!(room.read().unwrap(), 1);
    assert_eq!(console.input().room(), fits);
}

#[test]
fn registers_that_do_not_exist_read_0_and_ignore_writes() {
    let (mut console, _, _) = console(io::sink());
    console.write(SCRATCH, &[0x5a]);
    assert_eq!(read(&mut console, SCRATCH), 0x5a);
    for offset in [8, 255, 256, u64::MAX] {
        assert!(matches!(console.write(offset, &[0xff]), Response::Done));
        assert_eq!(read(&mut console, offset), 0);
    }
    assert_eq!(read(&mut console, SCRATCH), 0x5a);
}
