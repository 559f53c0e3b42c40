//! A queue that is worked by hand in the shell: what the device makes of a chain, right or wrong.

use super::{Session, disk, path};
use crate::guests::NOTIFY_MODES;

/// Sets up the chain of a read of sector 5, by hand.
fn chain(session: &mut Session) {
    session.enter("header in 5", &["type 0, sector 5"]);
    session.enter("desc 0 header 16 next=1", &["flags NEXT next 1 (header)"]);
    session.enter(
        "desc 1 data 512 write next=2",
        &["flags NEXT WRITE next 2 (data)"],
    );
    session.enter("desc 2 status 1 write", &["flags WRITE (status)"]);
}

pub fn served() {
    for notify in NOTIFY_MODES {
        let (_dir, image) = disk();
        let mut session = Session::begin(&format!("{},notify={notify}", image.display()));
        session.enter("hand 16", &["disk 0 by hand"]);
        chain(&mut session);
        session.enter("avail 0", &["flags 0, idx 1", "head 0"]);
        session.enter("kick", &["kick queue=0 ok"]);
        session.enter(
            "used",
            &["id 0 len 513", "status byte 0x00 (OK)", "used entries=1 ok"],
        );
        session.enter("dump data 16", &["|sector 5        |"]);
        session.enter(
            "crc 5",
            &["the device is reset, for the driver", "crc lba=5"],
        );
        session.exit();
    }
}

pub fn malformed() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    chain(&mut session);
    // A loop.
    session.enter("desc 1 data 512 write next=0", &["next 0 (data)"]);
    session.enter("avail 0", &["idx 1"]);
    session.enter("kick", &["ok"]);
    session.enter(
        "used",
        &[
            "id 0 len 0: nothing was written",
            "status byte 0xff (not written)",
        ],
    );
    session.enter("desc 1 data 512 write next=2", &["next 2 (data)"]);
    session.enter("avail 0", &["idx 2"]);
    session.enter("kick", &["ok"]);
    session.enter("used", &["id 0 len 513", "status byte 0x00 (OK)"]);
    session.exit();
}

pub fn needs_reset() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    chain(&mut session);
    session.enter("avail idx 1000", &["idx 1000"]);
    session.enter("kick", &["ok"]);
    session.enter("used", &["DEVICE_NEEDS_RESET: `reset` brings it back"]);
    session.enter(
        "regs",
        &["Status              0x0000004f", "DEVICE_NEEDS_RESET"],
    );
    session.enter(
        "reset",
        &["status was", "DEVICE_NEEDS_RESET", "status is", "reset ok"],
    );
    session.enter("avail 0", &["idx 1"]);
    session.enter("kick", &["ok"]);
    session.enter("used", &["id 0 len 513", "status byte 0x00 (OK)"]);
    session.enter("crc 5", &["crc lba=5 count=1"]);
    session.exit();
}
