//! The static probes (USDT) in the real binary as it runs: that gdb, which knows them by the same
//! notes as `bpftrace` and `perf`, stops at them and finds the arguments that
//! `docs/src/measuring.md` promises.

use std::process::Stdio;

use libtest_mimic::Trial;

use crate::guests::disk;
use crate::harness::{TIME_LIMIT, VMM, file, test};
use crate::needs::{Needs, tool};

pub fn tests() -> Vec<Trial> {
    vec![test(
        "probes_of_one_read_have_their_arguments",
        Needs::OwnKvmAndTool("gdb"),
        one_read,
    )]
}

/// Prints the arguments of each probe that is met, of the first exit alone.
const SCRIPT: &str = "\
set language c
set confirm off
set breakpoint pending on
handle SIG34 nostop noprint pass
tbreak -probe-stap vmm:exit
commands
silent
printf \"exit %d %d %#lx\\n\", $_probe_arg0, $_probe_arg1, $_probe_arg2
continue
end
break -probe-stap vmm:notify
commands
silent
printf \"notify %s %d %d\\n\", (char*)$_probe_arg0, $_probe_arg1, $_probe_arg2
continue
end
break -probe-stap vmm:submit
commands
silent
printf \"submit %s %d %d %d %d %d\\n\", (char*)$_probe_arg0, $_probe_arg1, $_probe_arg2, \
$_probe_arg3, $_probe_arg4, $_probe_arg5
continue
end
break -probe-stap vmm:complete
commands
silent
printf \"complete %s %d %d %d %d\\n\", (char*)$_probe_arg0, $_probe_arg1, $_probe_arg2, \
$_probe_arg3, $_probe_arg4
continue
end
break -probe-stap vmm:interrupt
commands
silent
printf \"interrupt %d\\n\", $_probe_arg0
continue
end
run
";

fn one_read() {
    let (_dir, image) = file("disk", &[0x5a; 1 << 20]);
    let (_script_dir, script) = file("script", SCRIPT.as_bytes());
    // gdb takes the VMM with it when it is ended.
    let mut gdb = tool("timeout");
    let limit = TIME_LIMIT.as_secs().to_string();
    let output = (gdb.args([&limit, "gdb", "-batch", "-nx", "-x"]).arg(script))
        .args(["--args", VMM, "--no-sandbox"])
        .args(["--cmdline", "run=read lba=8 count=8"])
        .args(["--disk", &disk(&image, "")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let probes = ["exit ", "notify ", "submit ", "complete ", "interrupt "];
    let met: Vec<&str> = (text.lines())
        .filter(|line| probes.iter().any(|probe| line.starts_with(probe)))
        .collect();
    assert_eq!(
        met,
        [
            // vCPU 0 writes to the interrupt enable register of COM1.
            "exit 0 1 0x3f9",
            "notify disk0 0 0",
            // Head 0, IN, sector 8, 4096 bytes.
            "submit disk0 0 0 0 8 4096",
            // Head 0, OK, used.len 4097.
            "complete disk0 0 0 0 4097",
            "interrupt 5",
        ],
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
