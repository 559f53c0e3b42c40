use super::*;

#[test]
fn ram_up_to_the_last_address_that_a_cpu_has_bits_for_is_taken_and_none_beyond() {
    for bits in [36, 39, 52] {
        check_address_bits((1 << bits) - 1, bits).unwrap();
        let error = check_address_bits(1 << bits, bits).unwrap_err().to_string();
        assert!(
            error.contains(&format!("the {bits} address bits")),
            "{error}"
        );
    }
    check_address_bits(u64::MAX, 64).unwrap();
}
