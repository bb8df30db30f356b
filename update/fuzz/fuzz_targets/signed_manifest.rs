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
    if let Some(tree) = &manifest.hash_tree {
        let [root, verity] = [&manifest.parts[0], &manifest.parts[1]];
        // Of a large root it would take too long.
        if root.size_bytes <= 4 * 1024 * 1024 {
            let blocks = tree.blocks(std::io::repeat(7), root.size_bytes).expect("a root that has a tree");
            let bytes: u64 = blocks.map(|block| block.expect("it has no end").1.len() as u64).sum();
            assert_eq!(bytes, verity.size_bytes);
        }
    }
    let running = Running {
        version: manifest.minimum_version.clone(),
        profile: manifest.profile.clone(),
        architecture: manifest.architecture.clone(),
        root_hash: None,
        config_version: manifest.config_versions.first().cloned(),
    };
    admissible(manifest, &running, &Policy { allow_downgrade: true }).expect("the very least that it asks for");
});
