//! Makes bzImages for tests: a good one by default, and each field open to be spoilt.

use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

/// A bzImage to be.
pub struct TestBzImage {
    pub header: setup_header,
    /// What follows the setup sectors.
    pub kernel: Vec<u8>,
}

impl Default for TestBzImage {
    /// A kernel of 1 KiB, whose bytes count up, that wants to be at 1 MiB and needs 1 MiB.
    fn default() -> Self {
        let kernel: Vec<u8> = (0..=255).cycle().take(1024).collect();
        Self {
            header: setup_header {
                setup_sects: 1,
                syssize: kernel.len() as u32 / 16,
                boot_flag: 0xaa55,
                // A short jump, to the end of the header.
                jump: u16::from_le_bytes([0xeb, 0x6a]),
                header: u32::from_le_bytes(*b"HdrS"),
                version: 0x020f,
                loadflags: 1,
                initrd_addr_max: 0x7fff_ffff,
                kernel_alignment: 0x20_0000,
                relocatable_kernel: 1,
                xloadflags: 1,
                cmdline_size: 2047,
                pref_address: 0x10_0000,
                init_size: 0x10_0000,
                ..Default::default()
            },
            kernel,
        }
    }
}

impl TestBzImage {
    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let sectors = match self.header.setup_sects {
            0 => 4,
            sectors => sectors,
        };
        let mut out = vec![0; 0x1f1];
        out.extend(self.header.as_slice());
        out.resize((usize::from(sectors) + 1) * 512, 0xee);
        out.extend(&self.kernel);
        out
    }
}
