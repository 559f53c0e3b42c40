//! Images in qcow2: any bytes as one, used as a disk if it is opened. Each use may fail; the guest never
//! changes what the header says, by which the image names other files.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use devices::virtio::block::backend::{BlockBackend, Qcow2Backend};
use rustix::fs::{MemfdFlags, memfd_create};
use spec::block::SECTOR_SIZE;
use spec::rng::Rng;
use vm_memory::VolatileSlice;

/// Where the header says what is behind the image: here nothing ever is, since that would be a file of
/// the host.
const BACKING: usize = 8;
/// How far the smallest header reaches, with what may follow it in its cluster.
const HEADER: usize = 512;
/// What changes in it: where the refcount table is, and the features that are cleared.
const CHANGES: [Range<usize>; 2] = [48..60, 88..96];
/// How often the disk is used.
const USES: u64 = 32;
/// The most sectors at once.
const SECTORS_MAX: u64 = 64;

/// Uses an image: after eight bytes that choose what is done with it, `data` is its file.
pub fn qcow2(data: &[u8]) {
    let Some((seed, image)) = data.split_first_chunk::<8>() else {
        return;
    };
    let mut image = image.to_vec();
    if let Some(backing) = image.get_mut(BACKING..BACKING + 8) {
        backing.fill(0);
    }
    let file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(&image, 0).unwrap();
    let mut rng = Rng::new(u64::from_le_bytes(*seed));
    let read_only = rng.next().is_multiple_of(8);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match Qcow2Backend::open(Path::new(&path), read_only) {
        Ok(disk) => use_somehow(&disk, &mut rng),
        Err(error) => {
            let reason = error.to_string();
            assert!(!reason.contains('\n'), "not a line: {reason:?}");
            return;
        }
    }
    let mut after = vec![0; image.len()];
    file.read_exact_at(&mut after, 0).unwrap();
    if !read_only {
        image.truncate(HEADER);
        after.truncate(HEADER);
        for changes in CHANGES {
            after[changes.clone()].copy_from_slice(&image[changes]);
        }
    }
    assert!(after == image, "more is written than may be");
}

fn use_somehow(disk: &Qcow2Backend, rng: &mut Rng) {
    for _ in 0..USES {
        let len = 1 + rng.next() % SECTORS_MAX.min(disk.capacity());
        let last = disk.capacity() - len;
        // Often near the start, where the same clusters are met again.
        let start = match rng.next() % 4 {
            0 => rng.next() % (last + 1),
            _ => (rng.next() % 128).min(last),
        };
        let (start, len) = (start * SECTOR_SIZE, len * SECTOR_SIZE);
        let mut bytes = vec![rng.next() as u8; len as usize];
        let slices = [VolatileSlice::from(&mut bytes[..])];
        let _may_fail = match rng.next() % 8 {
            0 | 1 => disk.read_at(&slices, start).map_err(|error| error.source),
            2..5 => disk.write_at(&slices, start).map_err(|error| error.source),
            5 => disk.write_zeroes(start, len, rng.next().is_multiple_of(2)),
            6 => disk.discard(start, len),
            _ => disk.flush(),
        };
    }
}
