//! What commands print: tables for people, JSON and YAML for programs.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use machine::config::yaml;
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    Json,
    Yaml,
}

/// For commands that print values.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Output {
    /// Form of what is printed
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

/// Rows under headings. A column that no row fills is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub headings: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Space between columns.
const GAP: usize = 3;

impl Table {
    pub fn new(headings: &[&str]) -> Table {
        Table { headings: headings.iter().map(|heading| (*heading).to_owned()).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Aligned text; `with_headings` is off for rows that follow a table already printed.
    pub fn render(&self, with_headings: bool) -> String {
        let cell =
            |row: &[String], column: usize| row.get(column).filter(|cell| !cell.is_empty()).cloned().unwrap_or_else(|| "-".to_owned());
        let lines: Vec<&Vec<String>> = with_headings.then_some(&self.headings).into_iter().chain(&self.rows).collect();
        let columns = self.headings.len();
        let widths: Vec<usize> =
            (0..columns).map(|column| lines.iter().map(|line| cell(line, column).chars().count()).max().unwrap_or(0)).collect();
        let mut text = String::new();
        for line in lines {
            let cells = (0..columns).map(|column| format!("{:width$}", cell(line, column), width = widths[column] + GAP));
            text.push_str(cells.collect::<String>().trim_end());
            text.push('\n');
        }
        text
    }
}

impl Output {
    /// Prints a table, or in the other formats the values themselves.
    pub fn print(self, table: impl FnOnce(bool) -> Table, values: impl FnOnce() -> Value) {
        match self.format {
            Format::Table => write(&table(false).render(true)),
            Format::Wide => write(&table(true).render(true)),
            Format::Json => write(&(pretty(&values()) + "\n")),
            Format::Yaml => write(&yaml::print(&values())),
        }
    }

    pub fn is_table(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// Writes to standard output. When the reader has gone (`machinectl logs | head`), nobody is left to tell: the program ends.
pub fn write(text: &str) {
    write_bytes(text.as_bytes());
}

pub fn write_bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A line on standard error.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_cells_shown() {
        let mut table = Table::new(&["NAME", "STATE", "MESSAGE"]);
        table.row(["kubelet", "ready", ""]);
        table.row(["kube-apiserver", "", "waits for etcd"]);
        assert_eq!(
            table.render(true),
            "NAME             STATE   MESSAGE\nkubelet          ready   -\nkube-apiserver   -       waits for etcd\n"
        );
        assert!(table.render(false).starts_with("kubelet          ready   -\n"));
    }
}
