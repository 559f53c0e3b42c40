//! The guide in `docs/`: that its commands print what it shows, and that its links lead somewhere. A
//! block that cannot be run says why.

mod book;
mod output;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Completion, Trial};
use regex::Regex;
use tempfile::TempDir;

use crate::guests::GUEST_ELF;
use crate::harness::{VMM, Vmm, is_shortfall};
use crate::needs::Needs;
use book::{Block, Link, Page, SOURCES, Step, pages};
use output::agree;

/// How many chapters the guide has at most.
const MOST_CHAPTERS: usize = 10;
const QEMU: &str = "qemu-system-x86_64";
/// What separates the output of one command from that of the next: no text has it.
const SEPARATOR: char = '\u{1e}';
/// How long the commands of a block may take, in seconds.
const LIMIT: &str = "100";
/// How often a block is tried whose output depends on how threads meet.
const TRIES: usize = 5;

pub fn tests() -> Vec<Trial> {
    let test = |name, body: fn()| crate::harness::test(name, Needs::Nothing, body);
    let mut tests = vec![
        test(
            "guide_output_is_compared_by_words_and_not_by_numbers",
            comparison,
        ),
        test("guide_blocks_are_commands_with_what_they_print", parsing),
        test(
            "guide_summary_has_every_page_and_at_most_ten_chapters",
            summary,
        ),
        test(
            "guide_chapters_have_a_command_links_and_an_exercise",
            chapters,
        ),
        test("guide_links_lead_to_what_they_name", links),
        test("guide_diagrams_are_xml_and_told_in_words", diagrams),
        test("guide_commands_are_all_run_or_say_why_not", all_are_run),
    ];
    for page in pages() {
        let commands = page.blocks.into_iter().filter(|block| block.is("console"));
        let name = page.path.file_stem().unwrap().to_str().unwrap();
        tests.extend((1..).zip(commands).map(|(number, block)| {
            let name = format!("guide_{name}_block_{number}_prints_what_is_shown");
            Trial::ignorable_test(name, move || match reason_not_to_run(&block) {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => {
                    run(&block);
                    Ok(Completion::Completed)
                }
            })
        }));
    }
    tests
}

/// Why the commands of `block` are not run here, if they are not.
fn reason_not_to_run(block: &Block) -> Option<String> {
    let optional = [
        ("vmm bench", cfg!(feature = "bench")),
        ("vmm explain", cfg!(feature = "explain")),
    ];
    let missing = optional
        .iter()
        .find(|(command, built)| !built && block.text.contains(command));
    if let Some((command, _)) = missing {
        Some(format!("this program is built without '{command}'"))
    } else if block.is("not-run") {
        block
            .comment
            .as_deref()
            .map(|comment| comment.trim().to_owned())
    } else if block.is("needs-gdb") {
        Needs::OwnKvm.missing().or_else(no_debugger)
    } else if block.is("needs-qemu") {
        Needs::OwnKvm
            .missing()
            .or_else(|| Needs::Tool(QEMU).missing())
    } else {
        Needs::OwnKvm.missing()
    }
}

#[cfg(feature = "gdb")]
fn no_debugger() -> Option<String> {
    crate::gdb::BREAKPOINTS.missing()
}

#[cfg(not(feature = "gdb"))]
fn no_debugger() -> Option<String> {
    Some("this program is built without gdb".into())
}

/// Runs the commands of `block` as its reader does: one after the other in `target/`, with a disk
/// that is as new. What depends on how threads meet may take some tries.
fn run(block: &Block) {
    let tries = if block.is("varies") { TRIES } else { 1 };
    let mut failures = (0..tries).map_while(|_| try_run(block).err());
    if let Some(failure) = failures.nth(tries - 1) {
        panic!("{failure}");
    }
}

fn try_run(block: &Block) -> Result<(), String> {
    let (_dir, target) = reader_target();
    let steps = block.steps();
    let mut script = String::from("exec 2>&1\n");
    for Step { command, .. } in &steps {
        script.push_str(&format!("{command}\nprintf '{SEPARATOR}'\n"));
    }
    let mut shell = Command::new("timeout");
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = Path::new(VMM).parent().unwrap();
    shell
        .args([LIMIT, "sh", "-c", &script])
        .current_dir(&target)
        .env("PATH", format!("{}:{path}", programs.display()));
    let ended = Vmm::from_command(shell).spawn().wait();
    let text = String::from_utf8(ended.stdout).unwrap();
    let mut outputs = text.split(SEPARATOR);
    for Step { command, output } in &steps {
        let printed = outputs.next().unwrap_or_default().lines();
        let printed: Vec<String> = printed
            .filter(|line| !is_shortfall(line))
            .map(str::to_owned)
            .collect();
        if !agree(output, &printed) {
            let (shown, printed) = (output.join("\n"), printed.join("\n"));
            return Err(format!(
                "$ {command}\n--- is shown to print:\n{shown}\n--- and prints:\n{printed}\n---"
            ));
        }
    }
    match outputs.next() {
        Some("") => Ok(()),
        _ => Err(format!("not all has ended in {LIMIT} s: {script}")),
    }
}

/// A directory as `target/` of the reader's clone is when the first chapter has been followed.
fn reader_target() -> (TempDir, std::path::PathBuf) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for part in ["docs", "resources"] {
        symlink(project.join(part), dir.path().join(part)).unwrap();
    }
    let target = dir.path().join("target");
    fs::create_dir_all(target.join("guest")).unwrap();
    symlink(GUEST_ELF, target.join("guest/guest.elf")).unwrap();
    fs::write(target.join("scratch.img"), [0; 64 << 10]).unwrap();
    let mut maker = Command::new(project.join("resources/make-sample-disk"));
    let made = maker.arg(target.join("disk.img")).status().unwrap();
    assert!(made.success());
    (dir, target)
}

fn comparison() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let same = |shown: &str, printed: &str| agree(&lines(shown), &lines(printed));
    let shown = "  exits 1,790  91.0%\n  p50 547 ns at 0xd0000050\n  insn_emulation 5";
    assert!(same(shown, shown));
    assert!(same(
        shown,
        "exits  12  100%\np50 1.25 us at 0x70\ninsn_emulation -7\n\n"
    ));
    assert!(!same(shown, &shown.replace("exits", "entries")));
    assert!(!same(
        shown,
        &shown.replace("insn_emulation", "insn_emulation_fail")
    ));
    assert!(!same(shown, &format!("{shown}\nmore")));
    assert!(!same(shown, "exits 1 2%"));
    // Columns that touch where figures are long.
    assert!(same("kvm 9.5 +0.5 us", "kvm12280.5+12280.5 us"));
    // A word with a number in it is a word.
    assert!(!same("vcpu0 ran", "vcpu1 ran"));
    // What is left out may be there, and nothing but that.
    let part = "a 1\n...\nb\n  ...\nc";
    assert!(same(part, "a 2\nb\nx\ny\nc"));
    assert!(same(part, "a 3\nx\nb\nc"));
    assert!(!same(part, "a 3\nx\nc\nb"));
    assert!(!same(part, "x\na 1\nb\nc"));
    assert!(!same(part, "a 1\nb\nc\nx"));
    assert!(same("...\nc", "a\nb\nc"));
    assert!(same("", "\n"));
    assert!(!same("", "vmm: an error"));
}

fn parsing() {
    let page = Page::parse(
        "# A `b`\n\n<!-- why -->\n```console,not-run\n$ one \\\n  more\nprinted\n\n$ two\n```\n\n\
         see [`A::f`](a.rs) and ![words](p.svg)\n\n```text\n```\n",
    );
    assert_eq!(page.headings, ["A b"]);
    let [block, text] = &page.blocks[..] else {
        panic!("{page:?}");
    };
    assert!(block.is("console") && block.is("not-run") && text.is("text"));
    assert_eq!(block.comment.as_deref(), Some("<!-- why -->\n"));
    assert_eq!(text.comment, None);
    let step = |command: &str, output: &[&str]| Step {
        command: command.into(),
        output: output.iter().map(|&line| line.to_owned()).collect(),
    };
    let steps = [step("one \\\n  more", &["printed", ""]), step("two", &[])];
    assert_eq!(block.steps(), steps);
    let [link, image] = &page.links[..] else {
        panic!("{page:?}");
    };
    assert!(link.code && !link.image && (&*link.target, &*link.text) == ("a.rs", "A::f"));
    assert!(image.image && (&*image.target, &*image.text) == ("p.svg", "words"));
}

/// The chapters in the order in which they are read.
fn order() -> Vec<String> {
    let summary = fs::read_to_string(Path::new(SOURCES).join("SUMMARY.md")).unwrap();
    let links = Page::parse(&summary).links;
    links.into_iter().map(|link| link.target).collect()
}

/// Whoever reads on a forge sees the files, whoever reads the book what the summary names.
fn summary() {
    let mut named = order();
    assert!((1..=MOST_CHAPTERS).contains(&named.len()), "{named:?}");
    named.sort();
    let files = pages().into_iter().map(|page| page.path);
    let files: Vec<String> = files
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "SUMMARY.md")
        .collect();
    assert_eq!(named, files);
}

fn chapters() {
    for page in pages() {
        if page.path.ends_with("SUMMARY.md") {
            continue;
        }
        let path = page.path.display();
        let shows = |block: &Block| block.is("console") && !block.is("not-run");
        assert!(page.blocks.iter().any(shows), "{path}: no command");
        assert!(
            page.links.iter().any(|link| link.target.contains(".rs")),
            "{path}: no link to a source"
        );
        let is_exercise = |heading: &String| heading == "Try" || heading.starts_with("Exercise");
        assert!(
            page.headings.iter().any(is_exercise),
            "{path}: nothing to try"
        );
    }
}

fn links() {
    for page in pages() {
        for link in &page.links {
            if let Err(reason) = check_link(&page, link) {
                let (path, target) = (page.path.display(), &link.target);
                panic!("{path}: [{}]({target}): {reason}", link.text);
            }
        }
    }
}

/// Links lead to files of this project. What has the text of code and leads to a source file names
/// something that is defined there, or the file.
fn check_link(page: &Page, link: &Link) -> Result<(), &'static str> {
    if link.target.starts_with("https://") {
        return Ok(());
    }
    let (target, heading) = link.target.split_once('#').unwrap_or((&link.target, ""));
    if let Ok(number) = link.text.parse::<usize>() {
        let chapter = order().into_iter().nth(number.wrapping_sub(1));
        if chapter.as_deref() != Some(target) {
            return Err("is another chapter");
        }
    }
    let path = match target {
        "" => page.path.clone(),
        target => page.resolve(target),
    };
    if !path.exists() {
        return Err("there is no such file");
    }
    let is_source = |path: &Path| {
        path.extension()
            .is_some_and(|end| end == "rs" || end == "s")
    };
    if is_source(&path) {
        if !link.code {
            return Err("does not name what it leads to");
        }
        let source = fs::read_to_string(&path).unwrap();
        if !path.ends_with(&link.text) && !defines(&source, &link.text) {
            return Err("is not defined there");
        }
    }
    if !heading.is_empty() {
        let page = pages().into_iter().find(|page| page.path == path);
        let headings = page.ok_or("is no chapter")?.headings;
        if !headings.iter().any(|text| anchor(text) == heading) {
            return Err("there is no such heading");
        }
    }
    Ok(())
}

/// Whether `source` defines `item`, such as `Type::function`, and speaks of the type.
fn defines(source: &str, item: &str) -> bool {
    let mut names: Vec<&str> = item.split("::").collect();
    let name = regex::escape(names.pop().unwrap_or_default());
    let keyword = "fn|struct|enum|trait|const|static|type|mod|union";
    let definition = format!(r"(?m)\b(?:{keyword})\s+(?:mut\s+)?{name}\b|^{name}:");
    let has = |pattern: &str| Regex::new(pattern).unwrap().is_match(source);
    has(&definition) && names.iter().all(|name| has(&format!(r"\b{name}\b")))
}

/// The fragment by which forges and mdBook link to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| {
        if c == ' ' {
            '-'
        } else {
            c.to_ascii_lowercase()
        }
    })
    .collect()
}

fn diagrams() {
    let shown: BTreeSet<_> = pages()
        .iter()
        .flat_map(|page| {
            page.links
                .iter()
                .map(|link| (page.resolve(&link.target), link))
        })
        .filter(|(_, link)| link.image)
        .map(|(path, link)| {
            assert!(!link.text.is_empty(), "{}: no words for it", path.display());
            path
        })
        .collect();
    let files: BTreeSet<_> = book::files("svg").into_iter().collect();
    assert_eq!(shown, files);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| {
            panic!("{}: {error}", path.display());
        });
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "svg", "{}", path.display());
        assert!(root.has_attribute("viewBox"), "{}", path.display());
        let title = root
            .children()
            .find(|node| node.has_tag_name((root.tag_name().namespace().unwrap(), "title")));
        assert!(title.is_some(), "{}: no title", path.display());
    }
}

/// A command that nobody runs may be wrong: it says why it is not run.
fn all_are_run() {
    for page in pages() {
        for block in &page.blocks {
            let shows_commands = block.text.lines().any(|line| line.starts_with("$ "));
            let path = page.path.display();
            assert_eq!(
                shows_commands,
                block.is("console"),
                "{path}: {}",
                block.text
            );
            let known = ["console", "needs-gdb", "needs-qemu", "not-run", "varies"];
            if block.is("console") {
                let strange = block
                    .info
                    .iter()
                    .find(|word| !known.contains(&word.as_str()));
                assert_eq!(strange, None, "{path}");
            }
            if block.is("not-run") {
                assert!(
                    block.comment.is_some(),
                    "{path}: no reason for {}",
                    block.text
                );
            }
        }
    }
}
