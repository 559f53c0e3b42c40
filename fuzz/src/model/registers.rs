//! What the registers of a block device read (sections 2.1, 4.2.2 and 5.2.4): the specification's
//! text in numbers, with nothing of the device's own code.

use spec::Features;

use crate::ram::REGIONS;

const STATUS: u64 = 0x70;
const CONFIG: u64 = 0x100;
/// Offset of `writeback` in the configuration space.
const WRITEBACK: usize = 32;
/// The largest size of the only queue.
const QUEUE_NUM_MAX: u32 = 512;

const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;
const NEEDS_RESET: u32 = 64;
const FAILED: u32 = 128;

/// The registers of a device.
#[derive(Clone, Debug)]
pub struct Model {
    offered: u64,
    config: [u8; 60],
    pub status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queue_num: u32,
    /// Descriptor Area, Driver Area, Device Area.
    areas: [u64; 3],
    queue_ready: bool,
    /// The field of the configuration space that the driver may write.
    writeback: bool,
}

impl Model {
    /// A new device of `capacity` sectors.
    pub fn new(read_only: bool, capacity: u64) -> Self {
        Self {
            offered: offered(read_only).bits(),
            config: config(read_only, capacity),
            status: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            queue_num: 0,
            areas: [0; 3],
            queue_ready: false,
            writeback: true,
        }
    }

    /// What a read of `width` bytes at `offset` gives.
    pub fn read(&self, offset: u64, width: usize) -> Vec<u8> {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            let mut config = self.config;
            config[WRITEBACK] = self.writeback.into();
            let config = config.into_iter().skip(offset as usize);
            let padded = config.chain(std::iter::repeat(0));
            return padded.take(width).collect();
        }
        let register = if width == 4 { self.register(offset) } else { 0 };
        register
            .to_le_bytes()
            .into_iter()
            .cycle()
            .take(width)
            .collect()
    }

    /// The byte at `offset` of memory that a guest has in place of the registers.
    pub fn byte(&self, offset: u64) -> u8 {
        let register = offset & !3;
        self.read(register, 4)[(offset - register) as usize]
    }

    fn register(&self, offset: u64) -> u32 {
        match offset {
            0x00 => u32::from_le_bytes(*b"virt"),
            0x04 => 2,
            0x08 => 2,
            0x0c => u32::from_le_bytes(*b"vmm\0"),
            0x10 => match self.device_features_sel {
                0 => self.offered as u32,
                1 => (self.offered >> 32) as u32,
                _ => 0,
            },
            0x34 if self.queue_sel == 0 => QUEUE_NUM_MAX,
            0x44 if self.queue_sel == 0 => self.queue_ready.into(),
            STATUS => self.status,
            // Length and base of a shared memory region that does not exist.
            0xb0 | 0xb4 | 0xb8 | 0xbc => u32::MAX,
            _ => 0,
        }
    }

    /// Writes `bytes` at `offset`.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if let &[value] = bytes
            && offset == CONFIG + WRITEBACK as u64
            && self.has_agreed_on(Features::VIRTIO_BLK_F_CONFIG_WCE)
        {
            self.writeback = value != 0;
        }
        let Ok(bytes) = bytes.try_into() else {
            return;
        };
        let value = u32::from_le_bytes(bytes);
        match offset {
            0x14 => self.device_features_sel = value,
            0x20 => self.accept_features(value),
            0x24 => self.driver_features_sel = value,
            0x30 => self.queue_sel = value,
            0x38 if self.queue_is_open() => self.queue_num = value,
            0x44 if self.queue_sel == 0 => match value {
                0 => self.queue_ready = false,
                1 if self.queue_is_open() => self.queue_ready = self.is_queue(),
                _ => {}
            },
            STATUS => self.write_status(value),
            0x80 | 0x84 | 0x90 | 0x94 | 0xa0 | 0xa4 if self.queue_is_open() => {
                let area = &mut self.areas[(offset as usize - 0x80) / 0x10];
                let mut halves = [*area as u32, (*area >> 32) as u32];
                halves[usize::from(offset % 8 == 4)] = value;
                *area = u64::from(halves[0]) | u64::from(halves[1]) << 32;
            }
            _ => {}
        }
    }

    fn accept_features(&mut self, value: u32) {
        let shift = match self.driver_features_sel {
            0 => 0,
            1 => 32,
            _ => return,
        };
        if self.status & FEATURES_OK == 0 {
            self.driver_features &= !(u64::from(u32::MAX) << shift);
            self.driver_features |= u64::from(value) << shift;
        }
    }

    /// Whether the registers of the selected queue may be written.
    fn queue_is_open(&self) -> bool {
        self.queue_sel == 0 && !self.queue_ready && self.status & DRIVER_OK == 0
    }

    fn write_status(&mut self, value: u32) {
        let wanted = value & !NEEDS_RESET;
        if value == 0 {
            *self = Self {
                offered: self.offered,
                config: self.config,
                ..Self::new(false, 0)
            };
        } else if wanted == self.status | FAILED {
            self.status = wanted;
        } else if self.status & FAILED == 0 {
            let version_1 = self.driver_features & 1 << 32 != 0;
            let agreed = version_1 && self.driver_features & !self.offered == 0;
            match (self.status, wanted) {
                (0, 1 | 3) | (1, 3) | (11, 15) => self.status = wanted,
                (3, 11) if agreed => {
                    self.status = wanted;
                    let flush = self.has_agreed_on(Features::VIRTIO_BLK_F_FLUSH);
                    self.writeback =
                        flush || !self.has_agreed_on(Features::VIRTIO_BLK_F_CONFIG_WCE);
                }
                _ => {}
            }
        }
    }

    fn has_agreed_on(&self, feature: Features) -> bool {
        self.status & FEATURES_OK != 0 && self.driver_features & feature.bits() != 0
    }

    /// Whether the registers describe a queue: three aligned areas in RAM that do not overlap.
    fn is_queue(&self) -> bool {
        let num = u64::from(self.queue_num);
        let lens = [16 * num, 6 + 2 * num, 6 + 8 * num];
        let aligns = [16, 2, 4];
        let areas = || self.areas.into_iter().zip(lens);
        let in_ram = |(start, len): (u64, u64)| {
            let mut regions = REGIONS.into_iter();
            regions.any(|(base, size)| {
                start >= base && start - base <= size as u64 && len <= size as u64 - (start - base)
            })
        };
        let sound = self.queue_num.is_power_of_two()
            && self.queue_num <= QUEUE_NUM_MAX
            && areas().all(|(start, len)| start != 0 && in_ram((start, len)))
            && areas()
                .zip(aligns)
                .all(|((start, _), align)| start % align == 0);
        sound && {
            let mut sorted: Vec<_> = areas().collect();
            sorted.sort_unstable();
            sorted
                .windows(2)
                .all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
        }
    }
}

/// What the device offers.
pub fn offered(read_only: bool) -> Features {
    let mut features = Features::VIRTIO_F_VERSION_1
        | Features::VIRTIO_F_EVENT_IDX
        | Features::VIRTIO_F_INDIRECT_DESC
        | Features::VIRTIO_BLK_F_FLUSH
        | Features::VIRTIO_BLK_F_SEG_MAX
        | Features::VIRTIO_BLK_F_SIZE_MAX
        | Features::VIRTIO_BLK_F_CONFIG_WCE
        | Features::VIRTIO_BLK_F_GEOMETRY
        | Features::VIRTIO_BLK_F_TOPOLOGY
        | Features::VIRTIO_BLK_F_BLK_SIZE;
    let clears = Features::VIRTIO_BLK_F_DISCARD | Features::VIRTIO_BLK_F_WRITE_ZEROES;
    features.set(clears, !read_only);
    features.set(Features::VIRTIO_BLK_F_RO, read_only);
    features
}

/// The configuration space.
fn config(read_only: bool, capacity: u64) -> [u8; 60] {
    let mut space = [0; 60];
    space[..8].copy_from_slice(&capacity.to_le_bytes());
    space[8..12].copy_from_slice(&(128_u32 << 10).to_le_bytes());
    space[12..16].copy_from_slice(&510_u32.to_le_bytes());
    // One cylinder of 16 heads with 63 sectors each is more than any disk here has.
    space[16..20].copy_from_slice(&[1, 0, 16, 63]);
    space[20..24].copy_from_slice(&512_u32.to_le_bytes());
    // One sector is the least that is best asked for.
    space[26] = 1;
    if !read_only {
        for (offset, value) in [
            (36, 32768_u32),
            (40, 4),
            (44, 1),
            (48, 32768),
            (52, 4),
            (56, 1),
        ] {
            space[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    space
}
