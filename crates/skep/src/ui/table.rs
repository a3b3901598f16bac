//! Columns aligned as Go's tabwriter does with Docker's settings: cells end in a tab, are at least 10 wide, and 3 apart.

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Aligns the tab-terminated cells of `text`. A column is a run of lines that all have it, so a short line ends it.
pub(crate) fn align(text: &str) -> String {
    align_with(text, MIN_WIDTH, PADDING)
}

/// Aligns with other settings (`docker version` uses 20, 1).
pub(crate) fn align_with(text: &str, min_width: usize, padding: usize) -> String {
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = rows.iter().map(|row| vec![0; row.len()]).collect();
    set_widths(&rows, &mut widths, 0, 0..rows.len(), min_width, padding);
    let mut out = String::with_capacity(text.len() * 2);
    for (row, widths) in rows.iter().zip(&widths) {
        for (cell, &width) in row.iter().zip(widths) {
            out.push_str(cell);
            // The last cell of a line is not a column.
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        out.push('\n');
    }
    out
}

fn set_widths(
    rows: &[Vec<&str>],
    widths: &mut [Vec<usize>],
    column: usize,
    range: std::ops::Range<usize>,
    min_width: usize,
    padding: usize,
) {
    let mut line = range.start;
    while line < range.end {
        // A cell belongs to the column if a tab follows it.
        if rows[line].len() <= column + 1 {
            line += 1;
            continue;
        }
        let start = line;
        let mut width = min_width;
        while line < range.end && rows[line].len() > column + 1 {
            width = width.max(rows[line][column].chars().count() + padding);
            line += 1;
        }
        for row in &mut widths[start..line] {
            row[column] = width;
        }
        set_widths(rows, widths, column + 1, start..line, min_width, padding);
    }
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        insta::assert_snapshot!(
            align("REPOSITORY\tTAG\tIMAGE ID\nbusybox\tlatest\tabc\nregistry.example/long/name\t1\tdef\n"),
            @r"
        REPOSITORY                   TAG       IMAGE ID
        busybox                      latest    abc
        registry.example/long/name   1         def
        "
        );
    }

    #[test]
    fn letters_count_not_bytes() {
        assert_eq!(align("…\tx\n"), "…         x\n");
    }
}
