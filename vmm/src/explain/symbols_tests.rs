use super::*;

fn elf() -> Vec<u8> {
    fs::read(env!("GUEST_ELF")).unwrap()
}

#[test]
fn the_built_in_functions_are_those_of_the_elf_file() {
    let (built_in, file) = (Symbols::built_in(), Symbols::of_elf(&elf()).unwrap());
    assert_eq!(built_in.0, file.0);
    assert!(built_in.0.len() > 200);
}

#[test]
fn a_place_has_the_name_of_its_function_and_how_far_into_it_it_is() {
    let symbols = Symbols::built_in();
    let interrupt = symbols
        .0
        .iter()
        .find(|symbol| symbol.name == "interrupt")
        .unwrap();
    let code = symbols.code(interrupt.address + 3, None);
    assert_eq!(
        (code.symbol.as_deref(), code.offset),
        (Some("interrupt"), 3)
    );
    let notify = symbols
        .0
        .iter()
        .map(|symbol| symbols.code(symbol.address, None))
        .find(|code| {
            code.symbol
                .as_ref()
                .is_some_and(|name| name.ends_with("Transport::notify"))
        });
    let name = notify.and_then(|code| code.symbol).unwrap();
    assert_eq!(name, "guest::virtio::transport::Transport::notify");
}

#[test]
fn a_label_reaches_to_the_next_symbol_and_a_function_to_its_end() {
    let symbol = |address, size, name: &str| Symbol {
        address,
        size,
        name: name.into(),
    };
    let symbols = Symbols::sorted(
        [
            symbol(0x300, 0, "last"),
            symbol(0x100, 0, "label"),
            symbol(0x200, 0x10, "function"),
            symbol(0x200, 0, "alias"),
        ]
        .into_iter(),
    );
    let name = |rip| symbols.code(rip, None).symbol;
    assert_eq!(name(0xff), None);
    assert_eq!(name(0x1ff).as_deref(), Some("label"));
    assert_eq!(name(0x20f).as_deref(), Some("function"));
    assert_eq!(name(0x210), None);
    assert_eq!(name(0x300), None, "nobody knows where it ends");
    assert_eq!(symbols.code(0x210, None).rip, 0x210);
}

#[test]
fn a_file_without_symbols_has_none() {
    for path in ["/dev/null", "/none"] {
        assert!(Symbols::of_file(Path::new(path)).is_empty(), "{path}");
    }
    assert!(Symbols::of_elf(&elf()[..100]).is_none());
    assert!(Symbols::of_elf(b"\x7fELF").is_none());
}
