//! What is wrong with a machine config: all of it at once, each problem with its place, in the shape that compilers print.

use std::fmt;

/// What a config without a file is called.
pub(super) const UNNAMED: &str = "machine config";

/// A place in a config: `cluster.network.podCIDRs[0]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Item(usize),
}

impl Path {
    pub fn root() -> Path {
        Path::default()
    }

    /// A path of plain field names, with dots between them.
    pub fn of(fields: &str) -> Path {
        Path(fields.split('.').map(|field| Step::Key(field.to_owned())).collect())
    }

    pub fn key(&self, name: &str) -> Path {
        self.with(Step::Key(name.to_owned()))
    }

    pub fn item(&self, index: usize) -> Path {
        self.with(Step::Item(index))
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    fn with(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                Step::Key(name) if !is_plain(name) => write!(f, "[{name:?}]")?,
                Step::Key(name) if position == 0 => f.write_str(name)?,
                Step::Key(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Field path; empty for the document itself.
    pub path: String,
    /// Counted from 1; 0 where there is no text to point into.
    pub line: usize,
    /// In characters, counted from 1; 0 where there is no text to point into.
    pub column: usize,
    /// What stands there. Never the content of a secret.
    pub found: String,
    /// What should stand there; empty where `found` says it.
    pub expected: String,
    /// What to do; empty where `expected` says it.
    pub remedy: String,
}

impl Problem {
    /// A problem whose line and column are not known yet.
    pub fn new(path: &Path, found: impl Into<String>) -> Problem {
        Problem { path: path.to_string(), line: 0, column: 0, found: found.into(), expected: String::new(), remedy: String::new() }
    }

    pub fn expected(self, expected: impl Into<String>) -> Problem {
        Problem { expected: expected.into(), ..self }
    }

    pub fn remedy(self, remedy: impl Into<String>) -> Problem {
        Problem { remedy: remedy.into(), ..self }
    }

    pub fn at(self, place: Place) -> Problem {
        Problem { line: place.line, column: place.column, ..self }
    }

    /// Found, expected and remedy as one line, without the place.
    pub fn message(&self) -> String {
        let mut message = self.found.clone();
        if !self.expected.is_empty() {
            message.push_str("; expected ");
            message.push_str(&self.expected);
        }
        if !self.remedy.is_empty() {
            message.push_str("; ");
            message.push_str(&self.remedy);
        }
        message
    }
}

/// A line and a column of a text, both counted from 1; 0 is nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// All that is wrong with one config, in the order of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the config is called: a file's path or `machine config`.
    pub source: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Report {
    /// `Ok` without problems, else the report of them.
    pub fn of(source: &str, mut problems: Vec<Problem>) -> Result<(), Report> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        Err(Report { source: source.to_owned(), problems })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.source)?;
            if problem.line > 0 {
                write!(f, ":{}:{}", problem.line, problem.column)?;
            }
            if !problem.path.is_empty() {
                write!(f, ": {}", problem.path)?;
            }
            write!(f, ": {}", problem.message())?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
