//! Columns as Go's `text/tabwriter` makes them with Podman's settings (minwidth 12, padding 2, spaces).
//!
//! comfy-table pads every row to the same columns; tabwriter ends a column where a row ends it, leaves the last
//! cell unpadded and never cuts. Scripts rely on that, hence these lines instead.

/// A cell with its two spaces is at least so wide.
const LEAST: usize = 12;
const PADDING: usize = 2;

/// Aligns lines whose cells end with tabs.
pub(crate) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::new();
    block(&lines, &mut Vec::new(), &mut out);
    out
}

/// `rows` have the columns of `widths` in common. The next column is made of runs of rows that have one.
fn block(rows: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let has = |row: &Vec<&str>| column + 1 < row.len();
    let mut rest = rows;
    while !rest.is_empty() {
        let plain = rest.iter().position(has).unwrap_or(rest.len());
        rest[..plain].iter().for_each(|row| line(row, widths, out));
        rest = &rest[plain..];
        let run = rest.iter().position(|row| !has(row)).unwrap_or(rest.len());
        if run > 0 {
            let width = rest[..run].iter().map(|row| row[column].chars().count() + PADDING).max().unwrap_or(0);
            widths.push(width.max(LEAST));
            block(&rest[..run], widths, out);
            widths.pop();
        }
        rest = &rest[run..];
    }
}

fn line(row: &[&str], widths: &[usize], out: &mut String) {
    for (n, cell) in row.iter().enumerate() {
        out.push_str(cell);
        if n + 1 < row.len() {
            let width = widths.get(n).copied().unwrap_or(0);
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_podman_prints_them() {
        assert_eq!(
            align("NETWORK ID\tNAME\tDRIVER\nf048d09751e0\tdockeropts\tbridge\n2f259bab93aa\tpodman\tbridge\n"),
            "NETWORK ID    NAME        DRIVER\nf048d09751e0  dockeropts  bridge\n2f259bab93aa  podman      bridge\n"
        );
        assert_eq!(align("NETWORK ID\tNAME\tDRIVER\n"), "NETWORK ID  NAME        DRIVER\n");
        assert_eq!(align("a\tb\n"), "a           b\n");
    }

    #[test]
    fn an_empty_last_cell_leaves_the_padding_before_it() {
        assert_eq!(align("NAME\tLABELS\nna\t\n"), "NAME        LABELS\nna          \n");
    }

    #[test]
    fn a_row_with_fewer_cells_ends_the_column() {
        assert_eq!(align("a\tb\nplain\nlonger than twelve\tb\n"), "a           b\nplain\nlonger than twelve  b\n");
    }
}
