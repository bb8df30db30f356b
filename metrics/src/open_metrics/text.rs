//! The two text formats: OpenMetrics 1.0 and Prometheus' own older one, which differ in how counters are headed and in how the text ends.

use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// What an `Accept` header asks for.
    pub fn accepted(header: &str) -> Format {
        if header.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its name ends in `_total`.
    Counter,
    Gauge,
    /// A counter whose name upstream gave no `_total`, which OpenMetrics does not allow.
    Untyped,
}

/// Text that grows, one family after another.
#[derive(Debug)]
pub struct Text {
    format: Format,
    text: String,
    name: &'static str,
}

impl Text {
    pub fn new(format: Format) -> Text {
        Text { format, text: String::new(), name: "" }
    }

    /// Begins a family; the lines that follow are its own.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        let (heading, word) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            (Format::Prometheus, Kind::Counter) => (name, "counter"),
            (_, Kind::Gauge) => (name, "gauge"),
            (Format::OpenMetrics, Kind::Untyped) => (name, "unknown"),
            (Format::Prometheus, Kind::Untyped) => (name, "untyped"),
        };
        let _ = write!(self.text, "# HELP {heading} {help}\n# TYPE {heading} {word}\n");
    }

    /// A sample of the family; `labels` as [`labels`] makes them.
    pub fn sample(&mut self, labels: &str, value: f64) {
        self.text.push_str(self.name);
        if !labels.is_empty() {
            let _ = write!(self.text, "{{{labels}}}");
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// A family of one sample without labels, if it is known.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: Option<f64>) {
        self.labelled(name, kind, help, "", value);
    }

    /// The same with labels, as [`labels`] makes them.
    pub fn labelled(&mut self, name: &'static str, kind: Kind, help: &str, labels: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.family(name, kind, help);
            self.sample(labels, value);
        }
    }

    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// `a="1",b="2"`, with values that cannot end the quotes or the line.
pub fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{name}=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}
