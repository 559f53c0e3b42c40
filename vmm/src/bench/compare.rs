//! What differs between two reports, figure by figure, and which differences are more than noise.
//! Compares what is there, and measures nothing.

use fastrand::Rng;
use serde::Serialize;

use super::figures::{Figure, Value, figures};
use super::format::{percent, with_unit};
use super::report::{Host, Report, Series};
use super::series::{median, quantile};
use super::tables::{Table, head};
use super::text::{draw, prose};

/// How often both series are drawn again from their own samples.
const DRAWS: usize = 1000;
/// What the drawing begins with, so that it comes out the same every time.
const SEED: u64 = 1;
/// The fewest samples that say something about their spread.
const FEWEST: usize = 5;

/// What differs between a report A and a report B.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What differs between the machines that were measured: the fact, A's and B's.
    pub machines: Vec<(String, String, String)>,
    /// The figures that are in both.
    pub differences: Vec<Difference>,
    /// Names of figures that only A has.
    pub only_a: Vec<String>,
    /// Names of figures that only B has.
    pub only_b: Vec<String>,
}

/// A figure in A and in B.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The part of the report.
    pub section: String,
    /// What has been measured.
    pub name: String,
    /// Which figure of it.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// The figure in A: of a series, its median.
    pub a: f64,
    /// The same in B.
    pub b: f64,
    /// By how much B's is beyond A's, in per cent of A's; `None` where that is 0.
    pub percent: Option<f64>,
    /// The interval in which that lies with a confidence of 95 %, where samples tell.
    pub ci95: Option<(f64, f64)>,
    /// What follows.
    pub verdict: Verdict,
}

/// What follows from a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Noise covers the difference, or there is none.
    Same,
    /// B's figure is higher, beyond noise.
    Higher,
    /// B's figure is lower, beyond noise.
    Lower,
    /// They differ, and nothing tells how much of that is noise.
    Unknown,
}

/// Compares the figures of `a` with those of `b`; targets are computed from others, and left out.
#[must_use]
pub fn compare(a: &Report, b: &Report) -> Comparison {
    let measured = |report| {
        let mut figures = figures(report);
        figures.retain(|figure| figure.section != "targets");
        figures
    };
    let (in_a, in_b) = (measured(a), measured(b));
    let mut differences = Vec::new();
    for a in &in_a {
        if let Some(b) = in_b.iter().find(|b| key(a) == key(b)) {
            differences.push(difference(a, b));
        }
    }
    Comparison {
        machines: machines(&a.host, &b.host),
        differences,
        only_a: missing(&in_a, &in_b),
        only_b: missing(&in_b, &in_a),
    }
}

/// The facts that both machines tell of themselves, and differently; the load always differs.
fn machines(a: &Host, b: &Host) -> Vec<(String, String, String)> {
    let in_b = |name: &String| b.facts.iter().find(|(other, _)| other == name);
    let facts = a.facts.iter().filter(|(name, _)| name != "Load average");
    let both = facts.filter_map(|(name, a)| Some((name.clone(), a.clone(), in_b(name)?.1.clone())));
    both.filter(|(_, a, b)| a != b).collect()
}

fn key<'a>(figure: &'a Figure<'_>) -> (&'a str, &'a str, &'a str) {
    (figure.section, &figure.name, &figure.metric)
}

/// Names of what is in `these` and not in `those`.
fn missing(these: &[Figure<'_>], those: &[Figure<'_>]) -> Vec<String> {
    these
        .iter()
        .filter(|figure| !those.iter().any(|other| key(figure) == key(other)))
        .map(|figure| format!("{}: {}: {}", figure.section, figure.name, figure.metric))
        .collect()
}

fn difference(in_a: &Figure<'_>, in_b: &Figure<'_>) -> Difference {
    let (a, b) = (in_a.value.middle(), in_b.value.middle());
    let ci95 = match (&in_a.value, &in_b.value) {
        (Value::Series(a), Value::Series(b)) => interval(a, b),
        _ => None,
    };
    let verdict = match ci95 {
        Some((from, to)) if from <= 0.0 && 0.0 <= to => Verdict::Same,
        None if a == b => Verdict::Same,
        None => Verdict::Unknown,
        Some(_) if b > a => Verdict::Higher,
        Some(_) => Verdict::Lower,
    };
    Difference {
        section: in_a.section.into(),
        name: in_a.name.clone(),
        metric: in_a.metric.clone(),
        unit: in_a.unit.into(),
        a,
        b,
        percent: (a != 0.0).then(|| (b / a - 1.0) * 100.0),
        ci95,
        verdict,
    }
}

impl Value<'_> {
    /// The figure itself; of a series, its median.
    fn middle(&self) -> f64 {
        match self {
            Self::Series(series) => series.summary.median,
            Self::Number(number) => *number,
        }
    }
}

/// The interval in which the difference of the medians of `a` and `b` lies with a confidence of
/// 95 %, in per cent of `a`'s: both are drawn again and again from their own samples (the
/// bootstrap).
fn interval(a: &Series, b: &Series) -> Option<(f64, f64)> {
    let base = a.summary.median;
    if a.samples.len() < FEWEST || b.samples.len() < FEWEST || base == 0.0 {
        return None;
    }
    let mut rng = Rng::with_seed(SEED);
    let mut differences: Vec<f64> = (0..DRAWS)
        .map(|_| (drawn(&b.samples, &mut rng) - drawn(&a.samples, &mut rng)) / base * 100.0)
        .collect();
    differences.sort_by(f64::total_cmp);
    Some((quantile(&differences, 0.025), quantile(&differences, 0.975)))
}

/// Median of as many samples as there are, each drawn from all of them.
fn drawn(samples: &[f64], rng: &mut Rng) -> f64 {
    let mut drawn: Vec<f64> = (0..samples.len())
        .filter_map(|_| rng.choice(samples).copied())
        .collect();
    drawn.sort_by(f64::total_cmp);
    median(&drawn)
}

impl Comparison {
    /// The comparison as text: how the machines differ, a table for each part, what is in one report
    /// alone, and a summary.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, a, b) in &self.machines {
            prose(
                &mut out,
                "",
                &format!("The machines differ in {name}: A {a}; B {b}."),
            );
        }
        let mut sections: Vec<&str> = self.differences.iter().map(|d| &*d.section).collect();
        sections.dedup();
        for section in sections {
            out.push_str(&draw(&self.table(section)));
            out.push('\n');
        }
        for (which, names) in [("A", &self.only_a), ("B", &self.only_b)] {
            for name in names {
                out.push_str(&format!("only in {which}: {name}\n"));
            }
        }
        for sentence in self.summary() {
            prose(&mut out, "", &sentence);
        }
        out
    }

    /// What it comes to.
    fn summary(&self) -> [String; 2] {
        let count = |verdict| {
            let all = self.differences.iter();
            all.filter(|difference| difference.verdict == verdict)
                .count()
        };
        let with_interval = self.differences.iter().filter(|d| d.ci95.is_some());
        [
            format!(
                "{} figures: {} same, {} higher in B, {} lower in B, {} differ without a known \
                 spread; {} only in A, {} only in B.",
                self.differences.len(),
                count(Verdict::Same),
                count(Verdict::Higher),
                count(Verdict::Lower),
                count(Verdict::Unknown),
                self.only_a.len(),
                self.only_b.len(),
            ),
            format!(
                "The intervals are of noise within a run: by chance about {} figures lie outside \
                 where nothing has changed, and all move together where the machine itself has. \
                 'vmm by floor' leaves that out.",
                with_interval.count() / 20
            ),
        ]
    }

    fn table(&self, section: &str) -> Table {
        let mut last = "";
        let mut rows = Vec::new();
        let of_section = self.differences.iter().filter(|d| d.section == section);
        for difference in of_section {
            // A line of its own for each name: many of them are long.
            if difference.name != last {
                last = &difference.name;
                rows.push(vec![difference.name.clone()]);
            }
            rows.push(difference.row());
        }
        Table {
            title: section.into(),
            head: head(" | A | B | B - A | 95 % interval | "),
            rows,
            notes: Vec::new(),
        }
    }
}

impl Difference {
    fn row(&self) -> Vec<String> {
        let figure = |value| with_unit(value, &self.unit);
        let verdict = match self.verdict {
            Verdict::Same => "same",
            Verdict::Higher => "HIGHER",
            Verdict::Lower => "LOWER",
            Verdict::Unknown => "?",
        };
        vec![
            format!("  {}", self.metric),
            figure(self.a),
            figure(self.b),
            self.percent.map_or(String::new(), percent),
            self.ci95.map_or(String::new(), |(from, to)| {
                format!("{} to {}", percent(from), percent(to))
            }),
            verdict.into(),
        ]
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
