//! Runs nft.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use machine::Root;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// A table of ten thousands of elements takes the kernel less than a second.
const DEADLINE: Duration = Duration::from_secs(30);

/// A table of family inet as the kernel has it; none without one.
pub async fn list(root: &Root, table: &str) -> anyhow::Result<Option<String>> {
    listed(root, &[], table).await
}

/// The same without what is in its sets.
pub async fn outline(root: &Root, table: &str) -> anyhow::Result<Option<String>> {
    listed(root, &["--terse"], table).await
}

async fn listed(root: &Root, options: &[&str], table: &str) -> anyhow::Result<Option<String>> {
    let mut command = Command::new(root.path("/usr/sbin/nft"));
    let output = command.args(options).args(["list", "table", "inet", table]).kill_on_drop(true).output();
    let output = timeout(DEADLINE, output).await.context("waiting for nft")?.context("running nft")?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        false if said.contains("No such file or directory") => Ok(None),
        false => anyhow::bail!("nft list table inet {table}: {}", said.trim()),
    }
}

/// Carries commands out, all or none.
pub async fn load(root: &Root, rules: &str) -> anyhow::Result<()> {
    let mut command = Command::new(root.path("/usr/sbin/nft"));
    command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("running nft")?;
    let mut stdin = child.stdin.take().context("nft has no input")?;
    let output = async {
        stdin.write_all(rules.as_bytes()).await.context("writing to nft")?;
        drop(stdin);
        child.wait_with_output().await.context("waiting for nft")
    };
    let output = timeout(DEADLINE, output).await.context("waiting for nft")??;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Removes a table; one that is not there is done.
pub async fn remove(root: &Root, table: &str) -> anyhow::Result<()> {
    load(root, &format!("table inet {table}\ndelete table inet {table}\n")).await
}
