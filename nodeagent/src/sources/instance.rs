//! Which machine of its cloud this one is, as the cloud's metadata service says, in the form in which the cloud's controller knows machines
//! (`spec.providerID` of a Node).

use serde::Deserialize;

use super::answer::{BadAnswer, content};
use super::fetch::Answer;

/// `aws:///eu-central-1a/i-0123456789abcdef0`, by cloud-provider-aws.
pub fn aws(document: Answer) -> Result<String, BadAnswer> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        availability_zone: String,
        instance_id: String,
    }
    let Document { availability_zone, instance_id } = json(document, "instance identity document")?;
    Ok(format!("aws:///{}/{}", segment(&availability_zone)?, segment(&instance_id)?))
}

/// `gce://project/zone/name`, by cloud-provider-gcp. The zone is the last part of `projects/1234/zones/europe-west3-c`.
pub fn gcp(project: Answer, zone: Answer, name: Answer) -> Result<String, BadAnswer> {
    let (project, zone, name) = (text(project)?, text(zone)?, text(name)?);
    let zone = zone.rsplit('/').next().unwrap_or_default();
    Ok(format!("gce://{}/{}/{}", segment(&project)?, segment(zone)?, segment(&name)?))
}

/// `azure:///subscriptions/.../resourceGroups/.../providers/Microsoft.Compute/virtualMachines/name`, by cloud-provider-azure, which writes
/// the name of the resource group in lower case.
pub fn azure(compute: Answer) -> Result<String, BadAnswer> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Compute {
        resource_id: String,
    }
    let Compute { resource_id } = json(compute, "description of a machine")?;
    let mut parts: Vec<String> = resource_id.strip_prefix('/').ok_or(UNEXPECTED)?.split('/').map(str::to_owned).collect();
    if parts.len() < 8 || !parts[0].eq_ignore_ascii_case("subscriptions") || !parts[2].eq_ignore_ascii_case("resourceGroups") {
        return Err(UNEXPECTED);
    }
    parts[3] = parts[3].to_ascii_lowercase();
    for part in &parts {
        segment(part)?;
    }
    Ok(format!("azure:///{}", parts.join("/")))
}

/// `openstack:///uuid`, by cloud-provider-openstack.
pub fn openstack(meta_data: Answer) -> Result<String, BadAnswer> {
    #[derive(Deserialize)]
    struct MetaData {
        uuid: String,
    }
    let MetaData { uuid } = json(meta_data, "meta_data.json")?;
    Ok(format!("openstack:///{}", segment(&uuid)?))
}

const UNEXPECTED: BadAnswer = BadAnswer::Form("identity of a machine");

fn json<T: for<'a> Deserialize<'a>>(answer: Answer, what: &'static str) -> Result<T, BadAnswer> {
    let status = answer.status;
    let body = content(answer)?.ok_or(BadAnswer::Status(status))?;
    serde_json::from_slice(&body).map_err(|_| BadAnswer::Form(what))
}

fn text(answer: Answer) -> Result<String, BadAnswer> {
    let status = answer.status;
    let body = content(answer)?.ok_or(BadAnswer::Status(status))?;
    String::from_utf8(body.to_vec()).map(|text| text.trim().to_owned()).map_err(|_| UNEXPECTED)
}

/// What may stand between two slashes: it goes to the API server and to the kubelet's config as it is.
fn segment(text: &str) -> Result<&str, BadAnswer> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | ':' | '(' | ')');
    if !text.is_empty() && text.len() <= 128 && text.chars().all(fits) { Ok(text) } else { Err(UNEXPECTED) }
}
