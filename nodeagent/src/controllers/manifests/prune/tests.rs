use super::*;

fn reference(name: &str) -> Reference {
    Reference { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned(), namespace: Some("a".to_owned()), name: name.to_owned() }
}

fn set(names: &[&str]) -> BTreeSet<Reference> {
    names.iter().map(|name| reference(name)).collect()
}

#[test]
fn what_nobody_wants_any_more_is_surplus() {
    let inventory = Inventory::from([
        ("cp-1".to_owned(), set(&["wanted", "gone", "of-two"])),
        ("cp-2".to_owned(), set(&["of-two", "theirs"])),
        ("cp-9".to_owned(), set(&["wanted", "heirloom"])),
    ]);
    let wanted = set(&["wanted", "new"]);
    assert_eq!(surplus(&inventory, "cp-1", &BTreeSet::new(), &wanted), [reference("gone")]);
    let departed = BTreeSet::from(["cp-9".to_owned()]);
    assert_eq!(surplus(&inventory, "cp-1", &departed, &wanted), [reference("gone"), reference("heirloom")]);
    let departed = BTreeSet::from(["cp-2".to_owned()]);
    assert_eq!(surplus(&inventory, "cp-1", &departed, &wanted), [reference("gone"), reference("of-two"), reference("theirs")]);
}

#[test]
fn who_applies_an_object_owns_it() {
    let entry = |manager: &str, operation: &str, subresource: Option<&str>| ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(operation.to_owned()),
        subresource: subresource.map(str::to_owned),
        ..ManagedFieldsEntry::default()
    };
    let ours = || entry(FIELD_MANAGER, "Apply", None);
    for (entries, expected) in [
        (vec![ours()], Owner::Ours),
        (vec![ours(), entry("kubectl-edit", "Update", None)], Owner::Ours),
        (vec![ours(), entry("kube-controller-manager", "Apply", Some("status"))], Owner::Ours),
        (vec![ours(), entry("corten-dns", "Apply", None)], Owner::Ours),
        (vec![ours(), entry("flux", "Apply", None)], Owner::Shared),
        (vec![ours(), entry("kubectl-client-side-apply", "Update", None)], Owner::Shared),
        (vec![entry("kubectl-create", "Update", None)], Owner::Others),
        (vec![entry(FIELD_MANAGER, "Update", None)], Owner::Others),
        (vec![], Owner::Others),
    ] {
        assert_eq!(owner(&entries), expected, "{entries:?}");
    }
}
