//! Prints tables of figures on the terminal.

/// Prints rows with headings. All rows of a table have the same headings.
#[derive(Debug, Default)]
pub(crate) struct Table {
    has_headings: bool,
}

impl Table {
    /// Prints a row: a name, and its cells with their headings.
    pub(crate) fn row(&mut self, kind: &str, name: &str, cells: &[(&str, String)]) {
        if !self.has_headings {
            self.has_headings = true;
            line(kind, cells.iter().map(|(heading, _)| *heading));
        }
        line(name, cells.iter().map(|(_, cell)| cell.as_str()));
    }
}

fn line<'a>(name: &str, cells: impl Iterator<Item = &'a str>) {
    let cells: String = cells.map(|cell| format!(" {cell:>12}")).collect();
    println!("{name:<14}{cells}");
}
