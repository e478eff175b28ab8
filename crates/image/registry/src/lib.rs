//! Distribution client: registries.conf, auth files, certificates, policy.
//!
//! [`RegistriesConf`] turns names into [`Endpoint`]s, [`RegistryClient`] fetches manifests and blobs from them,
//! [`Policy`] says what may be used at all. Nothing is stored here and nothing is ever sent to a registry but requests.
//! Credentials go to the host they are for and to no other: not along redirects, not to URLs in manifests.
#![forbid(unsafe_code)]

mod auth;
mod certs;
mod client;
mod conf;
mod content;
mod lookaside;
mod policy;
mod schema1;
mod secret;
mod signature;

pub use auth::{AuthFiles, CredentialHelperError, Credentials, LoadAuthFileError};
pub use certs::LoadCertificatesError;
pub use client::{
    BlobStream, ClientSettings, FetchError, FetchedManifest, MAX_MANIFEST, OnStall, Phase,
    RegistryClient, Repository, RetryPolicy,
};
pub use conf::{
    CandidatesError, ConfPaths, Endpoint, EndpointKind, Endpoints, LoadRegistriesConfError,
    Manifest, Mirror, MirrorUse, RegistriesConf, Registry, ResolveError, ShortNameMode,
};
pub use content::ContentHasher;
pub use lookaside::{LoadSignaturePlacesError, SignaturePlace, SignaturePlaces};
pub use policy::{LoadPolicyError, Policy, PolicyError, Signed, Transport, Wanted};
pub use schema1::{manifest_digest, signed_payload};
pub use secret::Secret;
pub use signature::{Signature, SigstoreSignature};
