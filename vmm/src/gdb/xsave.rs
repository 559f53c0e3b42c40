//! The x87 and SSE registers in KVM's XSAVE area: its first 512 bytes are as FXSAVE has them in 64-bit
//! mode. KVM_GET_FPU and KVM_SET_FPU would be simpler, but know nothing of MXCSR, nor of what of the
//! area is in use.

use kvm_bindings::{kvm_fpu, kvm_xsave};

// Where things are, in 32-bit words.
const CONTROL_AND_STATUS: usize = 0;
const TAGS_AND_OPCODE: usize = 1;
const INSTRUCTION: usize = 2;
const OPERAND: usize = 4;
const MXCSR: usize = 6;
/// ST0 to ST7, four words each.
const ST: usize = 8;
/// XMM0 to XMM15, four words each.
const XMM: usize = 40;
/// Which parts of the area hold something, by a bit each.
const PARTS: usize = 128;
/// The parts that are here: x87, SSE.
const X87_AND_SSE: u32 = 0b11;

/// The registers in `area`.
pub fn read(area: &kvm_xsave) -> kvm_fpu {
    let word = |index| area.region.get(index).copied().unwrap_or_default();
    let low = |index| word(index) as u16;
    let high = |index| (word(index) >> 16) as u16;
    let long = |index| u64::from(word(index)) | u64::from(word(index + 1)) << 32;
    let register = |index| u128::from(long(index)) | u128::from(long(index + 2)) << 64;
    kvm_fpu {
        fpr: std::array::from_fn(|index| register(ST + 4 * index).to_le_bytes()),
        fcw: low(CONTROL_AND_STATUS),
        fsw: high(CONTROL_AND_STATUS),
        ftwx: word(TAGS_AND_OPCODE) as u8,
        last_opcode: high(TAGS_AND_OPCODE),
        last_ip: long(INSTRUCTION),
        last_dp: long(OPERAND),
        xmm: std::array::from_fn(|index| register(XMM + 4 * index).to_le_bytes()),
        mxcsr: word(MXCSR),
        ..Default::default()
    }
}

/// Puts the registers `fpu` into `area`.
pub fn write(fpu: &kvm_fpu, area: &mut kvm_xsave) {
    let mut set = |index: usize, words: &[u32]| {
        for (place, word) in area.region.iter_mut().skip(index).zip(words) {
            *place = *word;
        }
    };
    let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    let long = |value: u64| [value as u32, (value >> 32) as u32];
    set(CONTROL_AND_STATUS, &[pair(fpu.fcw, fpu.fsw)]);
    set(TAGS_AND_OPCODE, &[pair(fpu.ftwx.into(), fpu.last_opcode)]);
    set(INSTRUCTION, &long(fpu.last_ip));
    set(OPERAND, &long(fpu.last_dp));
    set(MXCSR, &[fpu.mxcsr]);
    let registers =
        (fpu.fpr.iter().zip((ST..).step_by(4))).chain(fpu.xmm.iter().zip((XMM..).step_by(4)));
    for (register, index) in registers {
        let (words, _) = register.as_chunks();
        for (word, offset) in words.iter().zip(0..) {
            set(index + offset, &[u32::from_le_bytes(*word)]);
        }
    }
    if let Some(parts) = area.region.get_mut(PARTS) {
        *parts |= X87_AND_SSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_of_the_area_stays() {
        let fpu = kvm_fpu {
            fpr: std::array::from_fn(|index| [index as u8 + 1; 16]),
            fcw: 0x1234,
            fsw: 0x5678,
            ftwx: 0x9a,
            last_opcode: 0xbcde,
            last_ip: 0x1122_3344_5566_7788,
            last_dp: 0x99aa_bbcc_ddee_ff00,
            xmm: std::array::from_fn(|index| [index as u8 + 0x81; 16]),
            mxcsr: 0x1f80,
            ..Default::default()
        };
        let mut area = kvm_xsave::default();
        area.region[7] = 0xffff;
        area.region[PARTS] = 1 << 2;
        area.region[144] = 7;
        write(&fpu, &mut area);
        assert_eq!(read(&area), fpu);
        assert_eq!(
            [area.region[7], area.region[PARTS], area.region[144]],
            [0xffff, 0b111, 7]
        );
        // By its offset in bytes: XMM15 is the last, at 400.
        assert_eq!(area.region[400 / 4..416 / 4], [0x9090_9090; 4]);
        assert_eq!(area.region[104], 0);
    }
}
