//! virtio over MMIO (section 4.2): the register file, and the device status as the driver moves it
//! on. It knows no kind of device: what a device does, it does itself.

mod open;
mod shown;

use std::fmt;
use std::sync::Arc;

use log::{error, warn};
use spec::Features;
use spec::mmio::{CONFIG_OFFSET, DeviceStatus, Register};
use vm_memory::GuestMemoryMmap;

use super::queue::{QueueLayout, QueueRegisters};
use super::status::{Step, step};
use super::{Activation, Interrupt, InterruptState, RegisterPage, VirtioDevice};
use crate::bus::{BusDevice, Response, Shares};
use crate::error::DeviceError;
use crate::warn_once::WarnOnce;

/// Width of every register, in bytes.
const WIDTH: usize = 4;

/// What the log tells of, once each.
enum Warned {
    Access,
    Direction,
    Features,
    Queue,
    QueueInUse,
    Status,
}

/// A queue as the driver has set it up.
#[derive(Debug, Default)]
struct Queue {
    registers: QueueRegisters,
    /// QueueReady: the layout, once it has been checked.
    ready: Option<QueueLayout>,
}

/// A virtio device in a window of MMIO addresses.
pub struct MmioTransport {
    memory: GuestMemoryMmap,
    device: Box<dyn VirtioDevice>,
    page: Arc<RegisterPage>,
    interrupt: Arc<InterruptState>,
    status: DeviceStatus,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: Features,
    queue_sel: u16,
    queues: Vec<Queue>,
    warned: WarnOnce,
}

impl MmioTransport {
    /// `device`, with its queues in `memory`, interrupting by `interrupt`.
    #[must_use]
    pub fn new(
        memory: GuestMemoryMmap,
        device: Box<dyn VirtioDevice>,
        interrupt: Arc<dyn Interrupt>,
    ) -> Self {
        Self::on_page(memory, device, interrupt, Arc::default())
    }

    /// The same, with `page` for what the registers read as: it is nobody else's, and new.
    #[must_use]
    pub fn on_page(
        memory: GuestMemoryMmap,
        device: Box<dyn VirtioDevice>,
        interrupt: Arc<dyn Interrupt>,
        page: Arc<RegisterPage>,
    ) -> Self {
        let queues = device.queue_max_sizes().iter();
        let transport = Self {
            memory,
            interrupt: Arc::new(InterruptState::on_page(Arc::clone(&page), interrupt)),
            page,
            status: DeviceStatus::empty(),
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: Features::empty(),
            queue_sel: 0,
            queues: queues.map(|_| Queue::default()).collect(),
            warned: WarnOnce::default(),
            device,
        };
        transport.show_constants();
        transport.show_selected();
        if let Err(error) = transport.show_config() {
            // Of a page that no guest reads yet.
            error!("virtio device: {error}");
        }
        transport
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Response {
        match (Register::at(offset), <[u8; WIDTH]>::try_from(data)) {
            (Some(register), Ok(data)) => self.write_register(register, u32::from_le_bytes(data)),
            _ => {
                self.warn(Warned::Access, || {
                    let width = data.len();
                    format!("writes {width} bytes at {offset:#x}, which is no register")
                });
                Response::Done
            }
        }
    }

    fn write_register(&mut self, register: Register, value: u32) -> Response {
        match register {
            Register::DeviceFeaturesSel => {
                self.device_features_sel = value;
                self.show_selected();
            }
            Register::DriverFeaturesSel => self.driver_features_sel = value,
            Register::DriverFeatures => self.write_driver_features(value),
            Register::QueueSel => {
                self.queue_sel = queue_index(value);
                self.show_selected();
            }
            Register::QueueNum => self.configure(register, |q| q.num = value),
            Register::QueueDescLow => self.configure(register, |q| set_low(&mut q.desc, value)),
            Register::QueueDescHigh => self.configure(register, |q| set_high(&mut q.desc, value)),
            Register::QueueDriverLow => self.configure(register, |q| set_low(&mut q.driver, value)),
            Register::QueueDriverHigh => {
                self.configure(register, |q| set_high(&mut q.driver, value));
            }
            Register::QueueDeviceLow => self.configure(register, |q| set_low(&mut q.device, value)),
            Register::QueueDeviceHigh => {
                self.configure(register, |q| set_high(&mut q.device, value));
            }
            Register::QueueReady => {
                let response = self.write_queue_ready(value);
                self.show_selected();
                return response;
            }
            Register::QueueNotify => return self.notify(queue_index(value)),
            Register::InterruptACK => self.page.acknowledge(value),
            Register::Status => return self.write_status(value),
            // There is no shared memory to select, and no queue can be reset by itself.
            Register::SHMSel | Register::QueueReset => {}
            Register::MagicValue
            | Register::Version
            | Register::DeviceID
            | Register::VendorID
            | Register::DeviceFeatures
            | Register::QueueNumMax
            | Register::InterruptStatus
            | Register::SHMLenLow
            | Register::SHMLenHigh
            | Register::SHMBaseLow
            | Register::SHMBaseHigh
            | Register::ConfigGeneration => {
                self.warn(Warned::Direction, || format!("writes {register:?}"));
            }
        }
        Response::Done
    }

    fn write_status(&mut self, value: u32) -> Response {
        match step(self.status, value) {
            Step::Reset => return self.reset().into(),
            Step::Accept(status) => self.set_status(status),
            Step::CheckFeatures(status) => {
                let features = self.driver_features;
                let offered = self.device.features();
                if offered.contains(features) && features.contains(Features::VIRTIO_F_VERSION_1) {
                    self.device.negotiated(features);
                    if let Err(error) = self.show_config() {
                        return Response::Failed(error);
                    }
                    self.set_status(status);
                } else {
                    self.warn(Warned::Features, || {
                        format!("wants the features {features:?} of {offered:?}")
                    });
                }
            }
            Step::Activate(status) => {
                self.set_status(status);
                return self.activate();
            }
            Step::Resume => return self.notify_all(),
            Step::Refuse => {
                let status = self.status;
                self.warn(Warned::Status, || {
                    format!("writes the status {value:#x} after {status:?}")
                });
            }
        }
        Response::Done
    }

    /// Lets the device live on what driver and device have agreed on and on the queues that are
    /// set up by now, and serve what is in them already.
    fn activate(&mut self) -> Response {
        let activation = Activation {
            memory: self.memory.clone(),
            features: self.driver_features,
            queues: self
                .queues
                .iter()
                .map(|queue| queue.ready.clone())
                .collect(),
            interrupt: Arc::clone(&self.interrupt),
        };
        match self.device.activate(activation) {
            Ok(()) => self.notify_all(),
            Err(error) => Response::Failed(error),
        }
    }

    fn reset(&mut self) -> Result<(), DeviceError> {
        self.device.reset()?;
        self.show_config()?;
        self.status = DeviceStatus::empty();
        self.device_features_sel = 0;
        self.driver_features_sel = 0;
        self.driver_features = Features::empty();
        self.queue_sel = 0;
        self.queues.fill_with(Queue::default);
        self.show_selected();
        // Only now can nothing set a bit any more. The status comes last: once it reads 0 the device
        // is as new.
        self.page.set(Register::InterruptStatus, 0);
        self.page.set(Register::Status, 0);
        Ok(())
    }

    fn is_live(&self) -> bool {
        self.status.contains(DeviceStatus::DRIVER_OK)
    }

    /// What the driver accepts stands once FEATURES_OK is set.
    fn write_driver_features(&mut self, value: u32) {
        if self.status.contains(DeviceStatus::FEATURES_OK) {
            return;
        }
        let (mask, value) = match self.driver_features_sel {
            0 => (0xffff_ffff, u64::from(value)),
            1 => (0xffff_ffff << 32, u64::from(value) << 32),
            _ => return,
        };
        let others = self.driver_features.bits() & !mask;
        self.driver_features = Features::from_bits_retain(others | value);
    }

    /// The largest size of the queue that QueueSel selects, 0 where there is no such queue.
    fn queue_num_max(&self) -> u16 {
        let sizes = self.device.queue_max_sizes();
        sizes
            .get(usize::from(self.queue_sel))
            .copied()
            .unwrap_or_default()
    }

    /// Lets `change` have the registers of the selected queue, while they may be changed: before
    /// QueueReady and before DRIVER_OK.
    fn configure(&mut self, register: Register, change: impl FnOnce(&mut QueueRegisters)) {
        let live = self.is_live();
        match self.queues.get_mut(usize::from(self.queue_sel)) {
            Some(queue) if queue.ready.is_none() && !live => change(&mut queue.registers),
            Some(_) => self.warn(Warned::QueueInUse, || {
                format!("writes {register:?} of a queue in use")
            }),
            None => {}
        }
    }

    /// 1 puts the selected queue in use if its registers describe one. 0 ends that: the device
    /// has finished with the queue when the write returns. Once DRIVER_OK is set a queue that is
    /// not in use stays so until the device is reset.
    fn write_queue_ready(&mut self, value: u32) -> Response {
        let (live, max) = (self.is_live(), self.queue_num_max());
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_sel)) else {
            return Response::Done;
        };
        match value {
            0 => {
                if queue.ready.take().is_some() {
                    return self.device.stop_queue(self.queue_sel).into();
                }
            }
            1 if queue.ready.is_none() && !live => {
                match QueueLayout::new(&queue.registers, max, &self.memory) {
                    Ok(layout) => queue.ready = Some(layout),
                    Err(error) => {
                        self.warn(Warned::Queue, || format!("sets up no queue: {error}"));
                    }
                }
            }
            _ => self.warn(Warned::QueueInUse, || {
                format!("writes {value} to QueueReady of a queue in use")
            }),
        }
        Response::Done
    }

    /// An available buffer notification for the queue of this index, ignored where none is live.
    fn notify(&mut self, index: u16) -> Response {
        let queue = self.queues.get(usize::from(index));
        if self.is_live() && queue.is_some_and(|queue| queue.ready.is_some()) {
            match self.device.notify(index) {
                Ok(Some(work)) => Response::Work(work),
                served => served.map(drop).into(),
            }
        } else {
            Response::Done
        }
    }

    /// Has whatever is in the queues served, without a notification for it.
    fn notify_all(&mut self) -> Response {
        let queue_count = u16::try_from(self.queues.len()).unwrap_or(u16::MAX);
        let mut shares = Vec::new();
        for index in 0..queue_count {
            match self.notify(index) {
                Response::Work(work) => shares.push(work),
                Response::Done => {}
                other => return other,
            }
        }
        Response::Work(Arc::new(Shares(shares)))
    }

    fn warn(&mut self, kind: Warned, what: impl FnOnce() -> String) {
        if self.warned.first(kind as u32) {
            let device = self.device.device_type();
            warn!("virtio device of type {device}: the driver {}", what());
        }
    }
}

impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if offset >= CONFIG_OFFSET {
            return self.page.read(offset, data);
        }
        let width = data.len();
        match (
            Register::at(offset),
            <&mut [u8; WIDTH]>::try_from(&mut *data),
        ) {
            (Some(register), Ok(data)) => *data = self.read_register(register).to_le_bytes(),
            _ => {
                data.fill(0);
                self.warn(Warned::Access, || {
                    format!("reads {width} bytes at {offset:#x}, which is no register")
                });
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Response {
        // What is on the second page itself exits where that is not the guest's for a moment.
        let found = match offset < Register::InterruptStatus.offset() {
            true => self.find_written(),
            false => self.close_page(),
        };
        if let Err(error) = found {
            return Response::Failed(error);
        }
        let response = match offset.checked_sub(CONFIG_OFFSET) {
            Some(offset) => {
                self.device.write_config(offset, data);
                self.show_config().into()
            }
            None => self.write_at(offset, data),
        };
        match self.open_page() {
            Ok(()) => response,
            Err(error) => Response::Failed(error),
        }
    }

    fn catch_up(&mut self) -> Result<(), DeviceError> {
        self.find_written()?;
        self.open_page()
    }

    fn refresh(&mut self) -> Result<(), DeviceError> {
        self.close_page()?;
        self.device.refresh()?;
        self.show_config()?;
        self.open_page()
    }
}

impl fmt::Debug for MmioTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MmioTransport")
            .field("page", &self.page)
            .field("driver_features", &self.driver_features)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

/// The queue that `value` names. No device has so many that the last index is one.
fn queue_index(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Sets bits 0 to 31 of `address`.
fn set_low(address: &mut u64, value: u32) {
    *address = *address & 0xffff_ffff_0000_0000 | u64::from(value);
}

/// Sets bits 32 to 63 of `address`.
fn set_high(address: &mut u64, value: u32) {
    *address = *address & 0xffff_ffff | u64::from(value) << 32;
}
