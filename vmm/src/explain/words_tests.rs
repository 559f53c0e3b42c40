use super::*;

#[test]
fn a_function_is_named_without_its_modules() {
    for (symbol, named) in [
        ("guest::machine::device::Device::write", "Device::write"),
        (
            "<guest::machine::device::Device as guest::virtio::transport::Transport>::write",
            "Device::write",
        ),
        ("guest::machine::cpu::halt_until", "halt_until"),
        ("interrupt", "interrupt"),
        ("", ""),
    ] {
        assert_eq!(short(symbol), named);
    }
}

#[test]
fn a_place_without_symbols_is_its_address() {
    let code = Code {
        rip: 0x10_24b6,
        ..Code::default()
    };
    assert_eq!(place(&code), "0x1024b6");
}

#[test]
fn times_are_in_microseconds_with_one_decimal() {
    assert_eq!(micros(0), "0.0");
    assert_eq!(micros(12_399), "12.3");
    assert_eq!(micros(99_999_999), "99999.9");
    assert_eq!(micros(100_000_000), "100000");
}
