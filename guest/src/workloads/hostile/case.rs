//! What is known of a case before it is run: what it stands for, for which disks and in which modes.
//! What it does is in the files that list the cases.

use core::fmt;

use spec::Features;

use super::scene::{Disk, Scene};
use super::seen::Outcome;
use super::{Stage, smp};

/// One case.
pub(super) struct Case {
    /// Its name: what chooses it.
    pub(super) name: &'static str,
    /// What a hostile guest does.
    pub(super) hazard: &'static str,
    /// What must come of it.
    pub(super) required: &'static str,
    /// Which disks it is for.
    pub(super) disk: DiskKind,
    /// The modes in which it is run.
    pub(super) modes: &'static [Mode],
    /// Whether the device is reset in it. Otherwise it must go on without.
    pub(super) resets: bool,
    /// What is done.
    pub(super) run: Run,
}

#[derive(Clone, Copy)]
pub(super) enum Run {
    /// To a device that lives.
    Device(fn(&mut Scene<'_>) -> Outcome),
    /// To the machine, before the device is brought up.
    Machine(fn(&mut Stage<'_, '_>) -> Outcome),
    /// The same, by several CPUs.
    Cpus(fn(&mut Stage<'_, '_>) -> Outcome),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskKind {
    Any,
    Writable,
    ReadOnly,
    /// A writable one with a cache that the driver may switch.
    WritableCache,
    /// One that takes discard requests.
    Discards,
    /// One that takes write-zeroes requests.
    WritesZeroes,
    /// One with more queues than one.
    SeveralQueues,
}

/// What is negotiated for a case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) indirect: bool,
    pub(super) event_idx: bool,
}

impl Mode {
    pub(super) const fn new(indirect: bool, event_idx: bool) -> Self {
        Self {
            indirect,
            event_idx,
        }
    }

    /// What a driver in this mode accepts of the features that are offered.
    pub(super) fn features(self, offered: Features) -> Features {
        let mut wanted = Features::VIRTIO_F_VERSION_1
            | Features::VIRTIO_BLK_F_FLUSH
            | Features::VIRTIO_BLK_F_RO
            | Features::VIRTIO_BLK_F_SIZE_MAX
            | Features::VIRTIO_BLK_F_SEG_MAX
            | Features::VIRTIO_BLK_F_BLK_SIZE
            | Features::VIRTIO_BLK_F_MQ
            | Features::VIRTIO_BLK_F_DISCARD
            | Features::VIRTIO_BLK_F_WRITE_ZEROES;
        wanted.set(Features::VIRTIO_F_INDIRECT_DESC, self.indirect);
        wanted.set(Features::VIRTIO_F_EVENT_IDX, self.event_idx);
        offered & wanted
    }

    /// The feature that the device would have to offer for this mode, if it does not.
    fn missing(self, offered: Features) -> Option<&'static str> {
        let accepted = self.features(offered);
        if self.indirect && !accepted.contains(Features::VIRTIO_F_INDIRECT_DESC) {
            return Some("VIRTIO_F_INDIRECT_DESC is not offered");
        }
        (self.event_idx && !accepted.contains(Features::VIRTIO_F_EVENT_IDX))
            .then_some("VIRTIO_F_EVENT_IDX is not offered")
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.indirect { "indirect" } else { "direct" })?;
        f.write_str(if self.event_idx { ", event_idx" } else { "" })
    }
}

/// The chains in the queue's own table.
pub(super) const DIRECT: &[Mode] = &[Mode::new(false, false)];
/// The chains in indirect tables.
pub(super) const INDIRECT: &[Mode] = &[Mode::new(true, false)];
/// Either.
pub(super) const CHAINS: &[Mode] = &[Mode::new(false, false), Mode::new(true, false)];
/// The chains in indirect tables, with event indices.
pub(super) const EVENT_IDX: &[Mode] = &[Mode::new(true, true)];
/// Either, with and without event indices.
pub(super) const ALL: &[Mode] = &[
    Mode::new(false, false),
    Mode::new(true, false),
    Mode::new(false, true),
    Mode::new(true, true),
];

impl Case {
    /// A case for any disk, in chains of either kind, in which the device goes on without a reset.
    pub(super) const fn new(
        name: &'static str,
        hazard: &'static str,
        required: &'static str,
        run: fn(&mut Scene<'_>) -> Outcome,
    ) -> Self {
        Self::run_by(name, hazard, required, Run::Device(run))
    }

    /// The same that is done to what `run` says.
    pub(super) const fn run_by(
        name: &'static str,
        hazard: &'static str,
        required: &'static str,
        run: Run,
    ) -> Self {
        Self {
            name,
            hazard,
            required,
            disk: DiskKind::Any,
            modes: CHAINS,
            resets: false,
            run,
        }
    }

    /// The same for these disks alone.
    pub(super) const fn on(self, disk: DiskKind) -> Self {
        Self { disk, ..self }
    }

    /// The same in these modes.
    pub(super) const fn in_modes(self, modes: &'static [Mode]) -> Self {
        Self { modes, ..self }
    }

    /// The same in which the device is reset.
    pub(super) const fn with_reset(self) -> Self {
        Self {
            resets: true,
            ..self
        }
    }

    /// Why the case does not apply, if it does not.
    pub(super) fn skip(&self, mode: Mode, disk: &Disk<'_>, cpus: usize) -> Option<&'static str> {
        let offers = |feature| disk.offered.contains(feature);
        match self.disk {
            DiskKind::Discards if !offers(Features::VIRTIO_BLK_F_DISCARD) => {
                Some("VIRTIO_BLK_F_DISCARD is not offered")
            }
            DiskKind::WritesZeroes if !offers(Features::VIRTIO_BLK_F_WRITE_ZEROES) => {
                Some("VIRTIO_BLK_F_WRITE_ZEROES is not offered")
            }
            DiskKind::Writable | DiskKind::WritableCache if disk.is_read_only() => {
                Some("the disk is read-only")
            }
            DiskKind::WritableCache if !offers(Features::VIRTIO_BLK_F_CONFIG_WCE) => {
                Some("VIRTIO_BLK_F_CONFIG_WCE is not offered")
            }
            DiskKind::SeveralQueues if disk.queues < 2 => Some("the disk has one queue"),
            DiskKind::ReadOnly if !disk.is_read_only() => Some("the disk is not read-only"),
            _ => match self.run {
                Run::Cpus(_) if cpus == 1 => Some("one CPU"),
                Run::Cpus(_) if disk.capacity < smp::MIN_CAPACITY => Some("the disk is too small"),
                _ => mode.missing(disk.offered),
            },
        }
    }
}
