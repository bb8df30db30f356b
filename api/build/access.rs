//! The permission table as the descriptors have it. Shared by build.rs and the test that shows what it refuses.

use anyhow::{Context, Result, bail};
use prost_reflect::{DescriptorPool, Value};

/// One method's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `/corten.machine.v1.Machine/GetVersion`
    pub path: String,
    /// Variant of the generated enum `Role`: `Reader`, `Operator` or `Admin`; `Unspecified` for what only machines call.
    pub role: &'static str,
    /// Variant of the generated enum `Machines`.
    pub machines: &'static str,
    pub maintenance: bool,
    pub recovery: bool,
}

/// Every method of every service, sorted by path. A method without `access`, or without a role in it, is an error.
pub fn table(pool: &DescriptorPool) -> Result<Vec<Row>> {
    let extension =
        pool.get_extension_by_name("corten.machine.v1.access").context("the protos define no method option corten.machine.v1.access")?;
    let mut rows = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let options = method.options();
        if !options.has_extension(&extension) {
            bail!("{path} has no access option; expected `option (access) = {{ role: ROLE_... }};` in its body");
        }
        let Value::Message(access) = options.get_extension(&extension).into_owned() else {
            bail!("{path}: the access option is no message");
        };
        let number = |name: &str| access.get_field_by_name(name).and_then(|v| v.as_enum_number());
        let machines = match number("machines") {
            Some(1) => "Joined",
            Some(2) => "Any",
            _ => "Unspecified",
        };
        let role = match number("role") {
            Some(0) | None if machines != "Unspecified" => "Unspecified",
            Some(1) => "Reader",
            Some(2) => "Operator",
            Some(3) => "Admin",
            other => bail!("{path}: role {} in its access option; expected ROLE_READER, ROLE_OPERATOR or ROLE_ADMIN", other.unwrap_or(0)),
        };
        let says = |name: &str| access.get_field_by_name(name).and_then(|v| v.as_bool()).unwrap_or(false);
        let (maintenance, recovery) = (says("maintenance"), says("maintenance") || says("recovery"));
        rows.push(Row { path, role, machines, maintenance, recovery });
    }
    rows.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(rows)
}
