//! Capabilities and the user that a service runs as.

use std::io;

use machine::service::{Capabilities, ServiceSpec};
use rustix::process::{Gid, Uid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// Who a process becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    id: u32,
    /// `None` leaves the sets as init's.
    capabilities: Option<CapabilitySet>,
    no_new_privileges: bool,
}

/// What a spec asks for. Names were checked when the service was put.
pub fn identity(spec: &ServiceSpec) -> Identity {
    let capabilities = match &spec.capabilities {
        Capabilities::All => None,
        Capabilities::Only(names) => Some(names.iter().filter_map(|name| by_name(name)).collect()),
    };
    Identity { id: spec.account.id(), capabilities, no_new_privileges: spec.no_new_privileges }
}

/// The first name that is not a capability's.
pub fn unknown_name(capabilities: &Capabilities) -> Option<&str> {
    match capabilities {
        Capabilities::All => None,
        Capabilities::Only(names) => names.iter().map(String::as_str).find(|name| by_name(name).is_none()),
    }
}

/// `net_bind_service`, as in capabilities(7) without `CAP_`.
fn by_name(name: &str) -> Option<CapabilitySet> {
    let lower_case = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    CapabilitySet::from_name(&name.to_ascii_uppercase()).filter(|_| lower_case)
}

impl Identity {
    /// Becomes that user with those capabilities.
    pub fn assume(&self) -> Result<(), (&'static str, io::Error)> {
        fn named(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> (&'static str, io::Error) {
            move |error| (step, error.into())
        }
        let all = thread::capabilities(None).map_err(named("read the capabilities"))?.permitted;
        let kept = self.capabilities.unwrap_or(all);
        for capability in CapabilitySet::all().iter().filter(|capability| !kept.contains(*capability)) {
            match thread::remove_capability_from_bounding_set(capability) {
                // One that the kernel does not know cannot be in the set.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(("drop capabilities from the bounding set", error.into())),
            }
        }
        if self.id != 0 {
            let (user, group) = (Uid::from_raw(self.id), Gid::from_raw(self.id));
            thread::set_keep_capabilities(true).map_err(named("keep capabilities"))?;
            thread::set_thread_groups(&[]).map_err(named("leave the groups"))?;
            thread::set_thread_res_gid(group, group, group).map_err(named("change the group"))?;
            thread::set_thread_res_uid(user, user, user).map_err(named("change the user"))?;
        }
        if self.id != 0 || self.capabilities.is_some() {
            let kept = kept & all;
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
            thread::set_capabilities(None, sets).map_err(named("set the capabilities"))?;
            if self.id != 0 {
                for capability in kept.iter() {
                    thread::configure_capability_in_ambient_set(capability, true).map_err(named("pass capabilities on"))?;
                }
            }
        }
        if self.no_new_privileges {
            thread::set_no_new_privs(true).map_err(named("forbid new privileges"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_manual() {
        assert_eq!(by_name("net_bind_service"), Some(CapabilitySet::NET_BIND_SERVICE));
        for wrong in ["NET_BIND_SERVICE", "cap_net_admin", "", "_"] {
            assert_eq!(by_name(wrong), None, "{wrong}");
        }
        let capabilities = Capabilities::Only(vec!["chown".into(), "fly".into()]);
        assert_eq!(unknown_name(&capabilities), Some("fly"));
        assert_eq!(unknown_name(&Capabilities::All), None);
    }
}
