//! A machine with two slots, played on a temporary directory: files for partitions, a directory for the ESP, and the boot loader's part.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use machine::Root;
use machine::disk::{Slot, Volume};
use machine::protocol::{BootFacts, ImageFacts, VolumeState, VolumeStatus};
use update::{Digest, HashTree, Header, PartName, SignedManifest, SigningKey, UpdateFile, Version};

use super::Upgrades;
use super::esp::{Entry, Esp, Tries};
use super::fixtures::uki;
use super::offer::Wanted;
use super::records::Record;
use super::upload::Sent;
use super::work::{Asked, Done, Offered};
use crate::config::{Current, Generations};
use crate::failpoint::Failpoints;
use crate::init_client::InitClient;
use crate::node::Node;
use crate::power::Power;
use crate::refusal::Refusal;
use crate::resources::upgrade::SlotStatus;

const ROOT_BYTES: usize = 1536 * 1024;
pub const SLOT_BYTES: u64 = 2 * 1024 * 1024;

/// What image-build makes.
#[derive(Debug, Clone)]
pub struct Image {
    pub version: String,
    pub profile: String,
    pub kubernetes: String,
    pub etcd: String,
    pub root: Vec<u8>,
    pub verity: Vec<u8>,
    pub uki: Vec<u8>,
    pub root_hash: Digest,
}

impl Image {
    /// Images of one seed have most of their root in common.
    pub fn new(version: &str) -> Image {
        let mut root = noise(7, ROOT_BYTES);
        let change = noise(Digest::of(version.as_bytes()).0[0].into(), 50_000);
        root[700_000..750_000].copy_from_slice(&change);
        let root_hash = Digest::of(&root);
        let verity = noise(root_hash.0[1].into(), 40_000);
        Image::of(version, root, verity, root_hash)
    }

    /// One whose hash tree is a true one, as image-build makes them.
    pub fn hashed(version: &str) -> Image {
        let Image { root, .. } = Image::new(version);
        let mut blocks = hash_tree().blocks(root.as_slice(), root.len() as u64).unwrap();
        let mut verity = vec![0; HashTree::size_bytes(root.len() as u64).unwrap() as usize];
        for block in &mut blocks {
            let (offset, block) = block.unwrap();
            verity[offset as usize..][..block.len()].copy_from_slice(&block);
        }
        let root_hash = blocks.root_hash().unwrap();
        Image::of(version, root, verity, root_hash)
    }

    fn of(version: &str, root: Vec<u8>, verity: Vec<u8>, root_hash: Digest) -> Image {
        let mut kernel = noise(11, 120_000);
        kernel[..32].copy_from_slice(&root_hash.0);
        let uki = uki(&format!("quiet corten.roothash={root_hash}"), &kernel);
        Image {
            version: version.to_owned(),
            profile: "bare".to_owned(),
            kubernetes: String::new(),
            etcd: String::new(),
            root,
            verity,
            uki,
            root_hash,
        }
    }

    pub fn parts(&self) -> [(PartName, &[u8]); 3] {
        [(PartName::Root, &self.root), (PartName::Verity, &self.verity), (PartName::Uki, &self.uki)]
    }

    pub fn header(&self) -> Header {
        Header {
            version: Version::parse(&self.version).unwrap(),
            profile: self.profile.clone(),
            architecture: "x86_64".to_owned(),
            minimum_version: Version::new(0, 1, 0),
            kubernetes: None,
            kernel_release: "6.12.0".to_owned(),
            built_at: 1_700_000_000,
            config_versions: Vec::new(),
            expires_at: None,
            release_notes: String::new(),
            root_hash: self.root_hash,
            slot_bytes: SLOT_BYTES,
        }
    }

    pub fn update(&self) -> Update {
        self.update_with(self.header(), &[key()])
    }

    pub fn update_with(&self, header: Header, keys: &[SigningKey]) -> Update {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<(PartName, PathBuf)> = self
            .parts()
            .into_iter()
            .map(|(name, bytes)| {
                let path = directory.path().join(name.name());
                fs::write(&path, bytes).unwrap();
                (name, path)
            })
            .collect();
        let paths: Vec<(PartName, &Path)> = paths.iter().map(|(name, path)| (*name, path.as_path())).collect();
        let file = directory.path().join("update");
        update::write(fs::File::create(&file).unwrap(), header, &paths, keys, 1, |_| {}).unwrap();
        Update { file: UpdateFile::open(&file).unwrap(), _directory: directory }
    }
}

/// An update file.
#[derive(Debug)]
pub struct Update {
    pub file: UpdateFile,
    _directory: tempfile::TempDir,
}

impl Update {
    pub fn signed(&self) -> &SignedManifest {
        self.file.manifest()
    }

    pub fn id(&self) -> String {
        self.signed().id().to_string()
    }

    pub fn wanted(&self) -> Wanted {
        Wanted { manifest: self.signed().bytes().to_vec(), by: "os:admin/alice".to_owned(), ..Wanted::default() }
    }

    pub fn chunk(&self, digest: &Digest) -> Vec<u8> {
        self.file.compressed(digest).unwrap().unwrap()
    }

    pub fn whole(&self, digest: &Digest) -> Sent {
        Sent { digest: digest.0.to_vec(), data: self.chunk(digest), base: None }
    }

    /// As a patch for machines that run `old`; none where that has nothing like it.
    pub fn patch(&self, digest: &Digest, old: &Update) -> Option<Sent> {
        let base = *update::bases(old.signed().peek(), self.signed().peek()).get(digest)?;
        let chunk = self.signed().peek().distinct_chunks().into_iter().find(|chunk| chunk.sha256 == *digest)?;
        let data = self.file.patch(&chunk, &old.file, &base, 3).unwrap();
        Some(Sent { digest: digest.0.to_vec(), data, base: Some(base) })
    }
}

/// The key that all images of these tests trust.
pub fn key() -> SigningKey {
    SigningKey::from_seed(&[1; 32]).unwrap()
}

/// Of images that have a true one.
pub fn hash_tree() -> HashTree {
    HashTree { uuid: "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap(), salt: "5a17".parse().unwrap() }
}

/// Bytes that do not compress and whose chunks differ.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The disk, and what stays of a machine when its power is cut.
pub struct Disk {
    directory: tempfile::TempDir,
    boots: Mutex<u32>,
}

/// A boot: what was booted, and the agent in it.
pub struct Boot {
    pub slot: Slot,
    pub counted: bool,
    pub node: Node,
    pub upgrades: Arc<Upgrades>,
}

impl Disk {
    /// With an image in slot A, known to be good.
    pub fn new(image: &Image) -> Disk {
        let disk = Disk { directory: tempfile::tempdir().unwrap(), boots: Mutex::new(0) };
        let root = disk.root();
        for (number, label) in ["ESP", "ROOT-A", "ROOT-A-VERITY", "ROOT-B", "ROOT-B-VERITY"].into_iter().enumerate() {
            let name = format!("vda{}", number + 1);
            let sys = root.path(&format!("/sys/class/block/vda/{name}"));
            fs::create_dir_all(&sys).unwrap();
            fs::write(sys.join("uevent"), format!("DEVNAME={name}\nPARTNAME={label}\n")).unwrap();
        }
        fs::create_dir_all(disk.esp_path().join("loader/entries")).unwrap();
        fs::create_dir_all(disk.esp_path().join("corten")).unwrap();
        for slot in Slot::ALL {
            let [root_device, verity] = disk.devices(slot);
            fs::File::create(root_device).unwrap().set_len(SLOT_BYTES).unwrap();
            fs::File::create(verity).unwrap().set_len(128 * 1024).unwrap();
        }
        disk.fill(Slot::A, image);
        let entry = format!("title Corten {} ({})\nversion 1\nsort-key corten\nefi /corten/a.efi\n", image.version, image.profile);
        fs::write(disk.esp_path().join("loader/entries/corten-a.conf"), entry).unwrap();
        disk
    }

    /// The same with a config of one generation.
    pub fn configured(image: &Image) -> Disk {
        let disk = Disk::new(image);
        disk.add_generation();
        disk
    }

    pub fn root(&self) -> Root {
        Root::new(self.directory.path())
    }

    pub fn esp_path(&self) -> PathBuf {
        self.root().path("/dev/vda1")
    }

    pub fn esp(&self) -> Esp {
        Esp::in_directory(self.esp_path(), Failpoints::default())
    }

    /// Device nodes of root and verity.
    pub fn devices(&self, slot: Slot) -> [PathBuf; 2] {
        let (root, verity) = if slot == Slot::A { ("/dev/vda2", "/dev/vda3") } else { ("/dev/vda4", "/dev/vda5") };
        [self.root().path(root), self.root().path(verity)]
    }

    fn fill(&self, slot: Slot, image: &Image) {
        let [root, verity] = self.devices(slot);
        for (path, bytes) in [(root, &image.root), (verity, &image.verity)] {
            let mut contents = fs::read(&path).unwrap();
            contents[..bytes.len()].copy_from_slice(bytes);
            fs::write(path, contents).unwrap();
        }
        fs::write(self.esp_path().join(format!("corten/{}.efi", slot.name())), &image.uki).unwrap();
    }

    /// What is in a slot's three places; an empty UKI for none.
    pub fn read(&self, slot: Slot) -> [Vec<u8>; 3] {
        let [root, verity] = self.devices(slot).map(|device| fs::read(device).unwrap());
        let uki = fs::read(self.esp_path().join(format!("corten/{}.efi", slot.name()))).unwrap_or_default();
        [root, verity, uki]
    }

    /// Whether a slot holds this image, whole.
    pub fn holds(&self, slot: Slot, image: &Image) -> bool {
        let [root, verity, uki] = self.read(slot);
        root.starts_with(&image.root) && verity.starts_with(&image.verity) && uki == image.uki
    }

    /// A new generation of the machine config, in force from the next boot; its number.
    pub fn add_generation(&self) -> u64 {
        let generations = Generations::new(self.root().config_directory());
        let number = generations.numbers().unwrap().last().map_or(1, |last| last + 1);
        let number = generations.add(&format!("# {number}\n{}", crate::server::testing::config()), "os:admin/alice", 1).unwrap();
        generations.point(&Current::lasting(number)).unwrap();
        number
    }

    pub fn generation(&self) -> u64 {
        Generations::new(self.root().config_directory()).current().unwrap().unwrap().generation
    }

    pub fn entries(&self) -> Vec<String> {
        self.esp().entries().unwrap().into_iter().map(|entry| entry.file_name).collect()
    }

    /// What the boot loader takes next: tries left first, then the higher number.
    pub fn next_slot(&self) -> Slot {
        self.choose().slot
    }

    fn choose(&self) -> Entry {
        let entries = self.esp().entries().unwrap();
        let good = entries.into_iter().filter(|entry| entry.usable);
        good.max_by_key(|entry| (entry.tries.is_none_or(|tries| tries.left > 0), entry.sequence)).expect("something to boot")
    }

    /// The boot loader's part alone: an image that does not get as far as its agent.
    pub fn boot_in_vain(&self) -> Slot {
        self.count(self.choose()).slot
    }

    fn count(&self, entry: Entry) -> Entry {
        let Some(Tries { left, done }) = entry.tries.filter(|tries| tries.left > 0) else { return entry };
        let name = format!("corten-{}+{}-{}.conf", entry.slot.name(), left - 1, done + 1);
        let entries = self.esp_path().join("loader/entries");
        fs::rename(entries.join(&entry.file_name), entries.join(name)).unwrap();
        entry
    }

    /// Boots one of these images and starts its agent.
    pub async fn boot(&self, images: &[&Image]) -> Boot {
        self.boot_with(images, Failpoints::default()).await
    }

    pub async fn boot_with(&self, images: &[&Image], failpoints: Failpoints) -> Boot {
        let entry = self.count(self.choose());
        *self.boots.lock().unwrap() += 1;
        self.agent(images, entry.slot, entry.tries.is_some(), failpoints).await
    }

    /// An agent of the current boot.
    pub async fn agent(&self, images: &[&Image], slot: Slot, counted: bool, failpoints: Failpoints) -> Boot {
        let image = images.iter().find(|image| self.holds(slot, image)).expect("the slot that is booted holds an image, whole");
        let (root, facts) = (self.root(), self.facts(image, slot, counted));
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let state = VolumeStatus { volume: Volume::State, state: VolumeState::Open, size_bytes: 1, device: String::new() };
        node.store.put("state", &state);
        node.store.put(&facts.boot_id.clone(), &facts);
        let upgrades = Arc::new(Upgrades::new(node.clone(), Power::new(node.clone()), failpoints));
        upgrades.settle().await;
        Boot { slot, counted, node, upgrades }
    }

    /// What init finds, with what the image's root holds put in its place.
    pub fn facts(&self, image: &Image, slot: Slot, counted: bool) -> BootFacts {
        let root = self.root();
        let facts = ImageFacts {
            version: image.version.clone(),
            profile: image.profile.clone(),
            architecture: "x86_64".to_owned(),
            partitions: Vec::new(),
            kubernetes: image.kubernetes.clone(),
            etcd: image.etcd.clone(),
            built_at: 0,
        };
        fs::create_dir_all(root.image_facts().parent().unwrap()).unwrap();
        fs::write(root.image_facts(), serde_json::to_string(&facts).unwrap()).unwrap();
        fs::write(root.update_keys(), format!(r#"{{"threshold": 1, "keys": ["{}"]}}"#, key().public())).unwrap();
        BootFacts {
            boot_id: format!("boot {}", self.boots.lock().unwrap()),
            disk: "/dev/vda".to_owned(),
            slot: Some(slot),
            counted,
            root_hash: image.root_hash.to_string(),
            ..BootFacts::default()
        }
    }
}

impl Boot {
    pub async fn offer(&self, update: &Update) -> Result<Offered, Refusal> {
        self.upgrades.offer(update.wanted()).await
    }

    /// Offers, and sends what is missing; how many chunks that were.
    pub async fn send(&self, update: &Update) -> Result<u64, Refusal> {
        let offered = self.offer(update).await?;
        self.send_all(&update.id(), &offered.missing, update).await
    }

    /// Sends these chunks of `update`, all that the update of this name lacks; how many that were.
    pub async fn send_all(&self, id: &str, missing: &[Digest], update: &Update) -> Result<u64, Refusal> {
        let mut upload = self.upgrades.clone().upload(id).await?;
        for digest in missing {
            upload.take(update.whole(digest)).await?;
        }
        assert_eq!(upload.finish().await?, 0);
        Ok(upload.chunks)
    }

    pub async fn start(&self, update: &Update) -> Result<Done, Refusal> {
        self.upgrades.clone().start(update.id(), asked()).await
    }

    pub async fn upgrade(&self, update: &Update) -> Result<Done, Refusal> {
        self.send(update).await?;
        self.start(update).await
    }

    pub async fn rollback(&self) -> Result<Done, Refusal> {
        self.upgrades.clone().rollback(asked()).await
    }

    pub async fn record(&self) -> Record {
        self.upgrades.newest().await.unwrap()
    }

    pub fn slot_status(&self, slot: Slot) -> SlotStatus {
        self.node.store.get(slot.name()).unwrap()
    }
}

pub fn asked() -> Asked {
    Asked { by: "os:admin/alice".to_owned(), ..Asked::default() }
}

/// Lets so many points pass, and cuts at the next one and at all that follow. The names of those that were reached.
pub fn cut_after(passed: usize) -> (Failpoints, Arc<Mutex<Vec<&'static str>>>) {
    let reached = Arc::new(Mutex::new(Vec::new()));
    let seen = reached.clone();
    let failpoints = Failpoints::new(move |name| {
        let mut seen = seen.lock().unwrap();
        seen.push(name);
        if seen.len() > passed { Err(io::Error::other(format!("cut at {name}"))) } else { Ok(()) }
    });
    (failpoints, reached)
}
