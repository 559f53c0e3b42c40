//! Builds the guest image with a cargo of its own, checks it, and leaves it where `vmm` can
//! include it. How the guest is laid out in memory is not decided here: that is `guest/image.ld`.
//! The filters of system calls are compiled here, too.

#[path = "build/image.rs"]
mod image;
#[path = "build/seccomp/mod.rs"]
mod seccomp;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The target for bare metal, used where it is installed.
const BARE_METAL: &str = "x86_64-unknown-none";
/// The target that every toolchain for this host has. Its `core` is compiled with SSE, but fat
/// LTO (the profile `image`) generates it anew, with the features below.
const FALLBACK: &str = "x86_64-unknown-linux-gnu";

/// Compiler flags for either target: a fixed address, and no red zone in what is compiled here.
/// The functions of `core` were compiled before, and keep that of the fallback target: the guest
/// handles its interrupts on a stack of their own. The code model stays the target's own, too.
const FLAGS: &[&str] = &["-Crelocation-model=static", "-Cno-redzone=yes"];
/// Compiler flags for the fallback target: what the bare-metal one has by definition.
const FALLBACK_FLAGS: &[&str] = &[
    "-Ctarget-feature=-mmx,-sse,-sse2,-sse3,-ssse3,-sse4.1,-sse4.2,-avx,-avx2,-fxsr",
    "-Cforce-unwind-tables=no",
];

/// What the outer cargo, clippy or a coverage tool set for the vmm and must not reach the guest.
/// A name that ends in `_` stands for all that begin with it.
const NOT_INHERITED: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_INCREMENTAL",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "DEBUG",
    "HOST",
    "LLVM_PROFILE_FILE",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "TARGET",
];

fn main() -> ExitCode {
    let built = compile_filters()
        .map_err(|error| format!("the system call filters were not built: {error}"))
        .and_then(|()| {
            build_guest().map_err(|error| format!("the guest image was not built: {error}"))
        });
    match built {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the workspace is.
fn workspace() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or_else(|| "the vmm crate is not in a workspace".into())
}

fn compile_filters() -> Result<()> {
    let path = workspace()?.join("resources/seccomp/threads.list");
    println!("cargo::rerun-if-changed={}", path.display());
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let list = fs::read_to_string(&path).map_err(|error| at(&error))?;
    let source = seccomp::source(&list).map_err(|error| at(&error))?;
    let generated = PathBuf::from(env::var("OUT_DIR")?).join("seccomp.rs");
    write(&generated, source.as_bytes())?;
    println!("cargo::rustc-env=SECCOMP_RS={}", generated.display());
    Ok(())
}

fn build_guest() -> Result<()> {
    let begin = SystemTime::now();
    let workspace = workspace()?;
    for path in [
        "guest",
        "devices/spec",
        "Cargo.toml",
        "Cargo.lock",
        "vmm/build.rs",
        "vmm/build",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let target_dir = target_dir(&out_dir)?;

    let file = fs::read(compile(workspace, &target_dir.join("guest-build"))?)?;
    image::check(&file).map_err(|error| error.to_string())?;
    let flat = image::flat(&file).map_err(|error| error.to_string())?;

    let kept = target_dir.join("guest");
    fs::create_dir_all(&kept)?;
    for (name, contents) in [("guest.elf", &file), ("guest.bin", &flat)] {
        let path = kept.join(name);
        write(&path, contents)?;
        // Made again if it is removed; dated before the build began, or cargo would take it for
        // a change each time.
        fs::File::open(&path)?.set_modified(begin - Duration::from_secs(2))?;
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let included = out_dir.join("guest.bin");
    write(&included, &flat)?;
    println!("cargo::rustc-env=GUEST_BIN={}", included.display());
    let symbols = out_dir.join("guest.symbols");
    let functions = image::functions(&file).map_err(|error| error.to_string())?;
    write(&symbols, functions.as_bytes())?;
    println!("cargo::rustc-env=GUEST_SYMBOLS={}", symbols.display());
    // For the tests, which boot it in every other way.
    let elf = out_dir.join("guest.elf");
    write(&elf, &file)?;
    println!("cargo::rustc-env=GUEST_ELF={}", elf.display());
    Ok(())
}

/// The directory that the outer cargo builds into, where it keeps what it knows of rustc. `OUT_DIR`
/// is `<target>/[<triple>/]<profile>/build/<package>/out`.
fn target_dir(out_dir: &Path) -> Result<PathBuf> {
    let mut candidates = out_dir.ancestors().skip(4).take(2);
    candidates
        .clone()
        .find(|dir| dir.join(".rustc_info.json").exists())
        .or_else(|| candidates.next())
        .map(Path::to_owned)
        .ok_or_else(|| format!("no target directory above {}", out_dir.display()).into())
}

/// Compiles and links the guest; returns where the ELF file is.
fn compile(workspace: &Path, target_dir: &Path) -> Result<PathBuf> {
    let bare_metal = is_installed(BARE_METAL)?;
    let (target, more_flags) = if bare_metal {
        (BARE_METAL, &[][..])
    } else {
        (FALLBACK, FALLBACK_FLAGS)
    };
    let flags = [FLAGS, more_flags].concat().join("\x1f");

    let mut cargo = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
    cargo
        .args(["build", "--locked", "--quiet", "--profile", "image"])
        .args([
            "--package",
            "guest",
            "--features",
            "image",
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(workspace);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_not_inherited) {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);

    // Shown only if it fails: rustc warns that -sse changes the ABI of the fallback target, which
    // matters to nobody as the image has no foreign code.
    let output = cargo
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo build for {target}: {}\n{messages}", output.status).into());
    }
    Ok(target_dir.join(target).join("image").join("guest"))
}

fn is_not_inherited(name: &str) -> bool {
    NOT_INHERITED.iter().any(|&entry| {
        if entry.ends_with('_') {
            name.starts_with(entry)
        } else {
            name == entry
        }
    })
}

/// Whether the toolchain has a standard library for `target`.
fn is_installed(target: &str) -> Result<bool> {
    let rustc = env::var_os("RUSTC").ok_or("RUSTC is not set")?;
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    let dir = String::from_utf8(output.stdout)?;
    Ok(output.status.success() && Path::new(dir.trim()).is_dir())
}

/// Writes a file that others may be reading: whole, or not at all.
fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    fs::write(&temporary, contents)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}
