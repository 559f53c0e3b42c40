use std::cell::RefCell;
use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::vectored::Segments;
use super::tests::image;
use super::*;

/// What a call comes to: how many bytes of its first segment it moves at most, or its error.
type Outcome = Result<usize, libc::c_int>;

thread_local! {
    /// What the next calls of this thread come to.
    static SCRIPT: RefCell<VecDeque<Outcome>> = const { RefCell::new(VecDeque::new()) };
}

/// `call` as the script has it.
///
/// # Safety
/// As `call`, with at least one segment.
unsafe fn scripted(
    call: VectoredCall,
    file: libc::c_int,
    segments: *const libc::iovec,
    position: libc::off_t,
) -> libc::ssize_t {
    let next = SCRIPT.with_borrow_mut(VecDeque::pop_front);
    match next.expect("a call more than the script has") {
        Ok(most) => {
            // SAFETY: the caller gives at least one segment.
            let mut first = unsafe { *segments };
            first.iov_len = first.iov_len.min(most);
            // SAFETY: the caller's first segment, or a part of it.
            unsafe { call(file, &raw const first, 1, position) }
        }
        Err(error) => {
            // SAFETY: this is where the errno of this thread is.
            unsafe { *libc::__errno_location() = error };
            -1
        }
    }
}

unsafe extern "C" fn scripted_preadv(
    file: libc::c_int,
    segments: *const libc::iovec,
    _count: libc::c_int,
    position: libc::off_t,
) -> libc::ssize_t {
    // SAFETY: as of this function, which is called with at least one segment.
    unsafe { scripted(libc::preadv, file, segments, position) }
}

unsafe extern "C" fn scripted_pwritev(
    file: libc::c_int,
    segments: *const libc::iovec,
    _count: libc::c_int,
    position: libc::off_t,
) -> libc::ssize_t {
    // SAFETY: as of this function, which is called with at least one segment.
    unsafe { scripted(libc::pwritev, file, segments, position) }
}

/// Moves two buffers of 300 and 700 bytes from or to byte 12 of a file by `call`, which follows
/// `script`. Returns how that ended, the buffers and the file.
fn transfer_by(
    call: VectoredCall,
    script: &[Outcome],
) -> (Result<(), TransferError>, Vec<u8>, Vec<u8>) {
    let content: Vec<u8> = (0..1024).map(|i| (i % 251) as u8).collect();
    let (_dir, path) = image(&content);
    let disk = FileBackend::open(&path, false).unwrap();
    let mut buffers = vec![0xff; 1000];
    let (a, b) = buffers.split_at_mut(300);
    let slices = [VolatileSlice::from(a), VolatileSlice::from(b)];
    SCRIPT.set(script.iter().copied().collect());
    let ended = disk.transfer(call, &slices, 12, io::ErrorKind::Other);
    let left = SCRIPT.take();
    assert!(left.is_empty(), "not called: {left:?}");
    (ended, buffers, fs::read(&path).unwrap())
}

#[test]
fn a_transfer_goes_on_after_eintr_and_short_counts() {
    let script = [
        Err(libc::EINTR),
        Ok(1),
        Err(libc::EINTR),
        Err(libc::EINTR),
        Ok(298),
        Ok(300),
        Ok(512),
        Err(libc::EINTR),
        Ok(512),
    ];
    let (read, buffers, file) = transfer_by(scripted_preadv, &script);
    read.unwrap();
    assert_eq!(buffers, file[12..1012]);

    let (written, buffers, file) = transfer_by(scripted_pwritev, &script);
    written.unwrap();
    assert_eq!(buffers, [0xff; 1000]);
    assert_eq!(file[12..1012], buffers);
    assert_eq!((file[11], file[1012]), (11, (1012 % 251) as u8));
}

#[test]
fn enospc_and_eio_are_errors_that_say_how_many_bytes_have_been_moved() {
    for error in [libc::ENOSPC, libc::EIO] {
        let script = [Ok(300), Ok(200), Err(libc::EINTR), Err(error)];
        for (script, moved) in [(&script[..], 500), (&script[3..], 0)] {
            let (read, buffers, file) = transfer_by(scripted_preadv, script);
            let failure = read.unwrap_err();
            assert_eq!(failure.transferred, moved as u64);
            assert_eq!(failure.source.raw_os_error(), Some(error));
            assert_eq!(buffers[..moved], file[12..12 + moved]);
            assert!(buffers[moved..].iter().all(|byte| *byte == 0xff));

            let (written, _, file) = transfer_by(scripted_pwritev, script);
            let failure = written.unwrap_err();
            assert_eq!(failure.transferred, moved as u64);
            assert_eq!(failure.source.raw_os_error(), Some(error));
            assert!(file[12..12 + moved].iter().all(|byte| *byte == 0xff));
            assert_eq!(file[12 + moved], ((12 + moved) % 251) as u8);
        }
    }
}

#[test]
fn a_call_that_moves_nothing_ends_the_transfer() {
    let (read, _, _) = transfer_by(scripted_preadv, &[Ok(7), Ok(0)]);
    let failure = read.unwrap_err();
    assert_eq!(
        (failure.transferred, failure.source.kind()),
        (7, io::ErrorKind::Other)
    );
}

#[test]
fn a_transfer_of_nothing_succeeds() {
    let (_dir, path) = image(&[0; 512]);
    let disk = FileBackend::open(&path, false).unwrap();
    disk.read_at(&[], 512).unwrap();
    disk.write_at(&[], 0).unwrap();
}

/// One outcome of a call: mostly bytes that move, now and then a storm of EINTR, an error or the end.
fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let some = prop_oneof![
        6 => (1..400_usize).prop_map(|most| vec![Ok(most)]),
        2 => (1..50_usize).prop_map(|count| vec![Err(libc::EINTR); count]),
        1 => prop::sample::select(vec![libc::EIO, libc::ENOSPC]).prop_map(|error| vec![Err(error)]),
        1 => Just(vec![Ok(0)]),
    ];
    prop::collection::vec(some, 0..12).prop_map(|outcomes| outcomes.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_transfer_moves_what_the_host_moved_and_ends_at_the_first_failure(
        mut script in outcomes(),
    ) {
        // What the two buffers of 300 and 700 bytes come to by this script, and how much of it.
        let (mut moved, mut called, mut ended) = (0, 0, None);
        script.extend([Ok(1000); 2]);
        while moved < 1000 && ended.is_none() {
            match script[called] {
                Ok(0) => ended = Some(None),
                Ok(most) => moved += most.min(if moved < 300 { 300 } else { 1000 } - moved),
                Err(libc::EINTR) => (),
                Err(error) => ended = Some(Some(error)),
            }
            called += 1;
        }
        let script = &script[..called];
        for (call, writes) in
            [(scripted_preadv as VectoredCall, false), (scripted_pwritev as VectoredCall, true)]
        {
            let (result, buffers, file) = transfer_by(call, script);
            let failure = result.err();
            let found = failure.as_ref().map(|failure| failure.source.raw_os_error());
            prop_assert_eq!(found, ended);
            if let Some(failure) = failure {
                prop_assert_eq!(failure.transferred, moved as u64);
            }
            let (same, rest) = file[12..1012].split_at(moved);
            prop_assert_eq!(same, &buffers[..moved]);
            let untouched = |at: usize| ((12 + at) % 251) as u8;
            if writes {
                let expected: Vec<u8> = (moved..1000).map(untouched).collect();
                prop_assert_eq!(rest, &expected[..]);
            } else {
                prop_assert!(buffers[moved..].iter().all(|byte| *byte == 0xff));
            }
        }
    }

    #[test]
    fn a_transfer_goes_on_at_the_byte_where_it_was_cut(
        lengths in prop::collection::vec(0..9_usize, 0..20),
        skip in 0..200_usize,
    ) {
        let mut buffers: Vec<_> = lengths.iter().map(|len| vec![0_u8; *len]).collect();
        let bytes: Vec<usize> = buffers
            .iter()
            .flat_map(|buffer| buffer.iter().map(|byte| std::ptr::from_ref(byte) as usize))
            .collect();
        let slices: Vec<_> = buffers.iter_mut().map(|buffer| VolatileSlice::from(&mut buffer[..])).collect();
        let mut segments = Segments::default();
        let left: Vec<usize> = segments
            .after(skip as u64, &slices)
            .iter()
            .flat_map(|segment| (0..segment.iov_len).map(|i| segment.iov_base as usize + i))
            .collect();
        prop_assert_eq!(left, &bytes[skip.min(bytes.len())..]);
    }
}
