//! The sources of the guide, as Markdown says what they are: blocks of commands with their output,
//! links and headings. Runs nothing and judges nothing.

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// Where the sources are.
pub const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src");

/// A chapter, or the summary.
#[derive(Debug, Default)]
pub struct Page {
    pub path: PathBuf,
    /// The fenced blocks of code.
    pub blocks: Vec<Block>,
    pub links: Vec<Link>,
    /// The text of each heading.
    pub headings: Vec<String>,
}

/// A fenced block of code.
#[derive(Debug, Default)]
pub struct Block {
    /// The words after the fence, such as `console` and `needs-gdb`.
    pub info: Vec<String>,
    pub text: String,
    /// The comment in the source right before the block, if there is one.
    pub comment: Option<String>,
}

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub output: Vec<String>,
}

/// A link, or an image, and its text.
#[derive(Debug, Default)]
pub struct Link {
    pub target: String,
    pub text: String,
    /// Whether the text is code.
    pub code: bool,
    pub image: bool,
}

/// All pages, in the order of their names.
pub fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> = files("md");
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

/// The files among the sources whose names end so.
pub fn files(extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(SOURCES).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        Self {
            path,
            ..Self::parse(&text)
        }
    }

    /// Where a relative `target` of a link of this page leads.
    pub fn resolve(&self, target: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(target)
    }

    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let (mut block, mut heading) = (None::<Block>, None::<String>);
        let (mut link, mut comment) = (None::<Link>, None::<String>);
        for event in Parser::new(text) {
            let in_comment = matches!(
                event,
                Event::Html(_) | Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock)
            );
            match event {
                Event::Html(html) => comment.get_or_insert_default().push_str(&html),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    let words = info.split(',').map(|word| word.trim().to_owned());
                    block = Some(Block {
                        info: words.collect(),
                        comment: comment.take(),
                        ..Block::default()
                    });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Start(Tag::Link { dest_url, .. }) => link = Some(Link::to(&dest_url, false)),
                Event::Start(Tag::Image { dest_url, .. }) => link = Some(Link::to(&dest_url, true)),
                Event::End(TagEnd::Link | TagEnd::Image) => page.links.extend(link.take()),
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.headings.extend(heading.take()),
                Event::Text(ref text) | Event::Code(ref text) => {
                    if let Some(link) = &mut link {
                        link.text.push_str(text);
                        link.code |= matches!(event, Event::Code(_));
                    }
                    if let Some(heading) = &mut heading {
                        heading.push_str(text);
                    }
                    if let Some(block) = &mut block {
                        block.text.push_str(text);
                    }
                }
                _ => {}
            }
            if !in_comment {
                comment = None;
            }
        }
        page
    }
}

impl Link {
    fn to(target: &str, image: bool) -> Self {
        Self {
            target: target.to_owned(),
            image,
            ..Self::default()
        }
    }
}

impl Block {
    /// Whether `word` is among those after the fence.
    pub fn is(&self, word: &str) -> bool {
        self.info.iter().any(|known| known == word)
    }

    /// The commands, which begin with `$ ` and go on after a backslash, each with what follows it.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for line in self.text.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    output: Vec::new(),
                }),
                (None, Some(step)) if step.output.is_empty() && step.command.ends_with('\\') => {
                    step.command.push('\n');
                    step.command.push_str(line);
                }
                (None, Some(step)) => step.output.push(line.to_owned()),
                (None, None) => panic!("output before the first command: {line}"),
            }
        }
        steps
    }
}
