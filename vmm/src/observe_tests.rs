use kvm_ioctls::Error;

use super::*;

#[test]
fn the_data_of_an_exit_is_what_it_moves_in_either_direction() {
    for (exit, expected) in [
        (VcpuExit::MmioWrite(9, &[1, 2, 0, 0]), (4, 0x0201)),
        (VcpuExit::MmioRead(9, &mut [0xff; 8]), (8, u64::MAX)),
        (
            VcpuExit::IoOut(0x3f8, &[b'a'; 9]),
            (9, 0x6161_6161_6161_6161),
        ),
        (VcpuExit::IoIn(0x3fd, &mut [0x60]), (1, 0x60)),
        (VcpuExit::Hlt, (0, 0)),
    ] {
        assert_eq!(data(&Ok(exit)), expected);
    }
    assert_eq!(data(&Err(Error::new(libc::EINTR))), (0, 0));
}
