//! Tables as text: aligned, and without colour. What is in them, others say.

/// `rows` as lines, each column as wide as its widest cell: the first `words` of them to the left,
/// all others to the right.
pub fn align<'r>(rows: impl Iterator<Item = &'r Vec<String>> + Clone, words: usize) -> String {
    let columns = rows.clone().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.clone().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            line += "  ";
            line += &if column < words {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            };
        }
        out += line.trim_end();
        out += "\n";
    }
    out
}
