//! The machine's own screen: the dashboard in front, lines behind it, and neither where the config does not want it.

mod picture;

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tests::node::{Node, Up};
use tests::until::until;

use picture::{Letters, Picture};

/// The dashboard's last line.
const FOOT: &str = "Alt+F1: what the kernel and the machine's programs say   Alt+F2: this";
/// A picture a second, on a processor that is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

/// The screen as it is now.
fn picture(node: &Node) -> anyhow::Result<Picture> {
    let file = node.file("screen.ppm");
    node.machine()?.qmp()?.execute("screendump", json!({ "filename": file }))?;
    Picture::of(&std::fs::read(&file).with_context(|| file.display().to_string())?)
}

fn press(node: &Node, keys: &[&str]) -> anyhow::Result<()> {
    let keys: Vec<_> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
    node.machine()?.qmp()?.execute("send-key", json!({ "keys": keys }))?;
    Ok(())
}

/// Waits for the dashboard, and gives the letters of its last line.
fn dashboard(node: &Node) -> anyhow::Result<Letters> {
    until("the dashboard on the screen", PATIENCE, || picture(node)?.learn(FOOT).context("its last line is not there"))
}

/// Waits until the screen's text holds all of these, or none of them.
fn shows(node: &Node, letters: &Letters, words: &[&str], wanted: bool) -> anyhow::Result<()> {
    until("the screen's text", PATIENCE, || {
        let text = picture(node)?.read(letters).join("\n");
        ensure!(words.iter().all(|word| text.contains(word) == wanted), "{words:?} {wanted}:\n{}", text.trim_end());
        Ok(())
    })
}

#[test]
#[ignore = "boots a VM: make vm-test T=screen"]
fn the_machines_screen_shows_how_it_is() -> anyhow::Result<()> {
    let mut node = Node::new("bare")?;
    node.hardware.extra = ["-device", "VGA"].map(str::to_owned).to_vec();
    let disk = node.disk()?;
    node.boot(&disk)?;
    let up = node.up()?;
    ensure!(matches!(up, Up::Maintenance { .. }), "the machine has a config already");
    let letters = dashboard(&node)?;
    // All letters of these words stand in the last line as well.
    shows(&node, &letters, &["maintenance mode"], true)?;
    node.apply(&up)?;
    until("another stage in the first line", PATIENCE, || {
        let first = picture(&node)?.read(&letters).swap_remove(0);
        ensure!(first.contains("cp") && !first.contains("maintenance"), "{first}");
        Ok(())
    })?;
    shows(&node, &letters, &["checks pass"], true)?;
    println!("{}", picture(&node)?.read(&letters).join("\n"));
    // Lines are on the first terminal, and nowhere else.
    shows(&node, &letters, &["corten: "], false)?;
    press(&node, &["alt", "f1"])?;
    shows(&node, &letters, &["corten: "], true)?;
    ensure!(picture(&node)?.learn(FOOT).is_none(), "the dashboard is on the first terminal too");
    press(&node, &["alt", "f2"])?;
    dashboard(&node)?;
    node.ask(&Up::Configured, &["apply", "-f", &node.config(), "--patch", "{ machine: { console: { dashboard: false } } }"])?;
    shows(&node, &letters, &["corten: "], true)?;
    node.ask(&Up::Configured, &["apply", "-f", &node.config()])?;
    dashboard(&node).map(drop)
}
