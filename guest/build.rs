//! Tells the linker how the image is laid out. Only the `image` feature needs it; how the code
//! is compiled is decided by who builds the image (`vmm/build.rs`).

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=image.ld");
    if env::var_os("CARGO_FEATURE_IMAGE").is_none() {
        return;
    }
    let script = format!("{}/image.ld", env!("CARGO_MANIFEST_DIR"));
    let bare_metal = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    let arguments = if bare_metal {
        // The linker itself.
        vec![format!("-T{script}"), "--build-id=none".into()]
    } else {
        // A C compiler that calls the linker.
        vec![
            "-nostdlib".into(),
            "-nostartfiles".into(),
            "-static".into(),
            "-no-pie".into(),
            format!("-Wl,-T,{script}"),
            "-Wl,--build-id=none".into(),
        ]
    };
    for argument in arguments {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
