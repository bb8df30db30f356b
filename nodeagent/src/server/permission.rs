//! Who may call what: stage, caller and the method's own `access` option decide. Whatever is not named here is denied.

use std::fmt;

use api::Access;
use api::v1::{Machines, Role};
use machine::stage::Stage;

use super::scrape;

/// A caller, as far as permission goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// No certificate was shown.
    Anonymous,
    /// The same, but a token by which the cluster's API server knows who it is, where such tokens count; it is asked after this table.
    Bearer,
    /// A certificate of the machine authority, valid now, with the highest of the people's roles in it.
    Certified(Option<Role>),
    /// The certificate is a machine's.
    Machine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Denied(Denial),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    UnknownMethod,
    /// The call needs a client certificate.
    NoCertificate,
    /// The certificate was valid when the connection was made, and no longer is.
    Expired,
    /// A configured machine does not take this call from just anybody, whatever stage it is in.
    IdentityHeld,
    /// The certificate's role is too low for the method.
    Role {
        has: Option<Role>,
        needs: Role,
    },
    /// The method is for other machines.
    MachinesOnly,
    /// The method does not answer in this stage.
    Stage(Stage),
}

/// The health service of gRPC itself: for whoever may call GetVersion.
const HEALTH: Access = Access { role: Role::Reader, machines: Machines::Unspecified, maintenance: true, recovery: true };
/// What monitoring asks for, which is told by Resource.List and Metrics.Stream as well.
const METRICS: Access = Access { role: Role::Reader, machines: Machines::Unspecified, maintenance: false, recovery: false };
const REFLECTION: Access = Access { role: Role::Reader, machines: Machines::Unspecified, maintenance: false, recovery: false };

/// Methods that are not of our own protos.
pub const FOREIGN: [(&str, Access); 5] = [
    ("/grpc.health.v1.Health/Check", HEALTH),
    ("/grpc.health.v1.Health/Watch", HEALTH),
    (scrape::PATH, METRICS),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", REFLECTION),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", REFLECTION),
];

/// What the method asks of its caller; `None` for one that nobody may call.
pub fn access(path: &str) -> Option<Access> {
    api::access(path).or_else(|| FOREIGN.iter().find(|(known, _)| *known == path).map(|(_, access)| *access))
}

/// Who shows a bearer token and no certificate: more than nobody in the one place where such tokens count.
pub fn bearer(path: &str) -> Caller {
    if path == scrape::PATH { Caller::Bearer } else { Caller::Anonymous }
}

/// The permission table. `identity_held` tells whether STATE holds an identity, or cannot be asked. Golden: golden/permissions.txt.
pub fn permitted(stage: Stage, identity_held: bool, caller: Caller, access: Option<Access>) -> Decision {
    let Some(access) = access else { return Decision::Denied(Denial::UnknownMethod) };
    if let Some(denial) = stage_denies(stage, access).or_else(|| caller_denied(stage, identity_held, caller, access)) {
        return Decision::Denied(denial);
    }
    Decision::Allowed
}

fn stage_denies(stage: Stage, access: Access) -> Option<Denial> {
    let answers = match stage {
        Stage::Maintenance | Stage::Installing => access.maintenance,
        Stage::Recovery => access.recovery,
        Stage::Booting | Stage::Running | Stage::Upgrading => true,
        // On the way down the machine is looked at, and not changed any more.
        Stage::Resetting | Stage::Rebooting | Stage::ShuttingDown => access.role == Role::Reader,
    };
    (!answers).then_some(Denial::Stage(stage))
}

fn caller_denied(stage: Stage, identity_held: bool, caller: Caller, access: Access) -> Option<Denial> {
    match caller {
        Caller::Machine if access.machines != Machines::Unspecified => None,
        Caller::Machine => Some(Denial::Role { has: None, needs: access.role }),
        Caller::Bearer => None,
        Caller::Anonymous if access.machines == Machines::Any => None,
        _ if access.role == Role::Unspecified => Some(Denial::MachinesOnly),
        Caller::Certified(Some(role)) if role as i32 >= access.role as i32 => None,
        Caller::Certified(has) => Some(Denial::Role { has, needs: access.role }),
        // Whoever applied the config may see what comes of it.
        Caller::Anonymous if stage == Stage::Installing && access.role == Role::Reader => None,
        Caller::Anonymous if stage != Stage::Maintenance => Some(Denial::NoCertificate),
        Caller::Anonymous if identity_held && access.role != Role::Reader => Some(Denial::IdentityHeld),
        Caller::Anonymous => None,
    }
}

impl Denial {
    /// What to do about it.
    pub fn remedy(self) -> String {
        match self {
            Denial::UnknownMethod => "compare the versions of client and machine: machinectl version".to_owned(),
            Denial::NoCertificate => "connect again with the client certificate of your client config".to_owned(),
            Denial::Expired => "make a new one: machinectl gen client".to_owned(),
            Denial::IdentityHeld => "see the console for what keeps the machine from its config".to_owned(),
            Denial::Role { needs, .. } => format!("use a client certificate of role {} (machinectl gen client)", name(Some(needs))),
            Denial::MachinesOnly => "nothing: machines call it by themselves".to_owned(),
            Denial::Stage(_) => "wait for the machine to leave the stage, and see its console for what it waits for".to_owned(),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::UnknownMethod => f.write_str("the machine API has no such method"),
            Denial::NoCertificate => f.write_str("the call needs a client certificate"),
            Denial::Expired => f.write_str("the client certificate has expired"),
            Denial::IdentityHeld => f.write_str("the machine has an identity already, or its STATE volume cannot be read"),
            Denial::Role { has, needs } => write!(f, "the call needs role {}, the certificate has {}", name(Some(*needs)), name(*has)),
            Denial::MachinesOnly => f.write_str("the call is for other machines of the cluster"),
            Denial::Stage(stage) => write!(f, "the call is not answered in stage {}", stage.name()),
        }
    }
}

fn name(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Admin) => "os:admin",
        Some(Role::Operator) => "os:operator",
        Some(Role::Reader) => "os:reader",
        Some(Role::Unspecified) | None => "none",
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const CALLERS: [(&str, bool, Caller); 8] = [
        ("nobody", false, Caller::Anonymous),
        ("token", true, Caller::Bearer),
        ("nobody, identity held", true, Caller::Anonymous),
        ("no role", true, Caller::Certified(None)),
        ("reader", true, Caller::Certified(Some(Role::Reader))),
        ("operator", true, Caller::Certified(Some(Role::Operator))),
        ("admin", true, Caller::Certified(Some(Role::Admin))),
        ("machine", true, Caller::Machine),
    ];

    #[test]
    fn matrix() {
        let methods: Vec<(&str, Option<Access>)> = api::ACCESS
            .iter()
            .chain(&FOREIGN)
            .map(|(path, access)| (*path, Some(*access)))
            .chain([("/corten.machine.v1.Machine/NoSuchMethod", access("/corten.machine.v1.Machine/NoSuchMethod"))])
            .collect();
        let mut text = String::new();
        for stage in Stage::ALL {
            for (caller_name, identity_held, caller) in CALLERS {
                let allowed: Vec<&str> = methods
                    .iter()
                    .filter(|(path, access)| {
                        let caller = if caller == Caller::Bearer { bearer(path) } else { caller };
                        permitted(stage, identity_held, caller, *access) == Decision::Allowed
                    })
                    .map(|(path, _)| path.trim_start_matches("/corten.machine.v1.").trim_start_matches('/'))
                    .collect();
                writeln!(text, "{} x {caller_name}:{}", stage.name(), if allowed.is_empty() { " nothing" } else { "" }).unwrap();
                allowed.iter().for_each(|path| writeln!(text, "    {path}").unwrap());
            }
        }
        crate::golden::check("src/golden/permissions.txt", &text);
    }

    #[test]
    fn an_unknown_method_is_denied_to_everybody() {
        for path in
            ["", "/", "/corten.machine.v1.Machine/getversion", "/corten.machine.v1.Machine/GetVersion/", "/grpc.health.v1.Health/List"]
        {
            assert_eq!(access(path), None, "{path}");
        }
        let admin = Caller::Certified(Some(Role::Admin));
        assert_eq!(permitted(Stage::Running, true, admin, None), Decision::Denied(Denial::UnknownMethod));
    }
}
