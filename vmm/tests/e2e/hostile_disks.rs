//! The guest that lies, on a disk that is in all its ways not what it is by default. What the guest
//! does, and what must come of it, is in `hostile`.

use libtest_mimic::Trial;

use crate::direct::has_direct_io;
use crate::harness::file;
use crate::hostile::{SERVED_BY_EITHER, survives};
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    vec![crate::harness::test(
        "hostile_guest_is_survived_by_a_disk_with_limits_past_the_cache_in_write_through_mode",
        Needs::OwnKvm,
        limited,
    )]
}

fn limited() {
    let (_dir, path) = file("disk.img", &[0; 4096]);
    let direct = if has_direct_io(&path) { "on" } else { "off" };
    let options = format!(",direct={direct},cache=writethrough,throttle=iops:20k+bps:64M");
    survives(&SERVED_BY_EITHER, &options);
}
