//! Images that cannot be used: they are refused by name, or fail, and nothing else is harmed.

#![cfg(feature = "qcow2")]
#![allow(clippy::unwrap_used)]

#[path = "common/qcow2.rs"]
mod qcow2;

use std::fs;
use std::path::Path;

use devices::virtio::block::backend::{BlockBackend, Qcow2Backend};
use qcow2::*;
use spec::rng::Rng;
use tempfile::TempDir;
use vm_memory::VolatileSlice;

#[track_caller]
fn refusal(path: &Path) -> String {
    let before = fs::read(path).ok();
    let read_only = open(path, true).unwrap_err().to_string();
    assert_eq!(open(path, false).unwrap_err().to_string(), read_only);
    assert_eq!(fs::read(path).ok(), before);
    read_only.replace(path.parent().unwrap().to_str().unwrap(), "DIR")
}

/// An image of 1 MiB with `bytes` at `position`.
fn changed(position: usize, bytes: &[u8]) -> Option<TempDir> {
    let (dir, path, mut image) = made_image(&["create -q -f qcow2 image 1M"])?;
    image[position..][..bytes.len()].copy_from_slice(bytes);
    fs::write(&path, image).unwrap();
    Some(dir)
}

#[test]
fn an_image_that_cannot_be_used_is_refused_by_name_and_not_changed() {
    let features = |bits: u64| bits.to_be_bytes();
    let cases: [(usize, &[u8], &str); 14] = [
        (0, b"QFI\0", "it is none"),
        (4, &[0, 0, 0, 1], "its version is 1, not 2 or 3"),
        (
            20,
            &[0, 0, 0, 8],
            "its cluster size, 2^8 bytes, is not from 512 bytes to 2 MiB",
        ),
        (
            20,
            &[0, 0, 0, 22],
            "its cluster size, 2^22 bytes, is not from 512 bytes to 2 MiB",
        ),
        (
            24,
            &[0; 8],
            "its virtual size, 0 bytes, is not a multiple of 512, of one at least",
        ),
        (
            24,
            &1000_u64.to_be_bytes(),
            "its virtual size, 1000 bytes, is not a multiple of 512, of one at least",
        ),
        (32, &[0, 0, 0, 1], "it is encrypted"),
        (
            72,
            &features(1),
            "it was not closed and may have wrong reference counts ('qemu-img check -r all' mends it)",
        ),
        (
            72,
            &features(2),
            "it is marked as corrupt ('qemu-img check' says why)",
        ),
        (72, &features(4), "its data is in another file"),
        (
            72,
            &features(8),
            "it has clusters compressed by other than zlib",
        ),
        (72, &features(16), "it has extended L2 entries"),
        (
            72,
            &features(1 << 40),
            "it has incompatible features that are not known (0x10000000000)",
        ),
        (
            24,
            &(1_u64 << 62).to_be_bytes(),
            "its L1 table is not one that such an image can have",
        ),
    ];
    for (position, bytes, reason) in cases {
        let Some(dir) = changed(position, bytes) else {
            return;
        };
        let expected = format!("cannot use DIR/image as a qcow2 image: {reason}");
        assert_eq!(refusal(&dir.path().join("image")), expected);
    }
}

#[test]
fn a_file_that_is_no_image_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image");
    let none = "cannot open the disk image DIR/image: No such file or directory (os error 2)";
    assert_eq!(refusal(&path), none);
    for len in [0, 1, 71, 512, 4096] {
        fs::write(&path, vec![0; len]).unwrap();
        assert_eq!(
            refusal(&path),
            "cannot use DIR/image as a qcow2 image: it is none"
        );
    }
}

#[test]
fn a_backing_file_that_cannot_be_used_is_refused() {
    let create = "create -q -f qcow2 -u -F raw -b base image 1M";
    let Some(dir) = made(&[create]) else { return };
    let image = dir.path().join("image");
    assert_eq!(
        refusal(&image),
        "cannot open the disk image DIR/base: No such file or directory (os error 2)"
    );
    let refused = |options: &str, reason: &str| {
        qemu_img_says_ok(&dir, &format!("rebase -u -f qcow2 {options} image"));
        assert_eq!(refusal(&image), format!("cannot use DIR/{reason}"));
    };
    fs::write(dir.path().join("base"), [0; 512]).unwrap();
    refused("-F qcow2 -b base", "base as a qcow2 image: it is none");
    refused(
        "-F vmdk -b base",
        "image as a qcow2 image: its backing file is 'vmdk', not raw or qcow2",
    );
    // It is its own backing file.
    qemu_img_says_ok(&dir, "rebase -u -f qcow2 -F qcow2 -b image image");
    let in_use = "cannot use DIR/image as a disk image: it is in use (locked by flock)";
    let chain = "cannot use DIR/image as a qcow2 image: more than 16 images are behind each other";
    let open = |read_only| {
        let error = open(&image, read_only).unwrap_err();
        error
            .to_string()
            .replace(dir.path().to_str().unwrap(), "DIR")
    };
    assert_eq!([open(false), open(true)], [in_use, chain]);
}

#[test]
fn an_image_with_metadata_in_one_place_twice_is_not_written() {
    let Some((_dir, path, sound)) =
        made_image(&["create -q -f qcow2 -o cluster_size=4k,preallocation=metadata image 8M"])
    else {
        return;
    };
    let (l1, refcounts) = (be64(&sound, 40) as usize, be64(&sound, 48) as usize);
    // The second L2 table is the first one, or the refcount block; the refcount block is the table of
    // these.
    let first = sound[l1..l1 + 8].to_vec();
    let block = sound[refcounts..refcounts + 8].to_vec();
    let table = (refcounts as u64).to_be_bytes().to_vec();
    for (at, entry) in [(l1 + 8, first), (l1 + 8, block), (refcounts, table)] {
        let mut image = sound.clone();
        image[at..at + 8].copy_from_slice(&entry);
        fs::write(&path, &image).unwrap();
        let error = open(&path, false).unwrap_err().to_string();
        assert!(
            error.ends_with("its reference counts are wrong ('qemu-img check' says where)"),
            "{error}"
        );
        assert!(fs::read(&path).unwrap() == image);
    }
}

#[test]
fn a_guest_does_not_get_at_the_metadata_that_its_image_has_for_data() {
    let Some((_dir, path, sound)) =
        made_image(&["create -q -f qcow2 -o cluster_size=4k,preallocation=metadata image 4M"])
    else {
        return;
    };
    let (l1, refcounts) = (be64(&sound, 40), be64(&sound, 48));
    let entry = |at: u64| be64(&sound, at as usize) & 0x00ff_ffff_ffff_fe00;
    let (first, second, block) = (entry(l1), entry(l1 + 8), entry(refcounts));
    let metadata = [0, l1, refcounts, first, second, block];
    // Data, data that others have as well, compressed data, and room for data that are zeros so far.
    let kinds: [u64; 4] = [1 << 63, 0, 1 << 62, 1 << 63 | 1];
    let changes: [fn(&Qcow2Backend, u64, VolatileSlice<'_>) -> bool; 3] = [
        |disk, at, slice| disk.write_at(&[slice], at).is_ok(),
        |disk, at, slice| disk.write_zeroes(at, slice.len() as u64, false).is_ok(),
        |disk, at, slice| disk.discard(at, slice.len() as u64).is_ok(),
    ];
    let maps = metadata.map(|place| kinds.map(|kind| (place, kind)));
    for (place, kind) in maps.into_iter().flatten() {
        for (start, len) in [(4096, 512), (4608, 1024), (4096, 4096)] {
            let changed = changes.map(|change| {
                let mut image = sound.clone();
                let map = u64::to_be_bytes(place | kind);
                image[first as usize + 8..][..8].copy_from_slice(&map);
                fs::write(&path, &image).unwrap();
                let backend = open(&path, false).unwrap();
                let mut bytes = vec![0x5c; 4096];
                let cluster = VolatileSlice::from(&mut bytes[..]);
                let changed = change(&backend, start, cluster.subslice(0, len).unwrap());
                // Whatever has been given back for it is taken.
                let _may_fail = backend.discard(600 * 4096, 100 * 4096);
                let half = cluster.subslice(0, 2048).unwrap();
                for at in (600..700).map(|number| number * 4096) {
                    let _may_fail = backend.write_at(&[half], at + 2048);
                }
                let _may_fail = backend.flush();
                drop(backend);
                let image = fs::read(&path).unwrap();
                assert!(image[..4096] == sound[..4096]);
                for table in metadata {
                    // Where zeros are written over as a whole cluster, imago puts it on the table.
                    let may_be_data =
                        kind == kinds[3] && len == 4096 && [first, second, block].contains(&table);
                    let table = &image[table as usize..][..4096];
                    let has_data = table.windows(16).any(|bytes| bytes == [0x5c; 16]);
                    assert!(
                        may_be_data || !has_data,
                        "{place:#x} {kind:#x} {start} {len}"
                    );
                }
                changed
            });
            if place != 0 && kind == kinds[0] {
                let [written, _, discarded] = changed;
                assert!(!written && !discarded, "{place:#x} {start} {len}");
            }
        }
    }
}

#[test]
fn a_table_that_comes_to_be_where_a_malformed_image_has_data_is_kept_from_its_guest_too() {
    let Some((_dir, path, mut image)) = made_image(&[
        "create -q -f qcow2 -o cluster_size=4k image 4M",
        "bench -w -q -c 1 -f qcow2 image",
    ]) else {
        return;
    };
    let entry = |at: u64| be64(&image, at as usize) & 0x00ff_ffff_ffff_fe00;
    let first = entry(be64(&image, 40));
    // Data is where nothing is so far: there the table of the second half is put.
    let free = image.len() as u64;
    image[first as usize + 8..][..8].copy_from_slice(&(1 << 63 | free).to_be_bytes());
    fs::write(&path, &image).unwrap();
    let backend = open(&path, false).unwrap();
    let mut sector = [0x5c; 512];
    let slices = [VolatileSlice::from(&mut sector[..])];
    backend.write_at(&slices, 4096).unwrap();
    backend.write_at(&slices, 2 << 20).unwrap();
    backend.flush().unwrap();
    let l1 = be64(&image, 40) as usize;
    let second = be64(&fs::read(&path).unwrap(), l1 + 8);
    assert_eq!(second, 1 << 63 | free);
    backend.write_at(&slices, 4096).unwrap_err();
}

#[test]
fn a_backing_file_whose_name_would_not_stay_in_its_line_is_refused() {
    let create = "create -q -f qcow2 -u -F raw -b base\u{1b}[2J\nvmm image 1M";
    let Some(dir) = made(&[create]) else { return };
    assert_eq!(
        refusal(&dir.path().join("image")),
        "cannot use DIR/image as a qcow2 image: its backing file's name is not one that such an image can have"
    );
}

/// Uses a disk that may be broken: what is asked for may fail.
fn use_somehow(backend: &Qcow2Backend, rng: &mut Rng) {
    let size = usize::try_from(backend.capacity() * 512).unwrap_or(usize::MAX);
    for _ in 0..40 {
        let (start, len) = range(rng, size.min(1 << 40));
        let (start, mut bytes) = (start as u64, vec![0x5c; len]);
        let slices = [VolatileSlice::from(&mut bytes[..])];
        let _may_fail = match below(rng, 8) {
            0..3 => backend.read_at(&slices, start).map_err(|e| e.source),
            3..6 => backend.write_at(&slices, start).map_err(|e| e.source),
            6 => backend.write_zeroes(start, len as u64, below(rng, 2) == 0),
            _ => backend.flush(),
        };
    }
}

#[test]
fn a_malformed_image_is_refused_or_fails_and_does_no_more() {
    let Some((dir, mut content)) = chain("raw", "cluster_size=4k") else {
        return;
    };
    compare_with_model(&dir, "top", &mut content, 0);
    let path = dir.path().join("top");
    let sound = fs::read(&path).unwrap();
    let base = fs::read(dir.path().join("base")).unwrap();
    let entry = |at: u64| be64(&sound, at as usize) & 0x00ff_ffff_ffff_fe00;
    let (l1, refcounts) = (entry(40), entry(48));
    let tables = [0, l1, entry(l1), refcounts, entry(refcounts)];
    let mut opened = 0;
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut image = sound.clone();
        for _ in 0..=below(&mut rng, 4) {
            let table = tables[below(&mut rng, 5) as usize] as usize;
            let within = [8, 64, 112, 2048][below(&mut rng, 4) as usize];
            let at = table + below(&mut rng, within) as usize;
            match below(&mut rng, 4) {
                0 => image[at] ^= 1 << below(&mut rng, 8),
                1 => image[at] = rng.next() as u8,
                2 => image[at / 8 * 8..][..8]
                    .copy_from_slice(&(below(&mut rng, 64) << 12).to_be_bytes()),
                _ => image[at / 8 * 8..][..8].fill(0xff),
            }
        }
        if below(&mut rng, 8) == 0 {
            image.truncate(below(&mut rng, image.len() as u64) as usize);
        }
        fs::write(&path, image).unwrap();
        let Ok(backend) = open(&path, below(&mut rng, 4) == 0) else {
            continue;
        };
        opened += 1;
        use_somehow(&backend, &mut rng);
    }
    assert!(opened > 60, "{opened}");
    assert!(fs::read(dir.path().join("base")).unwrap() == base);
}
