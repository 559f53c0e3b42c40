//! The board: where the VMM puts what the guest can find without being told, and the ports by
//! which it ends. A driver learns its devices from the kernel command line, not from here.

/// Where RAM ends below 4 GiB and the hole for devices begins.
pub const HOLE_START: u64 = 0xc000_0000;
/// Where the hole ends and RAM, if there is more, goes on.
pub const HOLE_END: u64 = 0x1_0000_0000;

/// Guest-physical address at which a flat binary is loaded and entered.
pub const FLAT_LOAD_ADDR: u64 = 0x10_0000;

/// Guest-physical address of the first virtio-mmio window.
pub const VIRTIO_MMIO_BASE: u64 = 0xd000_0000;
/// Size of a virtio-mmio window, and distance from one to the next, in bytes.
pub const VIRTIO_MMIO_SIZE: u64 = 0x1000;
/// GSI of the first virtio-mmio device; the others have those after it, but for [`RTC_GSI`].
pub const VIRTIO_MMIO_GSI: u32 = 5;
/// GSI of a PC's real-time clock. KVM watches each end of an interrupt of that pin, whatever is
/// connected to it: a guest cannot spare the exit of its EOI there.
pub const RTC_GSI: u32 = 8;
/// How many pins the IOAPIC has; the number of a pin is its GSI.
pub const IOAPIC_PINS: u8 = 24;
/// How many virtio-mmio devices there can be: each has a pin of its own.
pub const VIRTIO_MMIO_MAX: usize = IOAPIC_PINS as usize - VIRTIO_MMIO_GSI as usize - 1;

/// First port of the serial port COM1.
pub const COM1_PORT: u16 = 0x3f8;
/// How many ports COM1 has.
pub const COM1_PORTS: u8 = 8;
/// GSI of COM1.
pub const COM1_GSI: u32 = 4;

/// Port by which a guest ends the run: the value written is the exit status, 0 to 124.
pub const DEBUG_EXIT_PORT: u16 = 0xf4;
/// Exit status of our guest after a CPU exception.
pub const EXIT_EXCEPTION: u8 = 101;
/// Exit status of our guest after a panic.
pub const EXIT_PANIC: u8 = 102;

/// Command port of the i8042 keyboard controller.
pub const I8042_COMMAND_PORT: u16 = 0x64;
/// The i8042 command that pulses the reset line.
pub const I8042_RESET: u8 = 0xfe;

/// Port of the ACPI sleep control register, which ends a run.
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// Port of the ACPI sleep status register, the next one.
pub const SLEEP_STATUS_PORT: u16 = SLEEP_CONTROL_PORT + 1;
/// What a guest writes to `SLP_TYP` of the sleep control register to power off (state S5).
pub const SLEEP_TYPE_S5: u8 = 5;
