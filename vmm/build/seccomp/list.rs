//! Parses the list of what each thread may ask of the kernel. How a filter is made of it is not
//! decided here.

use std::collections::BTreeMap;

use syscalls::x86_64::Sysno;

use super::names::value;

/// What a line lets a thread do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Make the call, which is looked for before all others.
    First,
    /// Make the call.
    Allow,
    /// Go on without: the call fails.
    Refuse,
}

/// What must hold for an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0.
    pub index: u8,
    /// The bits that count.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub verdict: Verdict,
    pub call: Sysno,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
}

/// A kind of thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub name: String,
    pub rules: Vec<Rule>,
}

/// The threads that `list` describes, in its order; or what is wrong with it, and in which line.
pub fn parse(list: &str) -> Result<Vec<Thread>, String> {
    let mut groups = BTreeMap::new();
    let mut threads: Vec<Thread> = Vec::new();
    // What the lines below the last header go to.
    let mut section: Option<(String, Vec<Rule>, bool)> = None;
    for (number, line) in (1..).zip(list.lines()) {
        let at = |error: String| format!("line {number}: {error}");
        let (text, reason) = line.split_once('#').unwrap_or((line, ""));
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        if let Some(header) = text.strip_prefix('[') {
            end(section.take(), &mut groups, &mut threads);
            let (name, rules, is_thread) = begin(header, &groups).map_err(at)?;
            if groups.contains_key(&name) || threads.iter().any(|thread| thread.name == name) {
                return Err(at(format!("[{name}] is there twice")));
            }
            section = Some((name, rules, is_thread));
            continue;
        }
        if reason.trim().is_empty() {
            return Err(at(format!("no reason is given for '{text}'")));
        }
        let rule = rule(text).map_err(at)?;
        let (_, rules, _) = section
            .as_mut()
            .ok_or_else(|| at("a call before the first [section]".into()))?;
        add(rules, rule).map_err(at)?;
    }
    end(section, &mut groups, &mut threads);
    Ok(threads)
}

/// A section with the header `header`: its name, the rules of its groups, and whether it is a
/// kind of thread.
fn begin(
    header: &str,
    groups: &BTreeMap<String, Vec<Rule>>,
) -> Result<(String, Vec<Rule>, bool), String> {
    let header = header.strip_suffix(']').ok_or("a header without ']'")?;
    let Some((name, included)) = header.split_once(':') else {
        return Ok((header.trim().to_owned(), Vec::new(), false));
    };
    let mut rules = Vec::new();
    for group in included.split_whitespace() {
        let group = groups
            .get(group)
            .ok_or_else(|| format!("no group [{group}] before this"))?;
        for rule in group {
            add(&mut rules, rule.clone())?;
        }
    }
    Ok((name.trim().to_owned(), rules, true))
}

fn end(
    section: Option<(String, Vec<Rule>, bool)>,
    groups: &mut BTreeMap<String, Vec<Rule>>,
    threads: &mut Vec<Thread>,
) {
    match section {
        Some((name, rules, true)) => threads.push(Thread { name, rules }),
        Some((name, rules, false)) => _ = groups.insert(name, rules),
        None => {}
    }
}

/// Adds `rule` where it says something that `rules` do not: alternatives for a call are all
/// conditional, and of one verdict.
fn add(rules: &mut Vec<Rule>, rule: Rule) -> Result<(), String> {
    for other in rules.iter().filter(|other| other.call == rule.call) {
        let call = rule.call.name();
        if other.conditions == rule.conditions {
            return Err(format!("'{call}' is there twice"));
        }
        if other.conditions.is_empty() || rule.conditions.is_empty() {
            return Err(format!("'{call}' is there without a condition, too"));
        }
        if (other.verdict == Verdict::Refuse) != (rule.verdict == Verdict::Refuse) {
            return Err(format!("'{call}' is both allowed and refused"));
        }
    }
    rules.push(rule);
    Ok(())
}

/// The line `text`, without its reason.
fn rule(text: &str) -> Result<Rule, String> {
    let (verdict, text) = match text.split_once(' ') {
        Some(("first", rest)) => (Verdict::First, rest.trim()),
        Some(("refuse", rest)) => (Verdict::Refuse, rest.trim()),
        _ => (Verdict::Allow, text),
    };
    let (name, conditions) = match text.split_once('(') {
        None => (text, Vec::new()),
        Some((name, rest)) => {
            let inner = rest.strip_suffix(')').ok_or("conditions without ')'")?;
            let conditions = inner.split(',').map(condition).collect::<Result<_, _>>()?;
            (name.trim(), conditions)
        }
    };
    let call = name
        .parse()
        .map_err(|()| format!("there is no system call '{name}'"))?;
    Ok(Rule {
        verdict,
        call,
        conditions,
    })
}

/// `I = VALUE` or `I & MASK = 0`.
fn condition(text: &str) -> Result<Condition, String> {
    let wrong = || format!("'{}' is no condition", text.trim());
    let (left, right) = text.split_once('=').ok_or_else(wrong)?;
    let (index, mask) = match left.split_once('&') {
        None => (left, u32::MAX),
        Some((index, mask)) if right.trim() == "0" => (index, value(mask.trim())?),
        Some(_) => return Err(wrong()),
    };
    let index = index.trim().parse().map_err(|_| wrong())?;
    if index > 5 {
        return Err(format!("a system call has no argument number {index}"));
    }
    let value = if mask == u32::MAX {
        value(right.trim())?
    } else {
        0
    };
    Ok(Condition { index, mask, value })
}
