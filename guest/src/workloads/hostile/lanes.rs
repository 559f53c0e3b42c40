//! Queues beside the first, each with a request of its own, and a device that is brought up with
//! them. What is done to them is the cases' matter.

use spec::block::{HEADER_SIZE, RequestHeader, request_type};
use spec::mmio::DeviceStatus;

use super::KNOWN;
use super::descriptors::{linked, readable, writable};
use super::scene::{QUEUE_SIZE, SECTOR, Scene, areas};
use super::seen::{Broken, Outcome, Seen, read_of};
use super::yard::{UNTOUCHED, is_filled, is_same};
use crate::dma::Region;
use crate::virtio::Error;
use crate::virtio::raw::{RawDriver, RawQueue};

/// Descriptors of a request.
const CHAIN: u16 = 3;

/// A queue beside the first, and a request for it: a read of one sector.
pub struct Lane<'s> {
    /// Index of the queue.
    pub index: u16,
    /// The queue.
    pub queue: RawQueue<'s>,
    header: Region<'s>,
    data: Region<'s>,
    status: Region<'s>,
}

impl<'s> Lane<'s> {
    /// Memory for the queue of this index.
    fn new(scene: &mut Scene<'s>, index: u16) -> Result<Self, Error> {
        let yard = &mut scene.yard;
        Ok(Self {
            index,
            queue: RawQueue::new(QUEUE_SIZE, areas(yard, QUEUE_SIZE)?),
            header: yard.alloc(HEADER_SIZE)?,
            data: yard.alloc(SECTOR)?,
            status: yard.alloc(1)?,
        })
    }

    /// Sets the queue up, with nothing in its rings.
    ///
    /// # Errors
    /// The device refuses it.
    pub fn set_up(&mut self, driver: &mut RawDriver<'_, '_>) -> Result<(), Error> {
        self.queue.device.fill(UNTOUCHED);
        self.queue.rewind();
        let (index, areas) = (self.index, self.queue.areas());
        driver.describe_queue(index.into(), self.queue.size.into(), areas);
        match driver.set_ready(1) {
            1 => Ok(()),
            _ => Err(Error::QueueRefused(index)),
        }
    }

    fn sector(&self) -> usize {
        usize::from(self.index) % KNOWN
    }

    /// Makes the request available so many times, with nothing where its answer goes.
    pub fn offer(&mut self, times: u16) {
        let header = RequestHeader {
            request_type: request_type::IN,
            sector: self.sector() as u64,
        };
        self.header.write(0, &header.to_bytes());
        self.data.fill(UNTOUCHED);
        self.status.fill(UNTOUCHED);
        for head in (0..times).map(|time| CHAIN * time) {
            self.queue
                .set_desc(head, linked(readable(self.header), Some(head + 1)));
            self.queue
                .set_desc(head + 1, linked(writable(self.data), Some(head + 2)));
            self.queue.set_desc(head + 2, writable(self.status));
            self.queue.offer(head);
        }
    }

    /// Sees that the request which is available comes back as it should, whatever the device needs
    /// besides.
    ///
    /// # Errors
    /// It does not.
    pub fn check_answer(&mut self, scene: &mut Scene<'_>, what: &'static str) -> Outcome {
        let seen = self.queue.used_seen;
        let mut driver = RawDriver {
            transport: &mut *scene.driver.transport,
            queue: self.queue,
        };
        driver.wait_for(|queue| queue.used_idx() != seen)?;
        let used = self.queue.take_used();
        let mut status = [0];
        self.status.read(0, &mut status);
        let answer = Seen::Answer {
            len: used.map_or(0, |used| used.len),
            status: status[0],
        };
        scene.check(what, self.index.into(), answer, read_of(SECTOR))?;
        let contents = scene.disk.contents.part(self.sector() * SECTOR, SECTOR);
        let same = is_same(self.data, contents);
        scene.check_words(
            what,
            self.index.into(),
            same,
            "the sector",
            "another sector",
        )?;
        let once = self.queue.used_idx() == self.queue.used_seen;
        scene.check_words(what, self.index.into(), once, "once", "more than once")
    }

    /// Sees that the device serves the queue.
    ///
    /// # Errors
    /// It does not.
    pub fn check_serves(&mut self, scene: &mut Scene<'_>) -> Outcome {
        self.offer(1);
        scene.driver.kick(self.index.into());
        self.check_answer(scene, "the queue")
    }

    /// Has nothing where the device could write for this queue; to be called when it may not.
    pub fn wipe(&self) {
        self.written().for_each(|region| region.fill(UNTOUCHED));
    }

    /// Whether the device has written nothing for this queue since.
    pub fn is_wiped(&self) -> bool {
        self.written().all(|region| is_filled(region, UNTOUCHED))
    }

    fn written(&self) -> impl Iterator<Item = Region<'s>> + use<'s> {
        [self.queue.device, self.data, self.status].into_iter()
    }
}

/// The second queue and the last, which may be one.
pub struct Lanes<'s> {
    lanes: [Lane<'s>; 2],
    count: usize,
}

impl<'s> Lanes<'s> {
    /// Memory for them.
    ///
    /// # Errors
    /// There is not enough.
    pub fn new(scene: &mut Scene<'s>) -> Result<Self, Error> {
        let last = scene.disk.queues.saturating_sub(1);
        Ok(Self {
            lanes: [Lane::new(scene, 1)?, Lane::new(scene, last)?],
            count: if last > 1 { 2 } else { 1 },
        })
    }

    /// All there are.
    pub fn all(&mut self) -> &mut [Lane<'s>] {
        &mut self.lanes[..self.count]
    }

    /// The second queue, and the others.
    pub fn split(&mut self) -> (&mut Lane<'s>, &mut [Lane<'s>]) {
        let (second, others) = self.lanes.split_at_mut(1);
        (&mut second[0], &mut others[..self.count - 1])
    }

    /// Resets the device and brings it up with the first queue and these.
    ///
    /// # Errors
    /// It does not go along.
    pub fn bring_up(&mut self, scene: &mut Scene<'_>) -> Result<(), Error> {
        negotiate(scene)?;
        set_up_first(scene)?;
        for lane in self.all() {
            lane.set_up(&mut scene.driver)?;
        }
        start(scene);
        Ok(())
    }

    /// Sees that the device serves all of them.
    ///
    /// # Errors
    /// It does not.
    pub fn check_serve(&mut self, scene: &mut Scene<'_>) -> Outcome {
        let mut lanes = self.all().iter_mut();
        lanes.try_for_each(|lane| lane.check_serves(scene))
    }
}

/// Resets the device, and takes the steps up to the queues.
///
/// # Errors
/// It does not go along.
pub fn negotiate(scene: &mut Scene<'_>) -> Result<(), Error> {
    let features = scene.features;
    match scene.driver.negotiate(features)? {
        status if status.contains(DeviceStatus::FEATURES_OK) => Ok(()),
        _ => Err(Error::FeaturesRefused(features)),
    }
}

/// Sets the first queue up, with nothing in its rings.
///
/// # Errors
/// The device refuses it.
pub fn set_up_first(scene: &mut Scene<'_>) -> Result<(), Error> {
    let driver = &mut scene.driver;
    driver.queue.device.fill(UNTOUCHED);
    driver.queue.rewind();
    driver.describe(driver.queue.size.into(), driver.queue.areas());
    match driver.set_ready(1) {
        1 => Ok(()),
        _ => Err(Error::QueueRefused(0)),
    }
}

/// Sets DRIVER_OK.
pub fn start(scene: &mut Scene<'_>) {
    // What the last user of the device has left.
    scene.driver.transport.take_events();
    scene.driver.start();
}

/// Waits until the device needs a reset.
///
/// # Errors
/// It does not come to it.
pub fn wait_needs_reset(scene: &mut Scene<'_>) -> Result<(), Broken> {
    let driver = &mut scene.driver;
    let events = spec::mmio::InterruptStatus::CONFIG_CHANGE;
    driver.wait_events(events)?;
    let status = Seen::Value(driver.transport.status().bits().into());
    let live = DeviceStatus::all() - DeviceStatus::FAILED;
    scene.check("the status", 0, status, Seen::Value(live.bits().into()))
}
