//! Images that qemu-img has made, against a plain array of bytes, and what qemu-img says afterwards.

use std::fs;
use std::process::{Command, Output};
use std::thread;

use spec::rng::Rng;
use tempfile::TempDir;

use super::header::be64;
use super::ordered::Done;
use super::*;

/// What qemu-img has to say; `None`, and a word about it, where there is no such program.
fn qemu_img(dir: &TempDir, args: &[&str]) -> Option<Output> {
    match Command::new("qemu-img")
        .args(args)
        .current_dir(dir)
        .output()
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("skipped: there is no qemu-img");
            None
        }
        output => Some(output.unwrap()),
    }
}

/// A directory in which qemu-img has done these things, `None` where there is no such program.
fn made(commands: &[&str]) -> Option<TempDir> {
    let dir = TempDir::new().unwrap();
    for command in commands {
        let args: Vec<_> = command.split(' ').collect();
        let output = qemu_img(&dir, &args)?;
        assert!(output.status.success(), "{command}: {output:?}");
    }
    Some(dir)
}

#[track_caller]
fn qemu_img_says_ok(dir: &TempDir, command: &str) {
    let args: Vec<_> = command.split(' ').collect();
    let output = qemu_img(dir, &args).unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

fn write(backend: &Qcow2Backend, position: u64, bytes: &mut [u8]) {
    // In two pieces, of an odd length where it can be.
    let (one, two) = bytes.split_at_mut(bytes.len() / 3);
    let slices = [VolatileSlice::from(one), VolatileSlice::from(two)];
    backend.write_at(&slices, position).unwrap();
}

fn read(backend: &Qcow2Backend, position: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let (one, two) = bytes.split_at_mut(len / 3);
    let slices = [VolatileSlice::from(one), VolatileSlice::from(two)];
    backend.read_at(&slices, position).unwrap();
    bytes
}

/// One of the first `limit` numbers.
fn below(rng: &mut Rng, limit: u64) -> u64 {
    rng.next() % limit
}

/// A range of whole sectors, mostly short.
fn range(rng: &mut Rng, size: usize) -> (usize, usize) {
    let sectors = size as u64 / 512;
    let max = [1, 8, 64, 512, 4096][below(rng, 5) as usize].min(sectors);
    let len = 1 + below(rng, max);
    let start = below(rng, sectors - len + 1);
    (start as usize * 512, len as usize * 512)
}

/// Changes the disk `image` and the array `model` at random, and has them compared, by this device and
/// by QEMU, and the image checked.
fn compare_with_model(dir: &TempDir, image: &str, model: &mut [u8], seed: u64) {
    let mut rng = Rng::new(seed);
    let path = dir.path().join(image);
    for _ in 0..3 {
        let backend = Qcow2Backend::open(&path, false).unwrap();
        assert_eq!(backend.capacity() * 512, model.len() as u64);
        for _ in 0..60 {
            let (start, len) = range(&mut rng, model.len());
            let end = start + len;
            match below(&mut rng, 10) {
                0..5 => {
                    let byte = below(&mut rng, 256) as u8;
                    model[start..end].fill(byte);
                    write(&backend, start as u64, &mut vec![byte; len]);
                }
                5 => {
                    model[start..end].fill(0);
                    let unmap = below(&mut rng, 2) == 0;
                    backend
                        .write_zeroes(start as u64, len as u64, unmap)
                        .unwrap();
                }
                6 => match backend.discard(start as u64, len as u64) {
                    // It may be anything there.
                    Ok(()) => {
                        write(&backend, start as u64, &mut vec![0xd5; len]);
                        model[start..end].fill(0xd5);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
                        assert_eq!(backend.discard_granularity(), None);
                    }
                },
                7 => backend.flush().unwrap(),
                _ => assert!(read(&backend, start as u64, len) == model[start..end]),
            }
        }
        assert!(read(&backend, 0, model.len()) == model);
        drop(backend);
        fs::write(dir.path().join("model"), &*model).unwrap();
        qemu_img_says_ok(dir, &format!("check -q -f qcow2 {image}"));
        qemu_img_says_ok(dir, &format!("compare -q -f qcow2 -F raw {image} model"));
    }
}

const MIB: usize = 1 << 20;

#[test]
fn an_image_of_any_kind_holds_what_a_plain_array_does() {
    let kinds = [
        "cluster_size=4k",
        "cluster_size=512",
        "cluster_size=64k",
        "cluster_size=2M",
        "compat=0.10",
        "compat=0.10,cluster_size=4k",
        "refcount_bits=1,cluster_size=4k",
        "refcount_bits=4,cluster_size=1k",
        "refcount_bits=64,cluster_size=512",
        "lazy_refcounts=on",
        "preallocation=metadata",
        "preallocation=falloc,cluster_size=4k",
        "preallocation=full",
    ];
    for (seed, kind) in (0..).zip(kinds) {
        // Not of whole clusters.
        let size = 9 * MIB + 1536;
        let create = format!("create -q -f qcow2 -o {kind} image {size}");
        let Some(dir) = made(&[&create]) else {
            return;
        };
        println!("{kind}");
        compare_with_model(&dir, "image", &mut vec![0; size], seed);
    }
}

/// The images `base`, of the format of that name and 2 MiB, `middle` of 5 MiB and `top` of 7 MiB over
/// each other, and what is in `top`.
fn chain(base: &str, options: &str) -> Option<(TempDir, Vec<u8>)> {
    let dir = made(&[])?;
    let mut content: Vec<u8> = (0..2 * MIB).map(|at| (at / 512 * 7 + 1) as u8).collect();
    fs::write(dir.path().join("raw"), &content).unwrap();
    for command in [
        &format!("convert -f raw -O {base} raw base"),
        &format!("create -q -f qcow2 -F {base} -b base -o {options} middle 5M"),
    ] {
        let args: Vec<_> = command.split(' ').collect();
        assert!(qemu_img(&dir, &args)?.status.success(), "{command}");
    }
    content.resize(7 * MIB, 0);
    let backend = Qcow2Backend::open(&dir.path().join("middle"), false).unwrap();
    write(&backend, MIB as u64 - 512, &mut vec![0x33; 2 * MIB]);
    content[MIB - 512..][..2 * MIB].fill(0x33);
    drop(backend);
    qemu_img_says_ok(
        &dir,
        &format!("create -q -f qcow2 -F qcow2 -b middle -o {options} top 7M"),
    );
    Some((dir, content))
}

#[test]
fn what_is_not_in_an_image_is_in_those_behind_it_which_are_not_changed() {
    for (seed, base, options) in [
        (1, "raw", "cluster_size=64k"),
        (2, "qcow2", "cluster_size=4k"),
        (3, "qcow2", "compat=0.10,cluster_size=4k"),
    ] {
        let Some((dir, mut content)) = chain(base, options) else {
            return;
        };
        let behind = |name: &str| fs::read(dir.path().join(name)).unwrap();
        let before = [behind("base"), behind("middle")];
        compare_with_model(&dir, "top", &mut content, seed);
        assert!([behind("base"), behind("middle")] == before);
    }
}

#[test]
fn an_image_with_a_snapshot_keeps_it() {
    let Some(dir) = made(&["create -q -f qcow2 -o cluster_size=4k image 5M"]) else {
        return;
    };
    let mut content = vec![0; 5 * MIB];
    compare_with_model(&dir, "image", &mut content, 1);
    qemu_img_says_ok(&dir, "snapshot -q -c kept image");
    let kept = content.clone();
    compare_with_model(&dir, "image", &mut content, 2);
    qemu_img_says_ok(&dir, "snapshot -q -a kept image");
    fs::write(dir.path().join("model"), kept).unwrap();
    qemu_img_says_ok(&dir, "compare -q -f qcow2 -F raw image model");
}

#[test]
fn compressed_clusters_are_read_and_written_over() {
    let Some(dir) = made(&[]) else { return };
    let mut content: Vec<u8> = (0..3 * MIB).map(|at| (at / 4096) as u8).collect();
    fs::write(dir.path().join("raw"), &content).unwrap();
    if qemu_img(&dir, &["--version"]).is_none() {
        return;
    }
    qemu_img_says_ok(&dir, "convert -c -f raw -O qcow2 raw image");
    compare_with_model(&dir, "image", &mut content, 3);
}

#[test]
fn a_disk_that_grows_its_refcount_table_stays_sound() {
    let create = "create -q -f qcow2 -o cluster_size=512,refcount_bits=64 image 40M";
    let Some(dir) = made(&[create]) else { return };
    let mut content = vec![0; 40 * MIB];
    let backend = Qcow2Backend::open(&dir.path().join("image"), false).unwrap();
    for (index, piece) in content.chunks_mut(MIB).enumerate() {
        piece.fill(index as u8 + 1);
        write(&backend, (index * MIB) as u64, piece);
    }
    drop(backend);
    compare_with_model(&dir, "image", &mut content, 4);
}

#[test]
fn discarded_clusters_are_given_back_to_the_file_system() {
    use std::os::unix::fs::MetadataExt;
    let Some(dir) = made(&["create -q -f qcow2 image 16M"]) else {
        return;
    };
    let path = dir.path().join("image");
    let blocks = || fs::metadata(&path).unwrap().blocks();
    let backend = Qcow2Backend::open(&path, false).unwrap();
    write(&backend, 0, &mut vec![0x77; 16 * MIB]);
    backend.flush().unwrap();
    let full = blocks();
    backend.discard(0, 16 * MIB as u64).unwrap();
    backend.flush().unwrap();
    assert!(blocks() + 30_000 < full, "{} of {full} blocks", blocks());
    assert!(read(&backend, 0, 16 * MIB) == vec![0; 16 * MIB]);
}

#[test]
fn threads_that_use_an_image_at_once_each_find_what_they_wrote() {
    let Some(dir) = made(&["create -q -f qcow2 -o cluster_size=4k image 32M"]) else {
        return;
    };
    let backend = Qcow2Backend::open(&dir.path().join("image"), false).unwrap();
    thread::scope(|scope| {
        for index in 0..4_u64 {
            let backend = &backend;
            scope.spawn(move || {
                let mut rng = Rng::new(index);
                // Sectors in turn, so that they share clusters.
                let mut model = vec![0_u8; 8192];
                for _ in 0..1500 {
                    let own = below(&mut rng, 8192);
                    let position = (own * 4 + index) * 512;
                    match below(&mut rng, 8) {
                        0 => backend.flush().unwrap(),
                        1..4 => {
                            let byte = read(backend, position, 512);
                            assert_eq!(byte, vec![model[own as usize]; 512]);
                        }
                        _ => {
                            model[own as usize] = below(&mut rng, 256) as u8;
                            write(backend, position, &mut [model[own as usize]; 512]);
                        }
                    }
                }
            });
        }
    });
    drop(backend);
    qemu_img_says_ok(&dir, "check -q -f qcow2 image");
}

#[test]
fn a_read_only_image_is_not_changed() {
    let Some((dir, content)) = chain("qcow2", "cluster_size=64k") else {
        return;
    };
    let path = dir.path().join("top");
    let before = fs::read(&path).unwrap();
    let backend = Qcow2Backend::open(&path, true).unwrap();
    assert!(read(&backend, 0, content.len()) == content);
    backend.flush().unwrap();
    assert_eq!(backend.discard_granularity(), None);
    let mut sector = [1; 512];
    let slices = [VolatileSlice::from(&mut sector[..])];
    assert!(backend.write_at(&slices, 0).is_err());
    drop(backend);
    assert!(fs::read(&path).unwrap() == before);
}

#[track_caller]
fn refusal(path: &Path) -> String {
    let before = fs::read(path).ok();
    let read_only = Qcow2Backend::open(path, true).unwrap_err().to_string();
    assert_eq!(
        Qcow2Backend::open(path, false).unwrap_err().to_string(),
        read_only
    );
    assert_eq!(fs::read(path).ok(), before);
    read_only.replace(path.parent().unwrap().to_str().unwrap(), "DIR")
}

/// An image of 1 MiB with `bytes` at `position`.
fn changed(position: usize, bytes: &[u8]) -> Option<TempDir> {
    let dir = made(&["create -q -f qcow2 image 1M"])?;
    let path = dir.path().join("image");
    let mut image = fs::read(&path).unwrap();
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
        let error = Qcow2Backend::open(&image, read_only).unwrap_err();
        error
            .to_string()
            .replace(dir.path().to_str().unwrap(), "DIR")
    };
    assert_eq!([open(false), open(true)], [in_use, chain]);
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
    let header = Header::read(&File::open(&path).unwrap()).unwrap();
    let base = fs::read(dir.path().join("base")).unwrap();
    let entry = |table: u64| be64(&sound, table as usize) & 0x00ff_ffff_ffff_fe00;
    let tables = [
        0,
        header.l1.start,
        entry(header.l1.start),
        header.refcount_table.start,
        entry(header.refcount_table.start),
    ];
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
        let Ok(backend) = Qcow2Backend::open(&path, below(&mut rng, 4) == 0) else {
            continue;
        };
        opened += 1;
        use_somehow(&backend, &mut rng);
    }
    assert!(opened > 60, "{opened}");
    assert!(fs::read(dir.path().join("base")).unwrap() == base);
}

/// What is left of what was `done` to `image` when the power fails: all that was synced, and of the rest
/// some sectors, or where the process was killed and no more, all.
fn after_a_crash(image: &[u8], done: &[Done], mut is_kept: impl FnMut() -> bool) -> Vec<u8> {
    let mut after = image.to_vec();
    let synced = done.iter().rposition(|done| matches!(done, Done::Synced));
    for (index, done) in done.iter().enumerate() {
        let is_stable = synced.is_some_and(|synced| index < synced);
        let (position, bytes) = match done {
            Done::Synced => continue,
            Done::Wrote(position, bytes) => (*position as usize, bytes.clone()),
            Done::Cleared(position, len) => (*position as usize, vec![0; *len as usize]),
        };
        after.resize(after.len().max(position + bytes.len()), 0);
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + 512 - (position + at) % 512).min(bytes.len());
            if is_stable || is_kept() {
                after[position + at..position + end].copy_from_slice(&bytes[at..end]);
            }
            at = end;
        }
    }
    after
}

#[test]
fn an_image_is_sound_whenever_the_power_fails_and_has_what_was_flushed() {
    let kinds = [
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=512,refcount_bits=64",
        "cluster_size=1k,refcount_bits=2",
        "cluster_size=4k,compat=0.10",
    ];
    // More tables than imago keeps, where clusters are small.
    let size = 6 * MIB;
    for (seed, kind) in (0..).zip(kinds) {
        let create = format!("create -q -f qcow2 -o {kind} image {size}");
        let Some(dir) = made(&[&create]) else { return };
        let path = dir.path().join("image");
        let before = fs::read(&path).unwrap();
        let backend = Qcow2Backend::open(&path, false).unwrap();
        let mut rng = Rng::new(seed);
        let mut model = vec![0; size];
        let mut flushed = Vec::new();
        for _ in 0..150 {
            let (start, len) = range(&mut rng, size);
            match below(&mut rng, 8) {
                0 => {
                    backend.flush().unwrap();
                    let log = backend.synced.log.lock().unwrap();
                    flushed.push((log.len(), model.clone()));
                }
                1 => {
                    backend
                        .write_zeroes(start as u64, len as u64, true)
                        .unwrap();
                    model[start..start + len].fill(0);
                }
                _ => {
                    let byte = below(&mut rng, 256) as u8;
                    write(&backend, start as u64, &mut vec![byte; len]);
                    model[start..start + len].fill(byte);
                }
            }
        }
        let log = backend.synced.log.lock().unwrap().clone();
        drop(backend);
        for crash in 0..40 {
            let end = below(&mut rng, log.len() as u64 + 1) as usize;
            let chance = crash % 3;
            let is_kept = || chance == 0 || below(&mut rng, 3) < chance;
            fs::write(&path, after_a_crash(&before, &log[..end], is_kept)).unwrap();
            let output = qemu_img(&dir, &["check", "-f", "qcow2", "image"]).unwrap();
            // 3 is for nothing worse than leaks.
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 3)), "{kind}, {crash}: {output:?}");
        }
        for (end, model) in flushed {
            fs::write(&path, after_a_crash(&before, &log[..end], || false)).unwrap();
            fs::write(dir.path().join("model"), model).unwrap();
            qemu_img_says_ok(&dir, "check -q -f qcow2 image");
            qemu_img_says_ok(&dir, "compare -q -f qcow2 -F raw image model");
        }
    }
}
