//! A machine without a CPU: the guest's driver and our device face each other in one process.
//! What KVM does between them, it does here: registers are calls, an interrupt is a counter. It
//! must not know what either side does.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use devices::bus::{Bus, Response};
use devices::virtio::block::{
    Block, BlockBackend, BlockOptions, FailureHandler, NotifyMode, StartHook,
};
use devices::virtio::{Interrupt, MmioTransport};
use guest::cmdline::{CommandLine, Window};
use guest::dma::{Arena, OutOfMemory};
use guest::virtio::{Error, Transport, Width};
use guest::workloads::bench::Probes;
use guest::workloads::{self, Console, Crash, Environment, Job, Machine};
use spec::mmio::{InterruptStatus, Register};
use spec::queue;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::bench::{Control, ticks};
use crate::port::{BASE, Port, SIZE};

const RAM_SIZE: usize = 16 << 20;
const ARENA_SIZE: usize = 4 << 20;
/// How long a device that polls watches an empty queue: so long that it sleeps now and then.
const IDLE_LIMIT: Duration = Duration::from_micros(50);
/// How long an interrupt may take before it counts as lost.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Guest RAM that has the same address in the guest as it has here.
pub struct Ram {
    pub memory: GuestMemoryMmap,
    start: *mut u8,
    /// How much of it is for who needs more than an arena.
    more: usize,
}

impl Ram {
    pub fn new() -> Self {
        let region = MmapRegion::new(RAM_SIZE).unwrap();
        let start = region.as_ptr();
        let region = GuestRegionMmap::new(region, GuestAddress(start as u64)).unwrap();
        let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
        let more = RAM_SIZE - ARENA_SIZE;
        Self {
            memory,
            start,
            more,
        }
    }

    /// The same without RAM for who needs more.
    pub fn without_more() -> Self {
        Self {
            more: 0,
            ..Self::new()
        }
    }

    /// The part of the RAM that driver and device share.
    pub fn arena(&mut self) -> Arena<'_> {
        self.arenas().0
    }

    /// That part, and another for who needs more.
    fn arenas(&mut self) -> (Arena<'_>, Arena<'_>) {
        // SAFETY: the mapping is as large as both and lives as long as `self`; the exclusive borrow
        // sees to it that there is one arena of each at a time; the address is the guest's by
        // construction.
        unsafe {
            (
                Arena::new(self.start, ARENA_SIZE),
                Arena::new(self.start.add(ARENA_SIZE), self.more),
            )
        }
    }

    pub fn contains(&self, addr: u64) -> bool {
        (self.start as u64..self.start as u64 + RAM_SIZE as u64).contains(&addr)
    }
}

/// The edges that a device has raised, and those that have not been handled.
#[derive(Default)]
pub struct Edges {
    raised: Mutex<(u64, u64)>,
    more: Condvar,
    /// How many of those that have been handled told of a change of the configuration.
    changes: AtomicU64,
}

impl Edges {
    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.raised.lock().unwrap().0
    }

    /// Waits for one that has not been handled; false where none comes.
    fn wait(&self) -> bool {
        let raised = self.raised.lock().unwrap();
        let (mut raised, _) = self
            .more
            .wait_timeout_while(raised, TIME_LIMIT, |(_, unhandled)| *unhandled == 0)
            .unwrap();
        std::mem::take(&mut raised.1) > 0
    }

    /// Waits until there is one that has not been handled, and returns true, or until `done`; `None`
    /// where neither comes.
    pub fn wait_until(&self, done: impl Fn() -> bool) -> Option<bool> {
        let raised = self.raised.lock().unwrap();
        let (mut raised, waited) = self
            .more
            .wait_timeout_while(raised, TIME_LIMIT, |(_, unhandled)| {
                *unhandled == 0 && !done()
            })
            .unwrap();
        let unhandled = std::mem::take(&mut raised.1) > 0;
        (unhandled || !waited.timed_out()).then_some(unhandled)
    }

    /// How many changes of the configuration there have been.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Tells all who wait of such a change.
    pub fn change(&self) {
        let _raised = self.raised.lock().unwrap();
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.more.notify_all();
    }

    /// Whether there is one that has not been handled.
    fn take(&self) -> bool {
        std::mem::take(&mut self.raised.lock().unwrap().1) > 0
    }
}

impl Interrupt for Edges {
    fn signal(&self) -> io::Result<()> {
        let mut raised = self.raised.lock().unwrap();
        raised.0 += 1;
        raised.1 += 1;
        self.more.notify_all();
        Ok(())
    }
}

/// How the device learns of notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    Trap,
    IoEventFd,
    Poll,
}

/// Something that a driver reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Register(Register),
    /// Four bytes of the configuration space.
    Config(u64),
}

/// What is read instead of what the device says, if anything.
pub type Forge = Box<dyn FnMut(Read) -> Option<u32>>;

/// A disk in its device, as the guest's transport.
pub struct Host {
    port: Port,
    memory: GuestMemoryMmap,
    pub edges: Arc<Edges>,
    /// How often QueueNotify was written.
    pub notifications: u64,
    /// How often the interrupt handler was called.
    interrupts: u64,
    /// What the driver wrote to the address registers, low half and high half.
    pub driver_area: [u32; 2],
    device_area: [u32; 2],
    queue_num: u16,
    /// Is told when the driver begins to wait.
    pub on_wait: Option<Sender<()>>,
    /// In the way of what is read.
    pub forge: Option<Forge>,
    /// Whether requests are completed without having been looked at.
    pub careless: bool,
}

impl Host {
    pub fn new(
        ram: &Ram,
        disk: &(impl BlockBackend + Clone + 'static),
        notify: Notify,
        read_only: bool,
    ) -> Self {
        Self::with_queues(ram, disk, (notify, 1), read_only)
    }

    /// The same with more request queues than one.
    pub fn with_queues(
        ram: &Ram,
        disk: &(impl BlockBackend + Clone + 'static),
        (notify, queues): (Notify, usize),
        read_only: bool,
    ) -> Self {
        let edges = Arc::new(Edges::default());
        let on_failure = FailureHandler::new(|error| panic!("{error}"));
        let mut kicks = Vec::new();
        let mut mode = || {
            if notify == Notify::Trap {
                return NotifyMode::Trap;
            }
            let kick = EventFd::new(0).unwrap();
            kicks.push(kick.try_clone().unwrap());
            let (on_start, on_failure) = (StartHook::default(), on_failure.clone());
            match notify {
                Notify::Poll => NotifyMode::Poll {
                    kick,
                    on_start,
                    on_failure,
                    idle_limit: IDLE_LIMIT,
                },
                _ => NotifyMode::IoEventFd {
                    kick,
                    on_start,
                    on_failure,
                },
            }
        };
        let options = BlockOptions {
            read_only,
            id: "mirror".to_owned(),
            notify: (0..queues).map(|_| mode()).collect(),
        };
        let block = Block::new(Box::new(disk.clone()), options).unwrap();
        let device = MmioTransport::new(ram.memory.clone(), Box::new(block), edges.clone());
        Self {
            port: Port::new(device, kicks, edges.clone()),
            memory: ram.memory.clone(),
            edges,
            notifications: 0,
            interrupts: 0,
            driver_area: [0; 2],
            device_area: [0; 2],
            queue_num: 0,
            on_wait: None,
            forge: None,
            careless: false,
        }
    }

    /// Another way to the device.
    pub fn port(&self) -> Port {
        self.port.clone()
    }

    /// Lets every read of `what` read `value`.
    pub fn forge(&mut self, what: Read, value: u32) {
        self.forge = Some(Box::new(move |read| (read == what).then_some(value)));
    }

    fn forged(&mut self, read: Read) -> Option<u32> {
        self.forge.as_mut()?(read)
    }

    /// What the handler of an interrupt does.
    fn handle(&mut self) -> InterruptStatus {
        let status = self.read(Register::InterruptStatus);
        self.write(Register::InterruptACK, status);
        self.interrupts += 1;
        InterruptStatus::from_bits_retain(status)
    }

    /// Moves every chain that is available to the used ring, and does nothing else.
    fn complete_all(&self) {
        let address = |[low, high]: [u32; 2]| u64::from(high) << 32 | u64::from(low);
        let (driver, device) = (address(self.driver_area), address(self.device_area));
        let load = |at| u16::from_le(self.memory.read_obj(GuestAddress(at)).unwrap());
        let available = load(driver + queue::RING_IDX);
        let mut used = load(device + queue::RING_IDX);
        while used != available {
            let head = load(driver + queue::avail_entry(used, self.queue_num));
            let entry = [u32::from(head).to_le(), 0];
            let place = device + queue::used_entry(used, self.queue_num);
            self.memory.write_obj(entry, GuestAddress(place)).unwrap();
            used = used.wrapping_add(1);
            let idx = GuestAddress(device + queue::RING_IDX);
            self.memory.write_obj(used.to_le(), idx).unwrap();
        }
    }
}

impl Transport for Host {
    fn read(&mut self, register: Register) -> u32 {
        if let Some(value) = self.forged(Read::Register(register)) {
            return value;
        }
        self.read_at(register.offset(), Width::Four) as u32
    }

    fn write(&mut self, register: Register, value: u32) {
        match register {
            Register::QueueNotify => {
                self.notifications += 1;
                if self.careless {
                    return self.complete_all();
                }
            }
            Register::QueueDriverLow => self.driver_area[0] = value,
            Register::QueueDriverHigh => self.driver_area[1] = value,
            Register::QueueDeviceLow => self.device_area[0] = value,
            Register::QueueDeviceHigh => self.device_area[1] = value,
            Register::QueueNum => self.queue_num = value as u16,
            _ => (),
        }
        self.write_at(register.offset(), Width::Four, value.into());
    }

    fn read_config(&mut self, offset: u64) -> u32 {
        if let Some(value) = self.forged(Read::Config(offset)) {
            return value;
        }
        self.port.read_config(offset)
    }

    fn read_at(&mut self, offset: u64, width: Width) -> u64 {
        self.port.read_at(offset, width)
    }

    fn write_at(&mut self, offset: u64, width: Width, value: u64) {
        self.port.write_at(offset, width, value);
    }

    fn take_events(&mut self) -> InterruptStatus {
        let raised = self.edges.take();
        if raised {
            self.handle()
        } else {
            InterruptStatus::empty()
        }
    }

    fn pause(&mut self) {
        self.port.pause();
    }

    fn time_notify(&mut self, queue: u16, submit: &mut dyn FnMut()) -> Result<u64, Error> {
        submit();
        let begin = ticks();
        self.notify(queue);
        self.wait()?;
        Ok(ticks() - begin)
    }

    fn wait(&mut self) -> Result<InterruptStatus, Error> {
        if let Some(on_wait) = &self.on_wait {
            on_wait.send(()).unwrap();
        }
        // A device that is served by this thread has raised its interrupt already, or never will.
        let raised = if self.port.is_kicked() {
            self.edges.wait()
        } else {
            self.edges.take()
        };
        if !raised {
            return Err(Error::NoInterrupt);
        }
        Ok(self.handle())
    }

    fn interrupts(&self) -> u64 {
        self.interrupts
    }
}

/// A machine with disks, one after the other from `BASE` on.
struct Disks<'h>(&'h mut [Host], &'h mut Control, usize);

/// How many threads take the part of CPUs, where nothing is said.
const CPUS: usize = 4;

/// Ports with nothing behind them.
static NO_PORTS: LazyLock<Bus> = LazyLock::new(Bus::new);

impl Disks<'_> {
    fn host(&mut self, window: Window) -> Result<&mut Host, Error> {
        let index = window.base.checked_sub(BASE).ok_or(Error::NoWindow)? / SIZE;
        self.0.get_mut(index as usize).ok_or(Error::NoWindow)
    }
}

impl Machine for Disks<'_> {
    fn device(&mut self, window: Window) -> Result<&mut dyn Transport, Error> {
        Ok(self.host(window)?)
    }

    fn cpus(&self) -> usize {
        self.2
    }

    fn work_together(&mut self, window: Window, cpus: usize, job: &Job<'_>) -> Result<(), Error> {
        let port = &self.host(window)?.port;
        thread::scope(|threads| {
            for index in 0..cpus {
                threads.spawn(move || job(index, &mut port.clone()));
            }
        });
        Ok(())
    }

    fn read_port(&mut self, port: u16, width: Width) -> u32 {
        let mut data = [0; 4];
        NO_PORTS.read(port.into(), &mut data[..width.bytes()]);
        u32::from_le_bytes(data)
    }

    fn write_port(&mut self, port: u16, width: Width, value: u32) {
        let data = &value.to_le_bytes()[..width.bytes()];
        let response = NO_PORTS.write(port.into(), data);
        assert!(matches!(response, Response::Done), "{response:?}");
    }

    fn probes(&mut self) -> &mut dyn Probes {
        self.1
    }

    fn start_heap(&mut self) -> Result<(), OutOfMemory> {
        Ok(())
    }

    fn exit(&mut self, status: u8) -> ! {
        std::panic::panic_any(status)
    }

    fn halt(&mut self) -> ! {
        panic!("halted for ever")
    }

    fn crash(&mut self, how: Crash) -> ! {
        panic!("{how:?}")
    }

    fn describe(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        writeln!(out, "  a test")
    }
}

/// What has been shown, and what is to be typed.
#[derive(Default)]
pub struct Screen {
    pub shown: String,
    pub keys: VecDeque<u8>,
}

impl fmt::Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.shown.write_str(text)
    }
}

impl Console for Screen {
    fn read(&mut self) -> Option<u8> {
        self.keys.pop_front()
    }
}

/// Runs the workload that `parameters` choose; returns whether it succeeded, and what it printed.
pub fn run(ram: &mut Ram, disks: &mut [Host], parameters: &str) -> (bool, String) {
    let mut control = Control::absent(ram);
    run_with(ram, disks, parameters, &mut control)
}

/// The same on `cpus` CPUs.
pub fn run_on(cpus: usize, ram: &mut Ram, disks: &mut [Host], parameters: &str) -> (bool, String) {
    let mut control = Control::absent(ram);
    let mut screen = Screen::default();
    let ok = run_machine(cpus, ram, disks, parameters, &mut control, &mut screen);
    (ok, screen.shown)
}

/// The same with somebody at the control port.
pub fn run_with(
    ram: &mut Ram,
    disks: &mut [Host],
    parameters: &str,
    control: &mut Control,
) -> (bool, String) {
    let mut screen = Screen::default();
    let ok = run_at(ram, disks, parameters, control, &mut screen);
    (ok, screen.shown)
}

/// The same with somebody at the console.
pub fn run_at(
    ram: &mut Ram,
    disks: &mut [Host],
    parameters: &str,
    control: &mut Control,
    console: &mut Screen,
) -> bool {
    run_machine(CPUS, ram, disks, parameters, control, console)
}

fn run_machine(
    cpus: usize,
    ram: &mut Ram,
    disks: &mut [Host],
    parameters: &str,
    control: &mut Control,
    console: &mut Screen,
) -> bool {
    let mut line = parameters.to_owned();
    for i in 0..disks.len() as u64 {
        line += &format!(" virtio_mmio.device=4K@{:#x}:{}", BASE + i * SIZE, 5 + i);
    }
    let (arena, ram) = ram.arenas();
    workloads::run(&mut Environment {
        command_line: CommandLine(&line),
        console,
        machine: &mut Disks(disks, control, cpus),
        arena,
        ram,
    })
}
