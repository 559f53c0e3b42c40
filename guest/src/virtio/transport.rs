//! How a driver reaches its device: registers, the configuration space, and the interrupt. Knows
//! nothing of what kind of device it is, nor how registers are reached.

use core::hint;

use spec::Features;
use spec::mmio::{CONFIG_OFFSET, DeviceStatus, InterruptStatus, MAGIC, Register, VERSION};

use super::{Error, VirtQueue};

/// How often the status is read before a reset counts as failed.
const RESET_TRIES: u32 = 1_000_000;

/// How many bytes an access has at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    One,
    /// Two bytes.
    Two,
    /// Four bytes: what registers have.
    Four,
    /// Eight bytes, which no port has.
    Eight,
}

impl Width {
    /// All of them, in ascending order.
    pub const ALL: [Self; 4] = [Self::One, Self::Two, Self::Four, Self::Eight];

    /// How many bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self as usize
    }

    /// The number that is all ones in this width.
    #[must_use]
    pub const fn ones(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// One virtio-mmio device. What must be provided is the access; what VIRTIO does with it is here.
pub trait Transport {
    /// Reads a register.
    fn read(&mut self, register: Register) -> u32;

    /// Writes a register.
    fn write(&mut self, register: Register, value: u32);

    /// Reads four bytes of the configuration space; `offset`, from its start, is a multiple of 4.
    fn read_config(&mut self, offset: u64) -> u32;

    /// Reads as no driver does: in any width, at any `offset` from the start of the window, be it in
    /// the window or, modulo 2^64, elsewhere among the addresses of devices. There need be none.
    fn read_at(&mut self, offset: u64, width: Width) -> u64;

    /// Writes as [`read_at`](Self::read_at) reads.
    fn write_at(&mut self, offset: u64, width: Width, value: u64);

    /// What the interrupt handler of the device has read from InterruptStatus, and acknowledged,
    /// since this or [`wait`](Self::wait) was last called. Does not wait.
    fn take_events(&mut self) -> InterruptStatus;

    /// Lets a moment pass, some ten microseconds, in which the device may do something.
    fn pause(&mut self);

    /// Waits until the device has interrupted since the last call, and returns what its interrupt
    /// handler read from InterruptStatus, and acknowledged, since then.
    ///
    /// # Errors
    /// [`Error::NoInterrupt`] where it is known that none will come.
    fn wait(&mut self) -> Result<InterruptStatus, Error>;

    /// As [`wait`](Self::wait), until the device has used `chains` more of `queue` than have been
    /// popped, at which it has been asked to interrupt, or has changed its configuration. May return
    /// before. One interrupt is for all queues of a device: who is not the only one to drive it must
    /// wait in this way.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    fn wait_for(&mut self, queue: &VirtQueue<'_>, chains: u16) -> Result<InterruptStatus, Error> {
        let _ = (queue, chains);
        self.wait()
    }

    /// Waits until `done`, which another CPU that drives the device makes true before it calls
    /// [`wake_others`](Self::wake_others).
    fn wait_for_others(&mut self, done: &dyn Fn() -> bool) {
        while !done() {
            self.pause();
        }
    }

    /// Has the CPUs look once more that [wait](Self::wait_for_others) for others.
    fn wake_others(&mut self) {}

    /// How often the interrupt handler of the device has been called.
    fn interrupts(&self) -> u64;

    /// Calls `submit`, after which the device interrupts once, notifies it of `queue`, as
    /// [`notify`](Self::notify) does, and waits halted for the interrupt. Returns how long it took
    /// from before the notification to the interrupt's handler, in ticks of the machine's clock: 0
    /// where the interrupt was there first.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    fn time_notify(&mut self, queue: u16, submit: &mut dyn FnMut()) -> Result<u64, Error>;

    /// Makes sure that there is a device of the type `device_id` that this driver can drive
    /// (section 4.2.2.2).
    ///
    /// # Errors
    /// What there is instead.
    fn check(&mut self, device_id: u32) -> Result<(), Error> {
        match self.read(Register::MagicValue) {
            MAGIC => (),
            magic => return Err(Error::NoTransport { magic }),
        }
        match self.read(Register::Version) {
            VERSION => (),
            version => return Err(Error::Version { version }),
        }
        match self.read(Register::DeviceID) {
            id if id == device_id => Ok(()),
            id => Err(Error::DeviceId { id }),
        }
    }

    /// The device status.
    fn status(&mut self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.read(Register::Status))
    }

    /// Sets `flag` in the device status. Flags are never cleared but by a reset (section 2.1.1).
    fn add_status(&mut self, flag: DeviceStatus) {
        let status = self.status() | flag;
        self.write(Register::Status, status.bits());
    }

    /// Resets the device. When this returns, the device does not touch memory any more.
    ///
    /// # Errors
    /// [`Error::Reset`] where the device does not come to rest.
    fn reset(&mut self) -> Result<(), Error> {
        self.write(Register::Status, 0);
        // The device may take its time: it is reset when the status reads 0 (section 2.4.2).
        for _ in 0..RESET_TRIES {
            if self.read(Register::Status) == 0 {
                return Ok(());
            }
            hint::spin_loop();
        }
        Err(Error::Reset)
    }

    /// The features that the device offers.
    fn offered_features(&mut self) -> Features {
        let mut word = |sel| {
            self.write(Register::DeviceFeaturesSel, sel);
            u64::from(self.read(Register::DeviceFeatures))
        };
        Features::from_bits_retain(word(0) | word(1) << 32)
    }

    /// Tells the device which features the driver accepts.
    fn accept_features(&mut self, accepted: Features) {
        for sel in [0, 1] {
            self.write(Register::DriverFeaturesSel, sel);
            self.write(Register::DriverFeatures, accepted.word(sel));
        }
    }

    /// Reads one byte of the configuration space: a field of that size is read so (section 4.2.2.2).
    fn read_config_byte(&mut self, offset: u64) -> u8 {
        self.read_at(CONFIG_OFFSET + offset, Width::One) as u8
    }

    /// Writes one byte of the configuration space.
    fn write_config_byte(&mut self, offset: u64, value: u8) {
        self.write_at(CONFIG_OFFSET + offset, Width::One, value.into());
    }

    /// Reads two bytes of the configuration space.
    fn read_config_16(&mut self, offset: u64) -> u16 {
        self.read_at(CONFIG_OFFSET + offset, Width::Two) as u16
    }

    /// Reads eight bytes of the configuration space: in two halves, and again if the device
    /// changed it between them (section 2.5.1).
    fn read_config_64(&mut self, offset: u64) -> u64 {
        loop {
            let before = self.read(Register::ConfigGeneration);
            let low = self.read_config(offset);
            let high = self.read_config(offset + 4);
            if self.read(Register::ConfigGeneration) == before {
                return u64::from(high) << 32 | u64::from(low);
            }
        }
    }

    /// The available buffer notification: tells the device that `queue` has new buffers.
    fn notify(&mut self, queue: u16) {
        self.write(Register::QueueNotify, queue.into());
    }
}
