use super::*;

#[test]
fn a_kvm_without_read_only_memory_or_coalesced_writes_is_refused_in_a_line_that_names_what_it_lacks()
 {
    assert_eq!(lacking(|_| true), None);
    for (cap, name) in REQUIRED {
        assert_eq!(lacking(|asked| asked as u32 != cap as u32), Some(name));
    }
    assert_eq!(
        KvmError::Registers("KVM_CAP_READONLY_MEM").to_string(),
        "--disk: the host's KVM lacks KVM_CAP_READONLY_MEM, without which there is no \
         registers=mapped"
    );
}
