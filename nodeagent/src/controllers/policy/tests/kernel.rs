//! The kernel's own word for what it was given: tables that came by changes are those that were made at once.

use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::controllers::namespace::Namespace;

/// Loads commands, and what the table is like then, in an order that does not depend on how it came to be.
pub fn load(namespace: &Namespace, commands: &str) -> Result<Vec<String>, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), commands).unwrap();
    let output = namespace.command("nft").arg("-f").arg(file.path()).output().unwrap();
    if !output.status.success() {
        return Err(format!("{}\n{commands}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(listed(namespace))
}

pub fn listed(namespace: &Namespace) -> Vec<String> {
    let shown = namespace.text(&["nft", "list", "table", "inet", render::TABLE]);
    let mut blocks: Vec<String> = shown.split("\n\n").map(sorted).collect();
    blocks.sort();
    blocks
}

/// The elements of a set come in any order.
fn sorted(block: &str) -> String {
    let block =
        block.trim_end_matches("}\n}\n").trim_end().trim_end_matches('}').replace(&format!("table inet {} {{\n", render::TABLE), "");
    let Some((head, elements)) = block.split_once("elements = {") else { return block.trim().to_owned() };
    let mut elements: Vec<&str> = elements.trim().trim_end_matches('}').split(',').map(str::trim).collect();
    elements.sort_unstable();
    format!("{} {elements:?}", head.trim())
}

#[test]
fn changes_lead_to_the_same_table_as_beginning_anew() {
    let (changed, anew) = (Namespace::new(), Namespace::new());
    let mut runner = TestRunner::deterministic();
    let mut before: Option<Compiled> = None;
    let mut changes = 0;
    for _ in 0..40 {
        let world = world::any().new_tree(&mut runner).unwrap().current();
        let after = compile(&world.cluster(), &own());
        let whole = render::whole(&after.table);
        let step = before.as_ref().and_then(|before| render::change(&before.table, &after.table));
        changes += usize::from(step.is_some());
        let by_change = load(&changed, &step.unwrap_or_else(|| whole.clone())).unwrap();
        assert_eq!(by_change, load(&anew, &whole).unwrap(), "{world}");
        before = Some(after);
    }
    assert!(changes > 10, "{changes}");
}
