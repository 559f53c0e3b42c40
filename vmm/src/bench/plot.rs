//! Plots of a report, as SVG for a page whose style sheet knows the colours: black is text and
//! axes, and each of [`COLOURS`] is what a legend shows in it. Nothing is computed here.

use plotters::coord::combinators::BindKeyPoints;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::format::time;
use super::report::{BlockCell, ExitCost, Exits, Summary};
use super::tables::{Group, floor};

/// Why a plot could not be drawn.
pub type PlotError = DrawingAreaErrorKind<std::io::Error>;

/// Colours of series, told apart by most eyes: those of Okabe and Ito.
pub const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x99, 0x99, 0x99),
];

/// Width of every plot. A page shows it smaller, so that whole pixels are fine enough.
const WIDTH: u32 = 800;
/// Height of a plot against the depth.
const HEIGHT: u32 = 600;
/// Height of a kind in the plot of exits.
const ROW: u32 = 72;
/// Size of text.
const FONT: u32 = 30;
/// Width of what a line is drawn with.
const LINE: u32 = 4;
/// The most samples that are drawn of a series.
const DOTS: usize = 100;

/// A plot, and what its colours stand for.
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The picture.
    pub svg: String,
    /// What the colours stand for, in their order.
    pub legend: Vec<String>,
}

/// What each kind of exit costs, on a logarithmic axis: this VMM, and the floor below it.
///
/// # Errors
/// Where it cannot be drawn.
pub fn exits(exits: &Exits) -> Result<Plot, PlotError> {
    let kinds: Vec<(&str, &ExitCost)> = exits
        .kinds
        .iter()
        .filter_map(|kind| Some((kind.name.as_str(), kind.cost.as_ref().ok()?)))
        .collect();
    let costs = kinds.iter();
    let samples = costs.flat_map(|(_, cost)| cost.vmm.samples.iter().chain(&cost.floor.samples));
    let (least, most) = log_range(samples.copied(), 0.1);

    let rows = kinds.len() as u32;
    let svg = draw(rows * ROW + 120, |area| {
        let x = (least..most)
            .log_scale()
            .with_key_points(decades(least, most));
        let mut chart = ChartBuilder::on(area)
            .margin(20)
            .margin_right(40)
            .x_label_area_size(60)
            .build_cartesian_2d(x, f64::from(rows)..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .label_style(font(FONT))
            .x_label_formatter(&|ns| round_time(*ns))
            .draw()?;
        for (row, (name, cost)) in kinds.iter().enumerate() {
            let top = row as f64;
            let (vmm, floor) = (cost.vmm.summary.median, cost.floor.summary.median);
            let figures = format!("{}, floor {}", time(vmm), time(floor));
            for (x, anchor, text) in [(least, HPos::Left, *name), (most, HPos::Right, &figures)] {
                let style = TextStyle::from(font(FONT)).pos(Pos::new(anchor, VPos::Center));
                let label = Text::new(text.to_owned(), (x, top + 0.25), style);
                chart.draw_series(std::iter::once(label))?;
            }
            for (lane, series) in [(0.58, &cost.vmm), (0.8, &cost.floor)] {
                let colour = if lane < 0.7 { COLOURS[0] } else { COLOURS[1] };
                let Summary {
                    min, median, p99, ..
                } = series.summary;
                let at = |ns: f64| (ns.max(least), top + lane);
                let dots = series
                    .samples
                    .iter()
                    .step_by(series.samples.len() / DOTS + 1);
                chart.draw_series(std::iter::once(PathElement::new(
                    vec![at(min), at(p99)],
                    colour.stroke_width(LINE / 2),
                )))?;
                chart.draw_series(
                    dots.map(|&ns| Circle::new(at(ns), 4, colour.mix(0.3).filled())),
                )?;
                chart.draw_series(std::iter::once(
                    EmptyElement::at(at(median))
                        + Rectangle::new([(-3, -9), (3, 9)], colour.filled()),
                ))?;
            }
        }
        Ok(())
    })?;
    Ok(Plot {
        title: "Time of one operation: each sample, from least to p99; bar at the median".into(),
        svg,
        legend: vec![
            "this VMM".into(),
            "floor: a bare loop around KVM_RUN".into(),
        ],
    })
}

/// Requests per second against the depth, for each notify mode and for each floor.
///
/// # Errors
/// Where it cannot be drawn.
pub fn rates(group: &Group<'_>) -> Result<Plot, PlotError> {
    let mut lines = by_notify(group, |cell| {
        let figures = cell.figures.as_ref().ok()?;
        Some(figures.throughput.iops.summary.median)
    });
    for name in group.floors() {
        // The floor is measured beside every cell; once for each depth is enough.
        let mut points: Vec<(f64, f64)> = Vec::new();
        for cell in &group.cells {
            let depth = f64::from(cell.depth);
            if let Some(floor) = floor(cell, name)
                && !points.iter().any(|(known, _)| *known == depth)
            {
                points.push((depth, floor.iops.summary.median));
            }
        }
        points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        if !points.is_empty() {
            lines.push(Line {
                name: format!("floor: {name}"),
                dashed: true,
                points,
            });
        }
    }
    let values = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
    let (least, most) = log_range(values, 0.0);
    let y = (least..most)
        .log_scale()
        .with_key_points(decades(least, most));
    against_depth("Requests per second against depth", &lines, y)
}

/// Exits to user space for one request against the depth, for each notify mode.
///
/// # Errors
/// Where it cannot be drawn.
pub fn exits_per_request(group: &Group<'_>) -> Result<Plot, PlotError> {
    let lines = by_notify(group, |cell| Some(cell.figures.as_ref().ok()?.exits));
    let values = lines.iter().flat_map(|line| &line.points);
    let most = values.map(|(_, y)| *y).fold(1.0, f64::max) * 1.1;
    against_depth(
        "Exits to user space for one request against depth",
        &lines,
        0.0..most,
    )
}

/// A line against the depth.
struct Line {
    name: String,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// A line for each notify mode, of what `value` says of its cells.
fn by_notify(group: &Group<'_>, value: impl Fn(&BlockCell) -> Option<f64>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for cell in &group.cells {
        let Some(value) = value(cell) else { continue };
        let point = (f64::from(cell.depth), value);
        match lines.iter_mut().find(|line| line.name == cell.notify) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name: cell.notify.clone(),
                dashed: false,
                points: vec![point],
            }),
        }
    }
    lines
}

fn against_depth<Y>(title: &str, lines: &[Line], y: Y) -> Result<Plot, PlotError>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut depths: Vec<f64> = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|p| p.0)
        .collect();
    depths.sort_by(f64::total_cmp);
    depths.dedup();
    let least = depths.first().copied().unwrap_or(1.0) / 1.2;
    let most = depths.last().copied().unwrap_or(1.0) * 1.2;
    let svg = draw(HEIGHT, |area| {
        let x = (least..most).log_scale().with_key_points(depths.clone());
        let mut chart = ChartBuilder::on(area)
            .margin(20)
            .x_label_area_size(90)
            .y_label_area_size(110)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK)
            .label_style(font(FONT))
            .y_labels(6)
            .x_desc("requests in flight")
            .x_label_formatter(&|depth| format!("{depth}"))
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let points = line.points.iter().copied();
            if line.dashed {
                chart.draw_series(DashedLineSeries::new(
                    points,
                    12,
                    8,
                    colour.stroke_width(LINE),
                ))?;
            } else {
                let style = colour.stroke_width(LINE).filled();
                chart.draw_series(LineSeries::new(points, style).point_size(8))?;
            }
        }
        Ok(())
    })?;
    Ok(Plot {
        title: title.into(),
        svg,
        legend: lines.iter().map(|line| line.name.clone()).collect(),
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The picture of the height `height` that `content` draws.
fn draw(
    height: u32,
    content: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    content(&area)?;
    area.present()?;
    drop(area);
    // Within a page the name of the language is not needed, and looks like a reference.
    Ok(svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1))
}

fn font(size: u32) -> FontDesc<'static> {
    ("sans-serif", size).into_font()
}

/// What a logarithmic axis begins and ends with that shows those of `values` that are above `zero`.
fn log_range(values: impl Iterator<Item = f64> + Clone, zero: f64) -> (f64, f64) {
    let shown = values.clone().filter(|&value| value > zero);
    let least = shown.fold(f64::INFINITY, f64::min).min(1e9) / 1.5;
    (least, values.fold(2.0 * least, f64::max) * 1.5)
}

/// The powers of ten between `least` and `most`; with their double and fivefold where there are few.
fn decades(least: f64, most: f64) -> Vec<f64> {
    let powers = (-3..=15).map(|power| 10f64.powi(power));
    let few = most / least < 1000.0;
    let factors: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
    powers
        .flat_map(|power| factors.iter().map(move |factor| factor * power))
        .filter(|value| (least..=most).contains(value))
        .collect()
}

/// A round time, as an axis names it.
fn round_time(ns: f64) -> String {
    for (unit, size) in [("s", 1e9), ("ms", 1e6), ("us", 1e3)] {
        if ns >= size {
            return format!("{} {unit}", (ns / size).round());
        }
    }
    format!("{} ns", (ns * 10.0).round() / 10.0)
}

/// A round number, as an axis names it.
fn tick(value: f64) -> String {
    if value >= 1e6 {
        format!("{} M", value / 1e6)
    } else if value >= 1e3 {
        format!("{} k", value / 1e3)
    } else {
        format!("{}", (value * 1e3).round() / 1e3)
    }
}
