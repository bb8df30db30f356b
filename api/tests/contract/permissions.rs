//! The permission table: its printed matrix as a golden, and what the build refuses.

use api::v1::{Machines, Role};
use api::{ACCESS, Access, access};

use crate::{golden, table};

fn matrix() -> String {
    let width = ACCESS.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:8}  {:8}  maintenance  recovery\n", "method", "role", "machines");
    for (path, Access { role, machines, maintenance, recovery }) in ACCESS {
        let role = match role {
            Role::Unspecified => "-".to_owned(),
            role => role.as_str_name().trim_start_matches("ROLE_").to_lowercase(),
        };
        let machines = match machines {
            Machines::Unspecified => "-",
            Machines::Joined => "joined",
            Machines::Any => "any",
        };
        let word = |answers: bool| if answers { "yes" } else { "-" };
        text += &format!("{path:width$}  {role:8}  {machines:8}  {:11}  {}\n", word(*maintenance), word(*recovery));
    }
    text
}

#[test]
fn the_matrix_is_as_printed() {
    golden::check("golden/permissions.txt", &matrix());
}

#[test]
fn every_method_is_found_and_no_other() {
    for (path, row) in ACCESS {
        assert_eq!(access(path), Some(*row), "{path}");
    }
    assert_eq!(access("/corten.machine.v1.Machine/Explode"), None);
    assert_eq!(access(""), None);
}

#[test]
fn maintenance_changes_nothing_but_config_and_power() {
    let open: Vec<_> = ACCESS.iter().filter(|(_, a)| a.maintenance && a.role != Role::Reader).map(|(path, _)| *path).collect();
    assert_eq!(open, ["/corten.machine.v1.Config/Apply", "/corten.machine.v1.Machine/Reboot"]);
}

/// A new image, or none of what is on the disk: the ways out.
#[test]
fn recovery_can_be_left() {
    let open: Vec<_> = ACCESS.iter().filter(|(_, a)| a.recovery && !a.maintenance).map(|(path, _)| *path).collect();
    let upgrade = ["Offer", "Rollback", "Start", "Upload", "Watch"].map(|method| format!("/corten.machine.v1.Upgrade/{method}"));
    assert_eq!(open[0], "/corten.machine.v1.Machine/Reset");
    assert_eq!(open[1..], upgrade);
}

/// What the build says of a method whose body is `body`.
fn refused(body: &str) -> String {
    let directory = std::env::temp_dir().join(format!("api-permissions-{}-{}", std::process::id(), body.len()));
    std::fs::create_dir_all(&directory).expect("temporary directory");
    let proto = format!(
        "syntax = \"proto3\";\npackage t;\nimport \"corten/machine/v1/access.proto\";\nmessage M {{}}\n\
         service S {{\n  rpc Do(M) returns (M) {{ {body} }}\n}}\n"
    );
    std::fs::write(directory.join("t.proto"), proto).expect("write t.proto");
    let mut compiler = protox::Compiler::new([directory.as_path(), std::path::Path::new("proto")]).expect("compiler");
    compiler.include_imports(true).open_file(directory.join("t.proto")).expect("compile t.proto");
    let pool = compiler.descriptor_pool();
    std::fs::remove_dir_all(&directory).expect("remove temporary directory");
    table::table(&pool).expect_err("the method must be refused").to_string()
}

#[test]
fn a_method_without_access_fails_the_build() {
    assert_eq!(refused(""), "/t.S/Do has no access option; expected `option (access) = { role: ROLE_... };` in its body");
}

#[test]
fn a_method_without_a_role_fails_the_build() {
    let text = refused("option (corten.machine.v1.access) = { maintenance: true };");
    assert_eq!(text, "/t.S/Do: role 0 in its access option; expected ROLE_READER, ROLE_OPERATOR or ROLE_ADMIN");
}
