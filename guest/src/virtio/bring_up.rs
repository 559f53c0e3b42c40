//! How a block device is made ready: the steps of section 3.1.1, one after the other. Who drives it
//! then, and by which of its queues, is not decided here.

use spec::Features;
use spec::block::config;
use spec::mmio::{DEVICE_ID_BLOCK, DeviceStatus, Register};

use super::completion::Wait;
use super::frames::Frames;
use super::queue::{MAX_QUEUE_SIZE, VirtQueue};
use super::requests::{MIN_QUEUE_SIZE, RequestQueue};
use super::{Error, Transport};
use crate::dma::{Arena, Region};

/// The features that this driver makes use of.
const WANTED: Features = Features::VIRTIO_BLK_F_SIZE_MAX
    .union(Features::VIRTIO_BLK_F_SEG_MAX)
    .union(Features::VIRTIO_BLK_F_RO)
    .union(Features::VIRTIO_BLK_F_GEOMETRY)
    .union(Features::VIRTIO_BLK_F_BLK_SIZE)
    .union(Features::VIRTIO_BLK_F_TOPOLOGY)
    .union(Features::VIRTIO_BLK_F_FLUSH)
    .union(Features::VIRTIO_BLK_F_CONFIG_WCE)
    .union(Features::VIRTIO_BLK_F_MQ)
    .union(Features::VIRTIO_BLK_F_DISCARD)
    .union(Features::VIRTIO_BLK_F_WRITE_ZEROES)
    .union(Features::VIRTIO_F_INDIRECT_DESC)
    .union(Features::VIRTIO_F_EVENT_IDX)
    .union(Features::VIRTIO_F_VERSION_1);

/// What the user of the driver can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How to wait.
    pub wait: Wait,
    /// Whether to accept VIRTIO_F_INDIRECT_DESC.
    pub indirect: bool,
    /// Whether to accept VIRTIO_F_EVENT_IDX.
    pub event_idx: bool,
    /// Size of each queue, in descriptors; none for the largest that driver and device can do.
    pub queue_size: Option<u16>,
}

impl Options {
    /// The features that the driver makes use of with these options.
    #[must_use]
    pub fn wanted(&self) -> Features {
        let mut wanted = WANTED;
        wanted.set(Features::VIRTIO_F_INDIRECT_DESC, self.indirect);
        wanted.set(Features::VIRTIO_F_EVENT_IDX, self.event_idx);
        wanted
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wait: Wait::Irq,
            indirect: true,
            event_idx: true,
            queue_size: None,
        }
    }
}

/// What the device tells of itself.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The features that the device offers.
    pub offered: Features,
    /// Those of them that the driver accepted.
    pub accepted: Features,
    /// The largest size that the first request queue may have, in descriptors.
    pub queue_num_max: u16,
    /// How many request queues there are, where the device tells.
    pub num_queues: Option<u16>,
    /// Size of the disk, in sectors of 512 bytes.
    pub capacity: u64,
    /// Largest segment, in bytes, where the device has a limit.
    pub size_max: Option<u32>,
    /// Most data segments in a request, where the device tells.
    pub seg_max: Option<u32>,
    /// Block size for optimal performance, in bytes, where the device tells.
    pub blk_size: Option<u32>,
    /// How many cylinders, heads and sectors a track it had if it were such a disk, where the device
    /// tells.
    pub geometry: Option<(u16, u8, u8)>,
    /// Size of a physical block, as a power of two of `blk_size`, where the device tells.
    pub physical_block_exp: Option<u8>,
    /// What a discard request may have, where the device takes such.
    pub discard: Option<ClearLimits>,
    /// To what discards are best aligned, in sectors, where the device tells.
    pub discard_sector_alignment: Option<u32>,
    /// What a write-zeroes request may have, where the device takes such.
    pub write_zeroes: Option<ClearLimits>,
    /// Whether a write-zeroes request can deallocate sectors, where the device tells.
    pub write_zeroes_may_unmap: Option<bool>,
}

impl Info {
    /// What a discard request may have.
    ///
    /// # Errors
    /// [`Error::MissingFeatures`] where the device takes no such request.
    pub fn discard_limits(&self) -> Result<ClearLimits, Error> {
        let missing = Error::MissingFeatures(Features::VIRTIO_BLK_F_DISCARD);
        self.discard.ok_or(missing)
    }

    /// What a write-zeroes request may have.
    ///
    /// # Errors
    /// As for [`Info::discard_limits`].
    pub fn write_zeroes_limits(&self) -> Result<ClearLimits, Error> {
        let missing = Error::MissingFeatures(Features::VIRTIO_BLK_F_WRITE_ZEROES);
        self.write_zeroes.ok_or(missing)
    }
}

/// What a request may have that clears sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClearLimits {
    /// Most segments.
    pub max_seg: u32,
    /// Most sectors in each of them.
    pub max_sectors: u32,
}

/// Brings up the device behind `transport`, in the order of section 3.1.1, with as many queues as
/// there are places in `queues`, or as it has where these are fewer. The memory of the queues comes
/// from `arena`.
///
/// # Errors
/// Whatever makes the device one that cannot be driven; it is left FAILED or reset.
pub(super) fn bring_up<'m>(
    transport: &mut dyn Transport,
    options: &Options,
    queues: &mut [Option<RequestQueue<'m>>],
    arena: &mut Arena<'m>,
) -> Result<Info, Error> {
    // (Not in the list: is there such a device at all?)
    transport.check(DEVICE_ID_BLOCK)?;
    // 1. Reset the device.
    transport.reset()?;
    let info = set_up(transport, options, queues, arena).inspect_err(|_| {
        // If any of these steps goes wrong, give up on the device.
        transport.add_status(DeviceStatus::FAILED);
    })?;
    // 8. Tell the device that the driver is ready: it is live.
    transport.add_status(DeviceStatus::DRIVER_OK);
    Ok(info)
}

/// Steps 2 to 7.
fn set_up<'m>(
    transport: &mut dyn Transport,
    options: &Options,
    queues: &mut [Option<RequestQueue<'m>>],
    arena: &mut Arena<'m>,
) -> Result<Info, Error> {
    // 2. Say that the guest has noticed the device.
    transport.add_status(DeviceStatus::ACKNOWLEDGE);
    // 3. Say that it knows how to drive it.
    transport.add_status(DeviceStatus::DRIVER);
    // 4. Read the features that the device offers, accept those that this driver knows.
    let offered = transport.offered_features();
    let accepted = offered & options.wanted();
    if !offered.contains(Features::VIRTIO_F_VERSION_1) {
        return Err(Error::MissingFeatures(Features::VIRTIO_F_VERSION_1));
    }
    transport.accept_features(accepted);
    // 5. Say that this is all.
    transport.add_status(DeviceStatus::FEATURES_OK);
    // 6. See whether the device agrees.
    if !transport.status().contains(DeviceStatus::FEATURES_OK) {
        return Err(Error::FeaturesRefused(accepted));
    }
    // 7. Set up what is particular to the device: its configuration and its queues.
    let mut config = |feature, offset| {
        accepted
            .contains(feature)
            .then(|| transport.read_config(offset))
    };
    let size_max = config(Features::VIRTIO_BLK_F_SIZE_MAX, config::SIZE_MAX);
    let seg_max = config(Features::VIRTIO_BLK_F_SEG_MAX, config::SEG_MAX);
    let blk_size = config(Features::VIRTIO_BLK_F_BLK_SIZE, config::BLK_SIZE);
    let geometry = config(Features::VIRTIO_BLK_F_GEOMETRY, config::CYLINDERS).map(|fields| {
        let [a, b, heads, sectors] = fields.to_le_bytes();
        (u16::from_le_bytes([a, b]), heads, sectors)
    });
    let mut limits = |feature, max_seg, max_sectors| {
        Some(ClearLimits {
            max_seg: config(feature, max_seg)?,
            max_sectors: config(feature, max_sectors)?,
        })
    };
    let (max_seg, max_sectors) = (config::MAX_DISCARD_SEG, config::MAX_DISCARD_SECTORS);
    let discard = limits(Features::VIRTIO_BLK_F_DISCARD, max_seg, max_sectors);
    let (max_seg, max_sectors) = (
        config::MAX_WRITE_ZEROES_SEG,
        config::MAX_WRITE_ZEROES_SECTORS,
    );
    let write_zeroes = limits(Features::VIRTIO_BLK_F_WRITE_ZEROES, max_seg, max_sectors);
    let alignment = config::DISCARD_SECTOR_ALIGNMENT;
    let discard_sector_alignment = config(Features::VIRTIO_BLK_F_DISCARD, alignment);
    let write_zeroes_may_unmap =
        write_zeroes.map(|_| transport.read_config_byte(config::WRITE_ZEROES_MAY_UNMAP) != 0);
    let physical_block_exp = accepted
        .contains(Features::VIRTIO_BLK_F_TOPOLOGY)
        .then(|| transport.read_config_byte(config::PHYSICAL_BLOCK_EXP));
    let capacity = transport.read_config_64(config::CAPACITY);
    let num_queues = accepted
        .contains(Features::VIRTIO_BLK_F_MQ)
        .then(|| transport.read_config_16(config::NUM_QUEUES));
    let mut queue_num_max = 0;
    for (index, queue) in (0..num_queues.unwrap_or(1).max(1)).zip(queues) {
        let num_max = set_up_queue(transport, (index, queue), accepted, options, arena)?;
        if index == 0 {
            queue_num_max = num_max;
        }
    }
    Ok(Info {
        offered,
        accepted,
        queue_num_max,
        num_queues,
        capacity,
        size_max,
        seg_max,
        blk_size,
        geometry,
        physical_block_exp,
        discard,
        discard_sector_alignment,
        write_zeroes,
        write_zeroes_may_unmap,
    })
}

/// Sets up the request queue `index` (section 4.2.3.2). Returns the largest size that it may have.
fn set_up_queue<'m>(
    transport: &mut dyn Transport,
    (index, place): (u16, &mut Option<RequestQueue<'m>>),
    accepted: Features,
    options: &Options,
    arena: &mut Arena<'m>,
) -> Result<u16, Error> {
    // 1. Select the queue. 2. See that it is not in use. 3. See how large it may be.
    transport.write(Register::QueueSel, index.into());
    let num_max = transport.read(Register::QueueNumMax);
    if transport.read(Register::QueueReady) != 0 || num_max == 0 {
        return Err(Error::NoQueue(index));
    }
    let num_max = u16::try_from(num_max).unwrap_or(u16::MAX);
    let max = num_max.min(MAX_QUEUE_SIZE);
    // The largest power of two that is not above `max`.
    let size = options.queue_size.unwrap_or(1 << max.ilog2());
    let min = MIN_QUEUE_SIZE;
    if !size.is_power_of_two() || !(min..=max).contains(&size) {
        return Err(Error::QueueSize { size, min, max });
    }
    // 4. Allocate its memory, zeroed.
    let mut queue = VirtQueue::new(
        size,
        accepted.contains(Features::VIRTIO_F_EVENT_IDX),
        accepted.contains(Features::VIRTIO_F_INDIRECT_DESC),
        arena,
    )?;
    // 5. Tell the device its size. 6. Tell it where the three areas are.
    transport.write(Register::QueueNum, size.into());
    let [descriptor_area, driver_area, device_area] = queue.areas().map(Region::addr);
    for (low, high, addr) in [
        (
            Register::QueueDescLow,
            Register::QueueDescHigh,
            descriptor_area,
        ),
        (
            Register::QueueDriverLow,
            Register::QueueDriverHigh,
            driver_area,
        ),
        (
            Register::QueueDeviceLow,
            Register::QueueDeviceHigh,
            device_area,
        ),
    ] {
        transport.write(low, addr as u32);
        transport.write(high, (addr >> 32) as u32);
    }
    // 7. Put it into use. A device that cannot use it leaves QueueReady 0.
    transport.write(Register::QueueReady, 1);
    if transport.read(Register::QueueReady) != 1 {
        return Err(Error::QueueRefused(index));
    }
    if options.wait == Wait::Poll {
        queue.suppress_interrupts();
    }
    let frames = Frames::new(size, arena)?;
    *place = Some(RequestQueue {
        index,
        queue,
        frames,
    });
    Ok(num_max)
}
