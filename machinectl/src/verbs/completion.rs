//! `completion` and `man`: for the user's shell and manual.

use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::write_bytes;

/// Print a completion script, such as: source <(machinectl completion bash)
#[derive(Debug, Args)]
pub struct Completion {
    #[arg(value_enum)]
    shell: ShellName,
}

/// Write the manual pages, one for each command
#[derive(Debug, Args)]
pub struct Man {
    /// Directory to write to, such as ~/.local/share/man/man1
    directory: PathBuf,
}

impl Man {
    pub fn run(self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::of(self.directory.display(), &error);
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.directory).map_err(failed)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub fn run(self) -> Result<(), Failure> {
        let shell = match self.shell {
            ShellName::Bash => Shell::Bash,
            ShellName::Zsh => Shell::Zsh,
            ShellName::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "machinectl", &mut script);
        write_bytes(&script);
        Ok(())
    }
}
