//! A queue that is worked by hand in the shell, and what the device makes of it.

use guest::rng::pattern;

use super::{assert_shows, shown};
use crate::host::Notify;
use crate::workloads::{NOTIFY, disk};

/// The chain of a read of sector `lba`, by hand.
fn chain(lba: u64) -> String {
    format!(
        "header in {lba}\ndesc 0 header 16 next=1\ndesc 1 data 512 write next=2\n\
         desc 2 status 1 write\n"
    )
}

#[test]
fn a_request_by_hand_is_served_and_its_data_can_be_seen() {
    for notify in NOTIFY {
        let lines = format!("{}avail 0\nkick\nused\ndump data 16\n", chain(7));
        let mut sector = [0; 512];
        pattern(99, 7, &mut sector);
        let first: Vec<String> = sector[..8].iter().map(|b| format!("{b:02x}")).collect();
        let shown = shown(&disk(), notify, &lines);
        assert_shows(
            &shown,
            &[
                "(the device is reset, for a queue of 8 descriptors by hand)\nheader at 0x",
                "type 0, sector 7\n",
                "flags NEXT WRITE next 2 (data)\n",
                "  flags 0, idx 1, used_event 0\n  entry 0     [0]  head 0\n",
                "kick queue=0 ok",
                "  entry 0  id 0 len 513\n",
                "status byte 0x00 (OK)\n",
                "USED_BUFFER\nused entries=1 ok\n",
                &first.join(" "),
            ],
        );
    }
}

#[test]
fn a_request_by_hand_can_have_a_table_an_offset_and_bytes_of_its_own() {
    let disk = disk();
    let lines = "header out 9\nput data+512 0x68 105\ndesc t0 header 16 next\n\
                 desc t1 data+512 512 next=5\ndesc t5 status 1 write\ndesc 4 table 96 indirect\n\
                 avail 4\nkick\nused\nring\n";
    let shown = shown(&disk, Notify::Trap, lines);
    assert_shows(
        &shown,
        &[
            "put bytes=2 at 0x",
            "(data+512)\n",
            "entry 0  id 4 len 1\n",
            "status byte 0x00 (OK)\n",
            "flags INDIRECT (table)\n      0   addr",
            "      5   addr",
        ],
    );
    assert_eq!(disk.bytes()[9 * 512..][..3], *b"hi\0");
}

#[test]
fn a_chain_that_is_wrong_is_refused_and_the_next_request_is_served() {
    let refused = [
        "id 0 len 0: nothing was written\n",
        "status byte 0xff (not written)\n",
    ];
    let failed = ["id 0 len 1\n", "status byte 0x01 (IOERR)\n"];
    for (wrong, [used, status]) in [
        ("desc 0 header 16 next=0\n", refused),
        ("desc 0 header 16 next=77\n", refused),
        ("desc 0 header 16 next=1 flags=4\n", refused),
        ("desc 1 table 7 indirect\n", refused),
        ("desc 1 0 512 write next=2\n", failed),
        ("desc 1 0xfffffffffffff000 512 write next=2\n", failed),
    ] {
        let good = chain(0);
        let lines = format!("{good}{wrong}avail 0\nkick\nused\n{good}avail 0\nkick\nused\ncrc 0\n");
        let shown = shown(&disk(), Notify::Trap, &lines);
        assert_shows(
            &shown,
            &[
                used,
                status,
                "entry 1  id 0 len 513\n",
                "status byte 0x00 (OK)\n",
                "(the device is reset, for the driver)\ncrc lba=0 count=1",
            ],
        );
    }
}

#[test]
fn a_device_that_needs_a_reset_is_shown_and_brought_back() {
    for notify in NOTIFY {
        let lines = format!(
            "{}avail idx 100\nkick\nused\nregs\nreset\navail 0\nkick\nused\n",
            chain(1)
        );
        let shown = shown(&disk(), notify, &lines);
        assert_shows(
            &shown,
            &[
                "DEVICE_NEEDS_RESET: `reset` brings it back\nused entries=0 ok\n",
                "0x0000004f ",
                "  status was ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK DEVICE_NEEDS_RESET\n",
                "  status is ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK\n",
                "reset ok: the rings are empty\n",
                "entry 0  id 0 len 513\n",
                "status byte 0x00 (OK)\n",
            ],
        );
    }
}

#[test]
fn a_command_that_is_wrong_has_written_nothing() {
    let lines = "hand\navail idx 5 6\navail flags 1 2\navail event 3 4\navail 1 x\navail\n\
                 desc 0 data 1 red\nput data 1 2 x\ndump data 16\ndesc\n";
    assert_shows(
        &shown(&disk(), Notify::Trap, lines),
        &[
            "> avail\n  flags 0, idx 0, used_event 0\ndisk 0 by hand> desc 0 data",
            "  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |",
            "> desc\ndisk 0 by hand> ",
        ],
    );
}
