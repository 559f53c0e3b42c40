//! The device status field (section 2.1): which of the driver's writes are steps of the
//! initialization sequence (section 3.1), and what each asks of the device. A table, no action.

use spec::mmio::DeviceStatus;

/// What a write to the status field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reset the device.
    Reset,
    /// Remember the new status.
    Accept(DeviceStatus),
    /// Remember the new status if the driver's features are acceptable.
    CheckFeatures(DeviceStatus),
    /// Remember the new status; the device begins to live.
    Activate(DeviceStatus),
    /// The device lives already: go on with what the same write began.
    Resume,
    /// Not a step of the sequence: change nothing.
    Refuse,
}

const NEW: DeviceStatus = DeviceStatus::empty();
const SEEN: DeviceStatus = DeviceStatus::ACKNOWLEDGE;
const DRIVEN: DeviceStatus = SEEN.union(DeviceStatus::DRIVER);
const AGREED: DeviceStatus = DRIVEN.union(DeviceStatus::FEATURES_OK);
const LIVE: DeviceStatus = AGREED.union(DeviceStatus::DRIVER_OK);

/// Each valid transition and its step. Many drivers set ACKNOWLEDGE and DRIVER in one write.
const TRANSITIONS: [(DeviceStatus, DeviceStatus, Step); 9] = [
    (NEW, SEEN, Step::Accept(SEEN)),
    (NEW, DRIVEN, Step::Accept(DRIVEN)),
    (SEEN, SEEN, Step::Accept(SEEN)),
    (SEEN, DRIVEN, Step::Accept(DRIVEN)),
    (DRIVEN, DRIVEN, Step::Accept(DRIVEN)),
    (DRIVEN, AGREED, Step::CheckFeatures(AGREED)),
    (AGREED, AGREED, Step::Accept(AGREED)),
    (AGREED, LIVE, Step::Activate(LIVE)),
    (LIVE, LIVE, Step::Resume),
];

/// The step from `status` that the driver asks for by writing `value`.
///
/// Zero resets from anywhere, and FAILED may be added anywhere; after it only a reset goes on.
/// DEVICE_NEEDS_RESET is the device's own: a driver writes it back with what it has read.
#[must_use]
pub fn step(status: DeviceStatus, value: u32) -> Step {
    if value == 0 {
        return Step::Reset;
    }
    let Some(wanted) = DeviceStatus::from_bits(value) else {
        return Step::Refuse;
    };
    let wanted = wanted - DeviceStatus::DEVICE_NEEDS_RESET;
    if wanted == status | DeviceStatus::FAILED {
        return Step::Accept(wanted);
    }
    TRANSITIONS
        .into_iter()
        .find(|(from, to, _)| (*from, *to) == (status, wanted))
        .map_or(Step::Refuse, |(_, _, step)| step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_the_specification_goes_from_new_to_live() {
        let accepted = |status, step| match step {
            Step::Accept(to) | Step::CheckFeatures(to) | Step::Activate(to) => to,
            other => panic!("{status:?}: {other:?}"),
        };
        let mut status = NEW;
        for bit in [1, 2, 8, 4] {
            status = accepted(status, step(status, status.bits() | bit));
        }
        assert_eq!(status, LIVE);
        assert_eq!(step(AGREED, LIVE.bits()), Step::Activate(LIVE));
        assert_eq!(step(DRIVEN, AGREED.bits()), Step::CheckFeatures(AGREED));
    }

    #[test]
    fn every_write_from_every_status_is_answered_as_this_table_says() {
        let a = |bits| Step::Accept(DeviceStatus::from_bits_retain(bits));
        let c = Step::CheckFeatures(AGREED);
        let l = Step::Activate(LIVE);
        let (s, no) = (Step::Resume, Step::Refuse);
        let columns = [0, 1, 3, 11, 15];
        #[rustfmt::skip]
        let table = [
            // written    from 0    1         3         11        15
            (1,          [a(1),     a(1),     no,       no,       no]),
            (2,          [no,       no,       no,       no,       no]),
            (3,          [a(3),     a(3),     a(3),     no,       no]),
            (4,          [no,       no,       no,       no,       no]),
            (5,          [no,       no,       no,       no,       no]),
            (6,          [no,       no,       no,       no,       no]),
            (7,          [no,       no,       no,       no,       no]),
            (8,          [no,       no,       no,       no,       no]),
            (9,          [no,       no,       no,       no,       no]),
            (10,         [no,       no,       no,       no,       no]),
            (11,         [no,       no,       c,        a(11),    no]),
            (12,         [no,       no,       no,       no,       no]),
            (13,         [no,       no,       no,       no,       no]),
            (14,         [no,       no,       no,       no,       no]),
            (15,         [no,       no,       no,       l,        s]),
            (128,        [a(128),   no,       no,       no,       no]),
            (128 | 1,    [no,       a(129),   no,       no,       no]),
            (128 | 3,    [no,       no,       a(131),   no,       no]),
            (128 | 11,   [no,       no,       no,       a(139),   no]),
            (128 | 15,   [no,       no,       no,       no,       a(143)]),
        ];
        let answer = |written, column: usize| {
            let row = table.iter().find(|(value, _)| *value == written);
            row.map_or(no, |(_, answers)| answers[column])
        };
        for written in 1..=0x1ff_u32 {
            for (column, from) in columns.into_iter().enumerate() {
                // A driver may write NEEDS_RESET back; by itself it is no status to write.
                let expected = answer(written & !64, column);
                let status = DeviceStatus::from_bits_retain(from);
                assert_eq!(step(status, written), expected, "{from} to {written:#x}");
            }
        }
    }

    #[test]
    fn zero_resets_from_anywhere() {
        for bits in 0..=0xff {
            assert_eq!(step(DeviceStatus::from_bits_retain(bits), 0), Step::Reset);
        }
    }

    #[test]
    fn failed_may_be_added_anywhere_and_only_a_reset_leaves_it() {
        let failed = LIVE | DeviceStatus::FAILED;
        assert_eq!(step(LIVE, failed.bits()), Step::Accept(failed));
        let failed = DRIVEN | DeviceStatus::FAILED;
        let on = (AGREED | DeviceStatus::FAILED).bits();
        assert_eq!(step(failed, on), Step::Refuse);
    }

    #[test]
    fn needs_reset_written_back_changes_nothing() {
        assert_eq!(step(AGREED, LIVE.bits() | 64), Step::Activate(LIVE));
    }
}
