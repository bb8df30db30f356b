//! Questions before something that cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::Failure;
use crate::output::tell;

/// Whether the user says yes.
pub fn confirmed(question: &str) -> Result<bool, Failure> {
    Ok(matches!(answer(&format!("{question} [y/N] "))?.to_lowercase().as_str(), "y" | "yes"))
}

/// Whether the user types the machine's name, where what is lost cannot be had back; told if it is another one.
pub fn named(lost: &str, hostname: &str) -> Result<bool, Failure> {
    let is_its_name = answer(&format!("{lost} Type the machine's name ({hostname}) to go on: "))? == hostname;
    if !is_its_name {
        tell("that is not its name: nothing was done");
    }
    Ok(is_its_name)
}

/// What the user types. Without a terminal there is nobody to ask: `--yes` has to say it.
fn answer(question: &str) -> Result<String, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage("--yes", "this needs a confirmation, and there is no terminal to ask on").remedy("add --yes"));
    }
    let _ = write!(std::io::stderr(), "{question}");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| Failure::of("standard input", &error))?;
    Ok(line.trim().to_owned())
}
