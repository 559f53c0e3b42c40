use super::*;

fn parse(words: &str) -> Result<Address, AddressError> {
    Address::parse(OsStr::new(words))
}

#[test]
fn a_port_or_a_path_is_an_address() {
    assert_eq!(parse("tcp:0"), Ok(Address::Tcp(0)));
    assert_eq!(parse("tcp:65535"), Ok(Address::Tcp(65535)));
    assert_eq!(parse("unix:gdb"), Ok(Address::Unix("gdb".into())));
    assert_eq!(parse("unix:tcp:1"), Ok(Address::Unix("tcp:1".into())));
}

#[test]
fn anything_else_is_refused_with_the_reason() {
    for words in ["", "1234", "tcp", "TCP:1", "localhost:1"] {
        assert_eq!(parse(words), Err(AddressError::Kind), "{words}");
    }
    for words in ["tcp:", "tcp:+1", "tcp:-1", "tcp:65536", "tcp: 1", "tcp:0x1"] {
        assert_eq!(parse(words), Err(AddressError::Port), "{words}");
    }
    let not_utf8 = OsStr::from_bytes(b"tcp:\xff");
    assert_eq!(Address::parse(not_utf8), Err(AddressError::Port));
    assert_eq!(parse("unix:"), Err(AddressError::NoPath));
}

#[test]
fn a_chosen_port_is_that_of_the_address() {
    let listener = Listener::bind(&Address::Tcp(0)).unwrap();
    assert!(matches!(listener.address(), Address::Tcp(1..)));
    assert!(listener.accept().unwrap().is_none());
}

#[test]
fn a_path_is_there_as_long_as_the_socket_and_is_never_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let address = Address::Unix(path.clone());
    let listener = Listener::bind(&address).unwrap();
    let refusal = Listener::bind(&address).unwrap_err();
    assert_eq!(refusal.kind(), io::ErrorKind::AddrInUse);
    assert!(path.exists());
    drop(listener);
    assert!(!path.exists());
}
