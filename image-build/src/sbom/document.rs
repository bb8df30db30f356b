//! Parts of an image as an SPDX 2.3 document in JSON. Equal parts give equal bytes: sorted, dated by SOURCE_DATE_EPOCH, named after the content.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::licence::Licence;
use super::parts::{Key, Kind, Link, Part, Parts};

/// SPDX's word for "not said".
pub const NO_ASSERTION: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
/// Identifier of the image itself.
pub const IMAGE: &str = "SPDXRef-Image";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    pub spdx_version: String,
    pub data_license: String,
    #[serde(rename = "SPDXID")]
    pub id: String,
    pub name: String,
    pub document_namespace: String,
    pub creation_info: CreationInfo,
    pub packages: Vec<Package>,
    pub relationships: Vec<Relationship>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub has_extracted_licensing_infos: Vec<ExtractedLicence>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreationInfo {
    pub created: String,
    pub creators: Vec<String>,
    pub license_list_version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    #[serde(rename = "SPDXID")]
    pub id: String,
    pub name: String,
    pub version_info: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_file_name: Option<String>,
    pub primary_package_purpose: String,
    pub download_location: String,
    pub files_analyzed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    pub license_concluded: String,
    pub license_declared: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_comments: Option<String>,
    pub copyright_text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<ExternalReference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checksum {
    pub algorithm: String,
    pub checksum_value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalReference {
    pub reference_category: String,
    pub reference_type: String,
    pub reference_locator: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relationship {
    pub spdx_element_id: String,
    pub relationship_type: String,
    pub related_spdx_element: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtractedLicence {
    pub license_id: String,
    pub name: String,
    pub extracted_text: String,
}

/// Makes the document.
pub fn render(parts: &Parts) -> Result<Document> {
    let created = i64::try_from(parts.created).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let created = created.with_context(|| format!("date {}: expected seconds since the epoch", parts.created))?;
    let name = format!("{}-{}", parts.image, parts.version);
    let mut packages = vec![image(parts)];
    packages.extend(parts.parts.iter().map(package));
    let mut relationships = vec![relationship(DOCUMENT, "DESCRIBES", IMAGE)];
    relationships.extend(parts.links.iter().map(|link| match link {
        Link::Contained(part) => relationship(IMAGE, "CONTAINS", &id(part)),
        Link::Linked(program, part) => relationship(&id(program), "STATIC_LINK", &id(part)),
    }));
    let texts = parts.texts.iter().map(|(id, text)| ExtractedLicence {
        license_id: id.clone(),
        name: id.trim_start_matches("LicenseRef-").to_owned(),
        extracted_text: text.clone(),
    });
    let mut document = Document {
        spdx_version: "SPDX-2.3".to_owned(),
        data_license: "CC0-1.0".to_owned(),
        id: DOCUMENT.to_owned(),
        name: name.clone(),
        document_namespace: String::new(),
        creation_info: CreationInfo {
            created: created.format(&Rfc3339).context("writing the date")?,
            creators: vec![format!("Tool: {}", parts.tool)],
            license_list_version: major_and_minor(spdx::identifiers::VERSION),
        },
        packages,
        relationships,
        has_extracted_licensing_infos: texts.collect(),
    };
    // The namespace must be unique to the document: two documents share it only when they are the same.
    let content = serde_json::to_vec(&document).context("writing JSON")?;
    document.document_namespace = format!("https://corten.dev/spdx/{name}/{}", hex::encode(Sha256::digest(content)));
    Ok(document)
}

fn image(parts: &Parts) -> Package {
    Package {
        id: IMAGE.to_owned(),
        name: parts.image.clone(),
        version_info: parts.version.clone(),
        package_file_name: None,
        primary_package_purpose: "OPERATING-SYSTEM".to_owned(),
        download_location: NO_ASSERTION.to_owned(),
        files_analyzed: false,
        checksums: Vec::new(),
        license_concluded: NO_ASSERTION.to_owned(),
        license_declared: NO_ASSERTION.to_owned(),
        license_comments: Some("each part has its own licence".to_owned()),
        copyright_text: NO_ASSERTION.to_owned(),
        source_info: Some(format!("dm-verity root hash {}", parts.root_hash)),
        external_refs: Vec::new(),
    }
}

fn package(part: &Part) -> Package {
    let (declared, comments) = match &part.licence {
        Licence::Expression(expression) => (expression.clone(), None),
        Licence::Unknown(reason) => (NO_ASSERTION.to_owned(), Some(reason.clone())),
    };
    let purl = part.purl.iter().map(|purl| ExternalReference {
        reference_category: "PACKAGE-MANAGER".to_owned(),
        reference_type: "purl".to_owned(),
        reference_locator: purl.clone(),
    });
    let checksum = part.sha256.iter().map(|sum| Checksum { algorithm: "SHA256".to_owned(), checksum_value: sum.clone() });
    Package {
        id: id(&part.key()),
        name: part.name.clone(),
        version_info: part.version.clone(),
        package_file_name: part.place.clone(),
        primary_package_purpose: match part.kind {
            Kind::Program | Kind::DebianPackage => "APPLICATION",
            Kind::GoModule | Kind::Crate => "LIBRARY",
        }
        .to_owned(),
        download_location: NO_ASSERTION.to_owned(),
        files_analyzed: false,
        checksums: checksum.collect(),
        license_concluded: NO_ASSERTION.to_owned(),
        license_declared: declared,
        license_comments: comments,
        copyright_text: NO_ASSERTION.to_owned(),
        source_info: part.origin.clone(),
        external_refs: purl.collect(),
    }
}

fn relationship(from: &str, kind: &str, to: &str) -> Relationship {
    Relationship { spdx_element_id: from.to_owned(), relationship_type: kind.to_owned(), related_spdx_element: to.to_owned() }
}

/// An identifier may have letters, digits, dots and dashes only, so a piece of the key's digest keeps two parts apart.
fn id(key: &Key) -> String {
    let readable: String = key.0.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let digest = hex::encode(Sha256::digest(&key.0));
    format!("SPDXRef-{}-{}", readable.trim_end_matches('-'), &digest[..8])
}

/// `3.29.0` as `3.29`, which is what the field's format allows.
fn major_and_minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    fn part(kind: Kind, name: &str, licence: Licence) -> Part {
        let purl = Some(format!("pkg:x/{name}@v1"));
        Part { kind, name: name.into(), version: "v1".into(), licence, sha256: Some("00".into()), place: None, purl, origin: None }
    }

    fn parts() -> Parts {
        let mut parts = Parts {
            image: "corten-worker-x86_64".into(),
            version: "0.1.0".into(),
            root_hash: "ab".into(),
            created: 1_780_000_000,
            tool: "image-build-0.1.0".into(),
            texts: BTreeMap::from([("LicenseRef-x-odd".into(), "Do.".into())]),
            ..Parts::default()
        };
        parts.contain(part(Kind::DebianPackage, "kmod", Licence::Expression("GPL-2.0-or-later AND LicenseRef-x-odd".into())));
        let program = parts.contain(part(Kind::Program, "node", Licence::Expression("Apache-2.0".into())));
        parts.link(&program, part(Kind::GoModule, "a/b", Licence::Expression("MIT".into())));
        parts.link(&program, part(Kind::GoModule, "a-b", Licence::Unknown("no licence file".into())));
        parts
    }

    /// The rules of SPDX 2.3 that a JSON reader relies on.
    #[test]
    fn has_the_fields_that_spdx_requires() {
        let json = serde_json::to_value(render(&parts()).expect("document")).expect("JSON");
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned();
        assert_eq!(text(&json, "spdxVersion"), "SPDX-2.3");
        assert_eq!(text(&json, "dataLicense"), "CC0-1.0");
        assert_eq!(text(&json, "SPDXID"), "SPDXRef-DOCUMENT");
        assert!(!text(&json, "name").is_empty());
        let namespace = text(&json, "documentNamespace");
        assert!(namespace.starts_with("https://") && !namespace.contains('#'), "{namespace}");
        assert_eq!(text(&json["creationInfo"], "created"), "2026-05-28T20:26:40Z");
        assert!(json["creationInfo"]["creators"][0].as_str().is_some_and(|creator| creator.starts_with("Tool: ")));

        let mut ids = BTreeSet::from(["SPDXRef-DOCUMENT".to_owned()]);
        for package in json["packages"].as_array().expect("packages") {
            let id = text(package, "SPDXID");
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
            assert!(id.strip_prefix("SPDXRef-").is_some_and(|rest| rest.chars().all(allowed)), "{id}");
            assert!(ids.insert(id), "two packages share an identifier");
            assert!(!text(package, "name").is_empty());
            text(package, "downloadLocation");
            let declared = text(package, "licenseDeclared");
            assert!(declared == NO_ASSERTION || spdx::Expression::parse(&declared).is_ok(), "{declared}");
            assert!(declared != NO_ASSERTION || package["licenseComments"].is_string(), "no reason: {package}");
        }
        for relationship in json["relationships"].as_array().expect("relationships") {
            for end in ["spdxElementId", "relatedSpdxElement"] {
                assert!(ids.contains(&text(relationship, end)), "{relationship} leads nowhere");
            }
        }
        assert_eq!(json["relationships"][0]["relationshipType"], "DESCRIBES");
        assert_eq!(json["hasExtractedLicensingInfos"][0]["licenseId"], "LicenseRef-x-odd");
    }

    #[test]
    fn equal_parts_give_equal_documents_and_others_another_namespace() {
        let one = render(&parts()).expect("document");
        assert_eq!(one, render(&parts()).expect("document"));
        let mut changed = parts();
        changed.contain(part(Kind::DebianPackage, "nftables", Licence::Expression("GPL-2.0-only".into())));
        assert_ne!(one.document_namespace, render(&changed).expect("document").document_namespace);
    }

    #[test]
    fn a_date_out_of_range_is_named() {
        let error = render(&Parts { created: u64::MAX, ..parts() }).expect_err("no such date");
        assert!(error.to_string().contains(&u64::MAX.to_string()), "{error}");
    }
}
