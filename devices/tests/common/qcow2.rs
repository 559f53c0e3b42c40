//! Images that qemu-img makes, and what it says of them afterwards. Nothing is promised here.

// Each test program uses a part of this.
#![allow(clippy::unwrap_used, dead_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError};

use devices::virtio::block::backend::{BlockBackend, FileBackendError, Qcow2Backend, Recorder};
use spec::rng::Rng;
use tempfile::TempDir;
use vm_memory::VolatileSlice;

pub const MIB: usize = 1 << 20;

/// Held to run a program, and to open an image: until its exec is over, which is after it has been
/// started, a child has all the files that are open, with their locks.
static FILES: Mutex<()> = Mutex::new(());

/// Opens an image when no program is being started.
pub fn open(path: &Path, read_only: bool) -> Result<Qcow2Backend, FileBackendError> {
    let _opening = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    Qcow2Backend::open(path, read_only)
}

/// The same, to be written, with a `recorder`.
pub fn open_recorded(
    path: &Path,
    recorder: Arc<dyn Recorder>,
) -> Result<Qcow2Backend, FileBackendError> {
    let _opening = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    Qcow2Backend::open_recorded(path, recorder)
}

/// What qemu-img has to say; `None`, and a word about it, where there is no such program.
pub fn qemu_img(dir: &TempDir, args: &[&str]) -> Option<Output> {
    let mut command = Command::new("qemu-img");
    command.args(args).current_dir(dir);
    let _running = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("skipped: there is no qemu-img");
            None
        }
        output => Some(output.unwrap()),
    }
}

/// A directory in which qemu-img has done these things, `None` where there is no such program.
pub fn made(commands: &[&str]) -> Option<TempDir> {
    let dir = TempDir::new().unwrap();
    for command in commands {
        let args: Vec<_> = command.split(' ').collect();
        let output = qemu_img(&dir, &args)?;
        assert!(output.status.success(), "{command}: {output:?}");
    }
    Some(dir)
}

/// The same, the path of the `image` that is in it by then, and the bytes of that.
pub fn made_image(commands: &[&str]) -> Option<(TempDir, PathBuf, Vec<u8>)> {
    let dir = made(commands)?;
    let path = dir.path().join("image");
    let bytes = fs::read(&path).unwrap();
    Some((dir, path, bytes))
}

#[track_caller]
pub fn qemu_img_says_ok(dir: &TempDir, command: &str) {
    let args: Vec<_> = command.split(' ').collect();
    let output = qemu_img(dir, &args).unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

pub fn write(backend: &Qcow2Backend, position: u64, bytes: &mut [u8]) {
    // In two pieces, of an odd length where it can be.
    let (one, two) = bytes.split_at_mut(bytes.len() / 3);
    let slices = [VolatileSlice::from(one), VolatileSlice::from(two)];
    backend.write_at(&slices, position).unwrap();
}

pub fn read(backend: &Qcow2Backend, position: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let (one, two) = bytes.split_at_mut(len / 3);
    let slices = [VolatileSlice::from(one), VolatileSlice::from(two)];
    backend.read_at(&slices, position).unwrap();
    bytes
}

/// One of the first `limit` numbers.
pub fn below(rng: &mut Rng, limit: u64) -> u64 {
    rng.next() % limit
}

/// A range of whole sectors, mostly short.
pub fn range(rng: &mut Rng, size: usize) -> (usize, usize) {
    let sectors = size as u64 / 512;
    let max = [1, 8, 64, 512, 4096][below(rng, 5) as usize].min(sectors);
    let len = 1 + below(rng, max);
    let start = below(rng, sectors - len + 1);
    (start as usize * 512, len as usize * 512)
}

/// Changes the disk `image` and the array `model` at random, and has them compared, by this device and
/// by QEMU, and the image checked.
pub fn compare_with_model(dir: &TempDir, image: &str, model: &mut [u8], seed: u64) {
    let mut rng = Rng::new(seed);
    let path = dir.path().join(image);
    for _ in 0..3 {
        let backend = open(&path, false).unwrap();
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

/// The images `base`, of the format of that name and 2 MiB, `middle` of 5 MiB and `top` of 7 MiB over
/// each other, and what is in `top`.
pub fn chain(base: &str, options: &str) -> Option<(TempDir, Vec<u8>)> {
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
    let backend = open(&dir.path().join("middle"), false).unwrap();
    write(&backend, MIB as u64 - 512, &mut vec![0x33; 2 * MIB]);
    content[MIB - 512..][..2 * MIB].fill(0x33);
    drop(backend);
    qemu_img_says_ok(
        &dir,
        &format!("create -q -f qcow2 -F qcow2 -b middle -o {options} top 7M"),
    );
    Some((dir, content))
}

/// The big-endian number at `at`.
pub fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..][..8].try_into().unwrap())
}
