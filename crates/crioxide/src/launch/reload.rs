//! Reading the configuration once more.

use crioxide_config::{HostDefaults, Loaded, resolve};

use super::files::ConfigSources;

/// The files and host defaults that the process was started with. Flags and environment are not part of a
/// reload, as with `crio`.
#[derive(Clone, Debug)]
pub(crate) struct ReloadSource {
    pub(crate) sources: ConfigSources,
    pub(crate) host: HostDefaults,
}

impl ReloadSource {
    /// Defaults, file and drop-ins as they are now.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        // A file that was there at the start may be gone by now, which is no reason to fail.
        let sources = ConfigSources {
            file_named: false,
            ..self.sources.clone()
        };
        let files = sources.read()?;
        sources.announce(
            &files
                .iter()
                .map(|file| file.path.clone())
                .collect::<Vec<_>>(),
        );
        Ok(resolve(&self.host, &files, &[])?)
    }
}

impl crioxide_daemon::ConfigSource for ReloadSource {
    fn load(&self) -> Result<Loaded, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::load(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_files_and_survives_their_absence() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("crio.conf");
        let sources = ConfigSources {
            file: Some(file.clone()),
            file_named: true,
            directory: None,
        };
        let source = ReloadSource {
            sources,
            host: HostDefaults::default(),
        };
        std::fs::write(&file, "[crio.runtime]\nlog_level = \"debug\"\n").unwrap();
        assert_eq!(
            source.load().unwrap().config.runtime.log_level.as_str(),
            "debug"
        );
        std::fs::write(&file, "[crio.runtime]\nlog_level = \"loud\"\n").unwrap();
        assert!(
            source
                .load()
                .unwrap_err()
                .to_string()
                .contains("not a valid logrus Level")
        );
        std::fs::remove_file(&file).unwrap();
        assert_eq!(
            source.load().unwrap().config.runtime.log_level.as_str(),
            "info"
        );
    }
}
