//! Images that qemu-img has made, against a plain array of bytes, and what qemu-img says afterwards.

#![cfg(feature = "qcow2")]
#![allow(clippy::unwrap_used)]

#[path = "common/qcow2.rs"]
mod qcow2;

use std::fs;
use std::thread;

use devices::virtio::block::backend::BlockBackend;
use qcow2::*;
use spec::rng::Rng;
use vm_memory::VolatileSlice;

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
    let backend = open(&dir.path().join("image"), false).unwrap();
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
    let backend = open(&path, false).unwrap();
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
    let backend = open(&dir.path().join("image"), false).unwrap();
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
    let backend = open(&path, true).unwrap();
    assert!(read(&backend, 0, content.len()) == content);
    backend.flush().unwrap();
    assert_eq!(backend.discard_granularity(), None);
    let mut sector = [1; 512];
    let slices = [VolatileSlice::from(&mut sector[..])];
    assert!(backend.write_at(&slices, 0).is_err());
    drop(backend);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_bitmap_that_is_not_kept_up_is_not_taken_for_right() {
    let Some(dir) = made(&[
        "create -q -f qcow2 -o cluster_size=4k image 5M",
        "bitmap --add image changes",
    ]) else {
        return;
    };
    let path = dir.path().join("image");
    let autoclear = || be64(&fs::read(&path).unwrap(), 88);
    assert_eq!(autoclear(), 1);
    let backend = open(&path, false).unwrap();
    write(&backend, 0, &mut vec![0x77; MIB]);
    drop(backend);
    assert_eq!(autoclear(), 0);
    let output = qemu_img(&dir, &["check", "-f", "qcow2", "image"]).unwrap();
    // Nothing worse than that its clusters are leaked.
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn what_a_header_says_of_features_that_are_not_known_is_cleared_and_nothing_else() {
    let Some((dir, path, mut image)) =
        made_image(&["create -q -f qcow2 -o cluster_size=64k image 5M"])
    else {
        return;
    };
    let header = image[..65536].to_vec();
    image[88..96].copy_from_slice(&(1_u64 << 40).to_be_bytes());
    fs::write(&path, &image).unwrap();
    let backend = open(&path, false).unwrap();
    write(&backend, 0, &mut vec![0x77; MIB]);
    drop(backend);
    assert!(fs::read(&path).unwrap()[..65536] == header);
    qemu_img_says_ok(&dir, "check -q -f qcow2 image");
}

#[test]
fn where_a_table_was_that_has_been_made_anew_data_can_be() {
    let Some((_dir, path, mut image)) = made_image(&[
        "create -q -f qcow2 -o cluster_size=4k image 5M",
        "bench -w -q -c 1 -f qcow2 image",
    ]) else {
        return;
    };
    let l1 = be64(&image, 40) as usize;
    // It is nobody else's, and the image does not say so.
    image[l1] &= 0x7f;
    fs::write(&path, &image).unwrap();
    let backend = open(&path, false).unwrap();
    for cluster in 1..20 {
        write(&backend, cluster * 4096, &mut [0x77; 512]);
    }
    backend.flush().unwrap();
}
