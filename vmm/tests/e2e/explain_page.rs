//! The page of `vmm explain` in a real browser: its script runs under its own policy, and shows one
//! step.

use std::path::Path;

use libtest_mimic::Trial;

use crate::harness::{Vmm, run, test};
use crate::needs::{Needs, tool};

pub fn tests() -> Vec<Trial> {
    vec![test(
        "a_browser_shows_the_step_that_the_address_names_and_no_other",
        Needs::OwnKvmAndTool("chromium"),
        a_browser_shows_the_step_that_the_address_names_and_no_other,
    )]
}

fn a_browser_shows_the_step_that_the_address_names_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let explained = run(["explain".as_ref(), "--html".as_ref(), page.as_os_str()]);
    assert_eq!(explained.code(), 0, "{explained:?}");
    for (address, shown) in [
        ("", "start"),
        ("#negotiation-2", "negotiation-2"),
        ("#read-3", "read-3"),
        ("#write-1", "write-1"),
        ("#no-such-step", "start"),
    ] {
        let document = document(dir.path(), &format!("file://{}{address}", page.display()));
        let current: Vec<&str> = document
            .split("<article ")
            .skip(1)
            .map(|article| article.split('>').next().unwrap())
            .filter(|tag| tag.contains("aria-current=\"step\""))
            .collect();
        let [tag] = current.as_slice() else {
            panic!("{address}: {current:?}");
        };
        assert!(tag.contains(&format!("id=\"{shown}\"")), "{address}: {tag}");
    }
}

/// What a browser has made of the page at `url`, as HTML.
fn document(profile: &Path, url: &str) -> String {
    let mut browser = tool("chromium");
    browser
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            profile.join("profile").display()
        ))
        .arg(url);
    let ended = Vmm::from_command(browser).spawn().wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    String::from_utf8(ended.stdout).unwrap()
}
