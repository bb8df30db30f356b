//! The user's side of a rotation: the secrets file, which gets the new authority before any machine hears of it, and the client config.

use std::path::PathBuf;
use std::time::SystemTime;

use controlplane::client_config::{ClientConfig, Context};
use controlplane::pki::{self, Authority, AuthorityId, Certificate, MachineRole, machine_client};
use controlplane::secrets::{AUTHORITY_LIFETIME, Secrets};
use machine::config::{CERTIFICATE_LIFETIME, CertificateAuthority, Secret};

use super::Wish;
use super::succession::Step;
use crate::cli::World;
use crate::failure::Failure;
use crate::verbs::generate::{read_secrets, write_client, write_secrets};

/// The secrets with the authority that is replaced.
#[derive(Debug)]
pub struct Safe {
    authority: AuthorityId,
    secrets: Secrets,
    path: PathBuf,
    client_path: PathBuf,
    /// Made, and not written yet: the secrets file has the old one alone.
    made: Option<CertificateAuthority>,
}

impl Safe {
    pub fn open(world: &World, wish: &Wish) -> Result<Safe, Failure> {
        let secrets = read_secrets(&wish.secrets)?;
        let mut safe = Safe {
            authority: wish.authority,
            secrets,
            path: wish.secrets.clone(),
            client_path: world.connection.config_path(),
            made: None,
        };
        let own = wish.authority.of(&safe.secrets.certificate_authorities);
        if pki::succeeds(own) {
            let problem = format!("certificateAuthorities.{}: the key is not that of the first certificate", wish.authority);
            return Err(Failure::new(wish.secrets.display(), problem).remedy("use the secrets as machinectl wrote them"));
        }
        if pki::each(&own.certificate).nth(1).is_none() {
            safe.made = Some(successor(own).map_err(|error| Failure::of(format!("authority {}", wish.authority), &error))?);
        }
        Ok(safe)
    }

    pub fn authority(&self) -> AuthorityId {
        self.authority
    }

    /// Whether the secrets file has the new authority.
    pub fn is_under_way(&self) -> bool {
        self.made.is_none()
    }

    fn successor(&self) -> &CertificateAuthority {
        self.made.as_ref().unwrap_or_else(|| self.authority.of(&self.secrets.certificate_authorities))
    }

    pub fn new_certificate(&self) -> &str {
        pki::issuing(&self.successor().certificate)
    }

    pub fn new_key(&self) -> &str {
        self.successor().key.as_ref().map(Secret::reveal).unwrap_or_default()
    }

    pub fn new_name(&self) -> String {
        Certificate::inspect(self.new_certificate()).map(|certificate| certificate.common_name).unwrap_or_default()
    }

    /// Certificates of the authorities before, in PEM.
    fn olds(&self) -> impl Iterator<Item = &str> {
        let all = &self.authority.of(&self.secrets.certificate_authorities).certificate;
        pki::each(all).skip(usize::from(self.made.is_none()))
    }

    /// Fingerprints: that of the new one, and those of the ones before.
    pub fn fingerprints(&self) -> (Option<String>, Vec<String>) {
        (pki::fingerprint(self.new_certificate()).ok(), self.olds().filter_map(|pem| pki::fingerprint(pem).ok()).collect())
    }

    /// Certificates and key of an authority.
    pub fn pair(&self, id: AuthorityId) -> Option<(&str, &str)> {
        let authority = if id == self.authority { self.successor() } else { id.of(&self.secrets.certificate_authorities) };
        Some((&authority.certificate, authority.key.as_ref()?.reveal()))
    }

    /// Keeps the new authority: from then on the rotation is under way.
    pub fn make(&mut self) -> Result<(), Failure> {
        let Some(made) = self.made.take() else { return Ok(()) };
        let own = self.authority.of_mut(&mut self.secrets.certificate_authorities);
        let certificate = format!("{}\n{}", made.certificate.trim(), own.certificate);
        *own = CertificateAuthority { certificate, key: made.key };
        write_secrets(&self.path, &self.secrets)
    }

    /// What the user needs before a step: to trust machines that show the new authority's certificates, and then one of it.
    pub fn prepare(&self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Accept => self.change_client(|context| {
                if !pki::each(&context.ca).any(|pem| pem.trim() == self.new_certificate().trim()) {
                    context.ca = format!("{}\n{}\n", context.ca.trim(), self.new_certificate());
                }
                Ok(())
            }),
            Step::Issue => Ok(()),
            Step::Drop => self.change_client(|context| self.renew(context)),
        }
    }

    /// The old one goes.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.change_client(|context| {
            context.ca = format!("{}\n", self.new_certificate());
            Ok(())
        })?;
        let own = self.authority.of_mut(&mut self.secrets.certificate_authorities);
        own.certificate = format!("{}\n", pki::issuing(&own.certificate));
        write_secrets(&self.path, &self.secrets)
    }

    /// Changes all contexts of the client config that are of this cluster, where the machine authority is replaced.
    fn change_client(&self, change: impl Fn(&mut Context) -> Result<(), pki::PkiError>) -> Result<(), Failure> {
        if self.authority != AuthorityId::Machine || !self.client_path.exists() {
            return Ok(());
        }
        let place = self.client_path.display();
        let text = crate::files::read_text(&self.client_path)?;
        let mut config = ClientConfig::from_yaml(&text).map_err(|error| Failure::of(&place, &error))?;
        let known: Vec<&str> = self.olds().chain([self.new_certificate()]).map(str::trim).collect();
        let before = config.clone();
        for context in config.contexts.values_mut() {
            if pki::each(&context.ca).any(|pem| known.contains(&pem.trim())) {
                change(context).map_err(|error| Failure::of(&place, &error))?;
            }
        }
        if config == before { Ok(()) } else { write_client(&self.client_path, &config) }
    }

    /// The same person in the same role, by the new authority.
    fn renew(&self, context: &mut Context) -> Result<(), pki::PkiError> {
        let now = SystemTime::now();
        if pki::verify_chain(&context.certificate, self.new_certificate(), now).is_ok() {
            return Ok(());
        }
        let found = Certificate::inspect(&context.certificate)?;
        let role = found.organizations.first().and_then(|organization| organization.parse::<MachineRole>().ok());
        let Some(role) = role else { return Ok(()) };
        let issued = Authority::from_pem(self.new_certificate(), self.new_key())?
            .issue(&machine_client(role, &found.common_name, CERTIFICATE_LIFETIME.0), now)?;
        (context.certificate, context.key) = (issued.certificate_pem, issued.key_pem);
        Ok(())
    }

    #[cfg(test)]
    pub fn for_test(authority: AuthorityId, secrets: Secrets) -> Safe {
        let made = Some(successor(authority.of(&secrets.certificate_authorities)).expect("made"));
        Safe { authority, secrets, path: PathBuf::new(), client_path: PathBuf::new(), made }
    }
}

fn successor(own: &CertificateAuthority) -> Result<CertificateAuthority, pki::PkiError> {
    let name = pki::next_name(&Certificate::inspect(&own.certificate)?.common_name);
    let made = Authority::generate(&name, SystemTime::now(), AUTHORITY_LIFETIME)?;
    Ok(CertificateAuthority { certificate: made.certificate_pem().to_owned(), key: Some(made.key_pem()) })
}
