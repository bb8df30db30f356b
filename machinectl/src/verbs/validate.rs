//! `validate` and `explain`: machine configs without a machine.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::files;
use crate::output::write;

/// Check machine configs without a machine
#[derive(Debug, Args)]
pub struct Validate {
    /// Machine configs; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Say what a field of the machine config is for
#[derive(Debug, Args)]
pub struct Explain {
    /// Field, such as machine.network.interfaces; none: the whole config
    #[arg(default_value = "")]
    field: String,
}

impl Validate {
    pub fn run(self) -> Result<(), Failure> {
        let mut problems = Vec::new();
        for path in &self.files {
            let text = files::read_text(path)?;
            match machine::config::load(&text, &path.display().to_string()) {
                Ok(_) => write(&format!("{}: valid\n", path.display())),
                Err(report) => problems.push(report.to_string()),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Failure { problems, ..Failure::new("", "") }) }
    }
}

impl Explain {
    pub fn run(self) -> Result<(), Failure> {
        let text = machine::config::explain(&self.field);
        write(&text.map_err(|error| Failure::of("", &error).remedy("see `machinectl explain` for the fields"))?);
        Ok(())
    }
}
