//! The manifest that a machine is offered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use update::{Policy, Running, SignedManifest, TrustedKeys, admissible};

fuzz_target!(|bytes: &[u8]| {
    let Ok(signed) = SignedManifest::parse(bytes) else { return };
    let keys = TrustedKeys::parse(include_bytes!("../../vectors/update-keys.json")).expect("the vectors' keys");
    if let Err(error) = signed.verify(&keys, 1_790_000_000) {
        assert!(!error.to_string().contains('\u{1b}'));
    }
    let manifest = signed.peek();
    manifest.check().expect("what was read keeps the rules");
    let running = Running {
        version: manifest.minimum_version.clone(),
        profile: manifest.profile.clone(),
        architecture: manifest.architecture.clone(),
        root_hash: None,
        config_version: manifest.config_versions.first().cloned(),
    };
    admissible(manifest, &running, &Policy { allow_downgrade: true }).expect("the very least that it asks for");
});
