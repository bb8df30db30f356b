//! Questions before something that cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::Failure;

/// Whether the user says yes.
pub fn confirmed(question: &str) -> Result<bool, Failure> {
    Ok(matches!(answer(&format!("{question} [y/N] "))?.to_lowercase().as_str(), "y" | "yes"))
}

/// What the user types. Without a terminal there is nobody to ask: `--yes` has to say it.
pub fn answer(question: &str) -> Result<String, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage("--yes", "this needs a confirmation, and there is no terminal to ask on").remedy("add --yes"));
    }
    let _ = write!(std::io::stderr(), "{question}");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| Failure::of("standard input", &error))?;
    Ok(line.trim().to_owned())
}
