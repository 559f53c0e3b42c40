//! A report as CSV: a row for each figure, with the columns section, name, metric, value and unit.

use super::figures::{Value, figures};
use super::report::Report;

/// `report` as CSV, with a line of headings.
///
/// # Errors
/// None that memory does not give.
pub fn csv(report: &Report) -> Result<Vec<u8>, ::csv::Error> {
    let mut out = ::csv::Writer::from_writer(Vec::new());
    out.write_record(["section", "name", "metric", "value", "unit"])?;
    for figure in figures(report) {
        let mut row = |metric: &str, value: f64, unit| {
            let value = value.to_string();
            out.write_record([figure.section, &figure.name, metric, &value, unit])
        };
        let metric = &figure.metric;
        match &figure.value {
            Value::Number(value) => row(metric, *value, figure.unit)?,
            Value::Series(series) => {
                let summary = series.summary;
                for (which, value) in [
                    ("min", summary.min),
                    ("median", summary.median),
                    ("p99", summary.p99),
                    ("mean", summary.mean),
                    ("mean ci95", summary.mean_ci95),
                ] {
                    row(&format!("{metric} {which}"), value, figure.unit)?;
                }
                let count = series.samples.len() as f64;
                row(&format!("{metric} samples"), count, "")?;
            }
        }
    }
    out.into_inner().map_err(|error| error.into_error().into())
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
