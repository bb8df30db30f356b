use super::*;
use crate::controllers::fixtures::{contents, machine};

#[test]
fn goldens() {
    let machine = machine("full");
    let mut text = String::new();
    for file in files(&machine.facts.root, &machine.config.machine.registries).unwrap() {
        text.push_str(&format!("--- {file:?}\n{}", contents(&file)));
    }
    crate::golden::check("src/controllers/registries/golden/full.txt", &text);
}

#[test]
fn mirrors_keep_their_order() {
    let mut registries = Registries::default();
    let endpoints = ["https://z.example", "https://a.example", "https://m.example"].map(str::to_owned).to_vec();
    registries.mirrors.insert("docker.io".to_owned(), Mirror { endpoints, skip_fallback: false });
    let files = files(&Root::new("/"), &registries).unwrap();
    let text = contents(&files[0]);
    let position = |name: &str| text.find(name).unwrap();
    assert!(position("z.example") < position("a.example") && position("a.example") < position("m.example"), "{text}");
    assert!(text.starts_with("server = \"https://registry-1.docker.io\""), "{text}");
}
