//! v1 only grows: every line of the golden must still be true. `make golden` adds lines; it never takes one away.

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};

use crate::golden;

const PACKAGE: &str = "corten.machine.v1";
const GOLDEN: &str = "golden/v1.txt";

/// One line for each thing that a client may rely on, sorted.
fn contract(pool: &DescriptorPool) -> Vec<String> {
    let mut lines = Vec::new();
    for message in pool.all_messages().filter(|m| m.package_name() == PACKAGE) {
        lines.extend(fields(&message));
    }
    for enumeration in pool.all_enums().filter(|e| e.package_name() == PACKAGE) {
        lines.extend(values(&enumeration));
    }
    for service in pool.services().filter(|s| s.package_name() == PACKAGE) {
        lines.extend(methods(&service));
    }
    lines.sort();
    lines
}

fn fields(message: &MessageDescriptor) -> Vec<String> {
    let line = |f: FieldDescriptor| {
        let oneof = f.containing_oneof().map(|o| format!(" in {}", o.name())).unwrap_or_default();
        let repeated = if f.is_list() { "repeated " } else { "" };
        format!("message {} field {:3} {} {repeated}{}{oneof}", message.name(), f.number(), f.name(), kind(&f))
    };
    message.fields().map(line).collect()
}

fn kind(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(enumeration) => enumeration.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn values(enumeration: &EnumDescriptor) -> Vec<String> {
    enumeration.values().map(|v| format!("enum {} value {} {}", enumeration.name(), v.number(), v.name())).collect()
}

fn methods(service: &ServiceDescriptor) -> Vec<String> {
    let stream = |streaming| if streaming { "stream " } else { "" };
    let line = |m: MethodDescriptor| {
        let (from, to) = (stream(m.is_client_streaming()), stream(m.is_server_streaming()));
        format!("rpc {}/{} {from}{} -> {to}{}", service.name(), m.name(), m.input().name(), m.output().name())
    };
    service.methods().map(line).collect()
}

/// Lines of the golden that the protos no longer keep.
fn broken<'a>(golden: &'a str, contract: &[String]) -> Vec<&'a str> {
    golden.lines().filter(|line| !contract.iter().any(|kept| kept == line)).collect()
}

#[test]
fn v1_only_grows() {
    let pool = DescriptorPool::decode(api::FILE_DESCRIPTOR_SET).expect("the descriptor set decodes");
    let contract = contract(&pool);
    let broken_lines = broken(&golden::read(GOLDEN), &contract).join("\n");
    assert!(broken_lines.is_empty(), "clients rely on these; add new fields beside them instead of changing them:\n{broken_lines}");
    golden::check(GOLDEN, &(contract.join("\n") + "\n"));
}

#[test]
fn what_is_removed_renumbered_or_retyped_is_seen() {
    let before = "message M field   1 a uint64\nmessage M field   2 b string\nrpc S/Do M -> M\n";
    let now = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    let same = now(&["message M field   1 a uint64", "message M field   2 b string", "message M field   3 c bool", "rpc S/Do M -> M"]);
    assert!(broken(before, &same).is_empty());
    let renumbered = now(&["message M field   1 a uint64", "message M field   3 b string", "rpc S/Do M -> M"]);
    assert_eq!(broken(before, &renumbered), ["message M field   2 b string"]);
    let changed = now(&["message M field   1 a string", "message M field   2 b string", "rpc S/Do M -> stream M"]);
    assert_eq!(broken(before, &changed), ["message M field   1 a uint64", "rpc S/Do M -> M"]);
}
