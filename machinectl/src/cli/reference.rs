//! docs/machinectl.md: the reference of all commands, made from the help texts so that it cannot be wrong.

use std::path::Path;

use clap::{Command, CommandFactory};

use super::Cli;

const HEAD: &str = "# machinectl: the commands\n\n\
    Made from the program's own help by a test (`make golden`); edit the doc comments in `machinectl/src`, not this page.\n";

fn reference() -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = HEAD.to_owned();
    section(&mut command, "", &mut text);
    text
}

/// Flags of all commands stand with the program only: 30 repetitions would hide what is a command's own.
fn section(command: &mut Command, parents: &str, text: &mut String) {
    let name = format!("{parents}{}", command.get_name());
    let own = if parents.is_empty() {
        command.clone()
    } else {
        command.clone().mut_args(|argument| {
            let everywhere = argument.is_global_set() || argument.get_id() == "help";
            argument.hide(everywhere)
        })
    };
    let help = own.bin_name(&name).render_help().to_string();
    text.push_str(&format!("\n## {name}\n\n```\n{}\n```\n", help.trim_end()));
    for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
        section(child, &format!("{name} "), text);
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/machinectl.md");
    let text = reference();
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("write docs/machinectl.md");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let diff = similar::TextDiff::from_lines(golden.as_str(), text.as_str());
    assert!(golden == text, "docs/machinectl.md differs; if that is meant, run `make golden`:\n{}", diff.unified_diff());
}

#[test]
fn the_examples_in_the_user_guide_are_commands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/upgrades.md");
    let text = std::fs::read_to_string(path).expect("docs/upgrades.md");
    let examples: Vec<&str> = text.lines().filter(|line| line.starts_with("machinectl ")).collect();
    assert!(examples.len() > 10, "{examples:?}");
    for example in examples {
        let parsed = Cli::command().try_get_matches_from(example.split_whitespace());
        assert!(parsed.is_ok(), "{example}: {}", parsed.expect_err("an error"));
    }
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}
