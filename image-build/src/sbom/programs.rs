//! The executables of an image that Debian packages do not bring: where they were built, where they are, who made them.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::plan::Inputs;
use crate::profile::{ArchiveProgram, Profile};

/// An executable in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it was built.
    pub file: PathBuf,
    /// Where it is in the image; what is packed inside of something follows after a colon.
    pub place: String,
    pub origin: Origin,
}

/// Who made a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The workspace.
    Workspace { program: String },
    /// A file of a component.
    Component { name: String, file: String },
}

/// Every such program of a profile.
pub fn of_image(profile: &Profile, inputs: &Inputs) -> Result<Vec<Program>> {
    let ours = |name: &str, place: String| Program {
        file: inputs.binaries.join(name),
        place,
        origin: Origin::Workspace { program: name.to_owned() },
    };
    let theirs = |name: &str, file: &str, place: String| Program {
        file: inputs.components.join(name).join("bin").join(file),
        place,
        origin: Origin::Component { name: name.to_owned(), file: file.to_owned() },
    };
    let mut found = vec![ours("init", "initramfs:/init".to_owned())];
    found.extend(profile.programs.iter().map(|program| ours(&program.name, program.path.clone())));
    found.extend(profile.components.iter().map(|component| theirs(&component.name, &component.file, component.path.clone())));
    for archive in &profile.archives {
        let place = format!("/usr/share/corten/images/{}.tar:{}", archive.name, archive.path);
        found.push(match &archive.from {
            ArchiveProgram::Program(name) => ours(name, place),
            ArchiveProgram::Component(from) => {
                let (name, file) =
                    from.split_once('/').with_context(|| format!("archive {}: {from:?}: expected <component>/<file>", archive.name))?;
                theirs(name, file, place)
            }
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn programs_of_every_profile_are_found() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let inputs = Inputs {
            binaries: "binaries".into(),
            components: "components".into(),
            component_sources: "sources".into(),
            version: "1".into(),
            date: 0,
            signs_update: false,
        };
        let profile = Profile::load(&repository.join("configs/profiles/controlplane.toml")).expect("profile");
        let found = of_image(&profile, &inputs).expect("programs");
        let origins: Vec<&Origin> = found.iter().map(|program| &program.origin).collect();
        assert!(origins.contains(&&Origin::Workspace { program: "nodeagent".into() }), "{origins:?}");
        for (name, file) in [("kubernetes", "controlplane"), ("etcd", "etcd"), ("runc", "runc"), ("coredns", "coredns")] {
            let program = found.iter().find(|program| program.origin == Origin::Component { name: name.into(), file: file.into() });
            let program = program.unwrap_or_else(|| panic!("{name}/{file} is not listed"));
            assert_eq!(program.file, Path::new("components").join(name).join("bin").join(file));
        }
    }
}
