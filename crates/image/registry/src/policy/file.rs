//! The shape of policy.json. Unknown keys are errors, as a misspelt requirement must not pass for none.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::identity::Identity;

/// A file with keys is not larger (bytes).
const MAX_KEYS: u64 = 4 << 20;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub(super) default: Vec<Requirement>,
    #[serde(default)]
    pub(super) transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// One requirement.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(super) enum Requirement {
    InsecureAcceptAnything {},
    Reject {},
    SignedBy(Box<SignedBy>),
    SignedBaseLayer {
        #[expect(dead_code, reason = "nobody implements the requirement")]
        base_layer_identity: Value,
    },
    SigstoreSigned(Box<SigstoreSigned>),
}

/// What a signature with OpenPGP must show.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SignedBy {
    key_type: String,
    key_path: Option<String>,
    key_paths: Option<Vec<String>>,
    key_data: Option<String>,
    #[serde(default)]
    pub(super) signed_identity: Identity,
}

/// What a sigstore signature must show.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SigstoreSigned {
    key_path: Option<String>,
    key_paths: Option<Vec<String>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    pub(super) fulcio: Option<Fulcio>,
    pub(super) pki: Option<Pki>,
    rekor_public_key_path: Option<String>,
    rekor_public_key_paths: Option<Vec<String>>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Option<Vec<String>>,
    #[serde(default)]
    pub(super) signed_identity: Identity,
}

/// Whom Fulcio must have certified.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Fulcio {
    ca_path: Option<String>,
    ca_data: Option<String>,
    pub(super) oidc_issuer: String,
    pub(super) subject_email: String,
}

/// Whom an authority must have certified.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Pki {
    ca_roots_path: Option<String>,
    ca_roots_data: Option<String>,
    ca_intermediates_path: Option<String>,
    ca_intermediates_data: Option<String>,
    pub(super) subject_email: Option<String>,
    pub(super) subject_hostname: Option<String>,
}

/// Where keys come from: files, or base64 in the policy itself.
struct Keys<'a> {
    path: &'a Option<String>,
    paths: &'a Option<Vec<String>>,
    data: &'a Option<String>,
    datas: &'a Option<Vec<String>>,
}

impl Requirement {
    /// The `type` in the file.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::InsecureAcceptAnything {} => "insecureAcceptAnything",
            Self::Reject {} => "reject",
            Self::SignedBy(_) => "signedBy",
            Self::SignedBaseLayer { .. } => "signedBaseLayer",
            Self::SigstoreSigned(_) => "sigstoreSigned",
        }
    }

    /// What the shape alone does not say.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::InsecureAcceptAnything {} | Self::Reject {} | Self::SignedBaseLayer { .. } => {
                Ok(())
            }
            Self::SignedBy(wanted) => {
                if wanted.key_type != "GPGKeys" {
                    return Err(format!("keyType `{}` is not supported", wanted.key_type));
                }
                if wanted.locations().given() != 1 {
                    return Err("exactly one of keyPath, keyPaths and keyData is wanted".to_owned());
                }
                wanted.signed_identity.check()
            }
            Self::SigstoreSigned(wanted) => {
                let others = [wanted.fulcio.is_some(), wanted.pki.is_some()];
                let others = others.iter().filter(|given| **given).count();
                if wanted.locations().given() + others != 1 {
                    let all = "keyPath, keyPaths, keyData, keyDatas, fulcio and pki";
                    return Err(format!("exactly one of {all} is wanted"));
                }
                if wanted.rekor_locations().given() > 1 {
                    return Err("more than one of the rekorPublicKey keys".to_owned());
                }
                if wanted.fulcio.is_some() && wanted.rekor_locations().given() == 0 {
                    return Err("fulcio needs one of the rekorPublicKey keys".to_owned());
                }
                if let Some(fulcio) = &wanted.fulcio {
                    fulcio.check()?;
                }
                if let Some(pki) = &wanted.pki {
                    pki.check()?;
                }
                wanted.signed_identity.check()
            }
        }
    }
}

impl Fulcio {
    fn check(&self) -> Result<(), String> {
        if one_place(&self.ca_path, &self.ca_data).given() != 1 {
            return Err("exactly one of caPath and caData is wanted of fulcio".to_owned());
        }
        match self.oidc_issuer.is_empty() || self.subject_email.is_empty() {
            true => Err("oidcIssuer and subjectEmail of fulcio must not be empty".to_owned()),
            false => Ok(()),
        }
    }

    /// Certificates of authorities in PEM.
    pub(super) fn authority(&self) -> Result<Vec<u8>, String> {
        Ok(one_place(&self.ca_path, &self.ca_data).read()?.concat())
    }
}

impl Pki {
    fn check(&self) -> Result<(), String> {
        if one_place(&self.ca_roots_path, &self.ca_roots_data).given() != 1 {
            return Err("exactly one of caRootsPath and caRootsData is wanted of pki".to_owned());
        }
        if self.between().given() > 1 {
            return Err("both caIntermediatesPath and caIntermediatesData of pki".to_owned());
        }
        let names = [&self.subject_email, &self.subject_hostname];
        let named = names.iter().filter(|name| name.is_some()).count();
        if named == 0 || names.into_iter().flatten().any(String::is_empty) {
            return Err("subjectEmail or subjectHostname of pki is wanted".to_owned());
        }
        Ok(())
    }

    fn between(&self) -> Keys<'_> {
        one_place(&self.ca_intermediates_path, &self.ca_intermediates_data)
    }

    /// Certificates of authorities in PEM.
    pub(super) fn roots(&self) -> Result<Vec<u8>, String> {
        let place = one_place(&self.ca_roots_path, &self.ca_roots_data);
        Ok(place.read()?.concat())
    }

    /// Certificates between those and signers.
    pub(super) fn intermediates(&self) -> Result<Option<Vec<u8>>, String> {
        match self.between().given() {
            0 => Ok(None),
            _ => Ok(Some(self.between().read()?.concat())),
        }
    }
}

fn one_place<'a>(path: &'a Option<String>, data: &'a Option<String>) -> Keys<'a> {
    Keys {
        path,
        paths: &None,
        data,
        datas: &None,
    }
}

impl SignedBy {
    fn locations(&self) -> Keys<'_> {
        Keys {
            path: &self.key_path,
            paths: &self.key_paths,
            data: &self.key_data,
            datas: &None,
        }
    }

    /// Key rings, as they are.
    pub(super) fn keys(&self) -> Result<Vec<Vec<u8>>, String> {
        self.locations().read()
    }
}

impl SigstoreSigned {
    fn locations(&self) -> Keys<'_> {
        Keys {
            path: &self.key_path,
            paths: &self.key_paths,
            data: &self.key_data,
            datas: &self.key_datas,
        }
    }

    fn rekor_locations(&self) -> Keys<'_> {
        Keys {
            path: &self.rekor_public_key_path,
            paths: &self.rekor_public_key_paths,
            data: &self.rekor_public_key_data,
            datas: &self.rekor_public_key_datas,
        }
    }

    /// Public keys in PEM.
    pub(super) fn keys(&self) -> Result<Vec<Vec<u8>>, String> {
        self.locations().read()
    }

    /// Public keys of the log in PEM; none if the log does not matter.
    pub(super) fn rekor_keys(&self) -> Result<Vec<Vec<u8>>, String> {
        self.rekor_locations().read()
    }
}

impl Keys<'_> {
    fn given(&self) -> usize {
        [
            self.path.is_some(),
            self.paths.is_some(),
            self.data.is_some(),
            self.datas.is_some(),
        ]
        .iter()
        .filter(|given| **given)
        .count()
    }

    fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        let paths = self.path.iter().chain(self.paths.iter().flatten());
        let data = self.data.iter().chain(self.datas.iter().flatten());
        let files = paths.map(|path| read(Path::new(path)));
        let decoded = data.map(|text| {
            STANDARD
                .decode(text)
                .map_err(|_| "keys in the policy are not base64".to_owned())
        });
        files.chain(decoded).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let failed = |e: std::io::Error| format!("read keys from `{}`: {e}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_KEYS)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
