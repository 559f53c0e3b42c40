//! A request queue of a block device, set up: the virtqueue, and what frames its requests. All of it
//! belongs to whoever drives the queue; other queues of the device have nothing in common with it.

use super::frames::Frames;
use super::queue::VirtQueue;

/// The chain around the data of a request: its header and its status.
pub(super) const FRAME: usize = 2;
/// The smallest queue that holds a request with data, in descriptors.
pub(super) const MIN_QUEUE_SIZE: u16 = (FRAME as u16 + 1).next_power_of_two();

/// A request queue.
pub(super) struct RequestQueue<'m> {
    /// By which number the device is notified of it.
    pub(super) index: u16,
    pub(super) queue: VirtQueue<'m>,
    pub(super) frames: Frames<'m>,
}

impl RequestQueue<'_> {
    /// How many requests of `segments` data segments can be in flight at once.
    pub(super) fn capacity(&self, segments: u16) -> u16 {
        self.queue.capacity(segments.saturating_add(FRAME as u16))
    }
}
