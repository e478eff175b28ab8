//! Distribution client: registries.conf, auth files, certificates, policy.
