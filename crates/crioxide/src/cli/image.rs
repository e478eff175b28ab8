//! `image`: pull, list, remove and load images without a daemon.

mod progress;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use crioxide_config::{Config, ShortNameMode};
use crioxide_pull::{
    FileImage, ImageInfo, Images, LoadRequest, PolicySource, PullRequest, PullSettings, Puller,
    Removal,
};
use crioxide_registry::Credentials;

use super::output;
use crate::launch::{Settings, load_settings, open_store, start_log};
use progress::shown_progress;

/// The grammar of the command.
pub(crate) fn command() -> Command {
    let names = |help: &'static str| {
        Arg::new("names")
            .required(true)
            .num_args(1..)
            .value_name("IMAGE")
            .help(help)
    };
    Command::new("image")
        .about("Pull, list, remove and load images without a daemon")
        .arg_required_else_help(true)
        .subcommand(
            Command::new("pull")
                .about("Pull images from their registries")
                .arg(names("Name with tag or digest"))
                .arg(
                    Arg::new("creds")
                        .long("creds")
                        .value_name("USER:PASSWORD")
                        .help("Credentials for the registry"),
                )
                .arg(
                    Arg::new("authfile")
                        .long("authfile")
                        .value_name("FILE")
                        .help("Credentials as docker keeps them"),
                ),
        )
        .subcommand(
            Command::new("list")
                .visible_alias("ls")
                .about("List the images of the store"),
        )
        .subcommand(
            Command::new("remove")
                .visible_alias("rm")
                .about("Remove images or their names")
                .arg(names("Name or id")),
        )
        .subcommand(
            Command::new("load")
                .about("Load an image from oci:, oci-archive:, docker-archive:, dir: or containers-storage:[STORE]")
                .arg(
                    Arg::new("source")
                        .required(true)
                        .value_name("TRANSPORT:PATH[:REFERENCE]"),
                )
                .arg(
                    Arg::new("name")
                        .long("name")
                        .value_name("IMAGE")
                        .action(ArgAction::Append)
                        .help("Name to give it (default: those that it brings along)"),
                ),
        )
}

pub(crate) fn run(global: &ArgMatches, command: &ArgMatches) -> anyhow::Result<()> {
    let settings = load_settings(global)?;
    start_log(&settings)?;
    let puller = open_puller(&settings)?;
    match command.subcommand() {
        Some(("pull", options)) => in_runtime(pull(&puller, options)),
        Some(("load", options)) => in_runtime(load(&puller, options)),
        Some(("remove", options)) => remove(&Images::new(&puller), options),
        _ => list(&Images::new(&puller)),
    }
}

/// A puller with the settings that the daemon would use.
fn open_puller(settings: &Settings) -> anyhow::Result<Puller> {
    let config: &Config = &settings.config;
    let mut pull = PullSettings::new(Arc::new(open_store(config)?));
    if let Some(file) = &settings.command_line.registries_conf {
        pull.registries.file.clone_from(file);
    }
    if let Some(directory) = &settings.command_line.registries_conf_dir {
        pull.registries.drop_ins.clone_from(directory);
    }
    pull.short_name_mode = Some(match config.image.short_name_mode {
        ShortNameMode::Enforcing => crioxide_registry::ShortNameMode::Enforcing,
        ShortNameMode::Disabled => crioxide_registry::ShortNameMode::Disabled,
    });
    if let Some(file) = &config.image.global_auth_file {
        pull.auth_files = pull.auth_files.preferring(file.clone());
    }
    if let Some(file) = &config.image.signature_policy {
        pull.policy = PolicySource::File(file.clone());
    }
    pull.decryption_keys
        .clone_from(&config.runtime.decryption_keys_path);
    if let Some(directory) = &config.image.big_files_temporary_dir {
        pull.scratch.clone_from(directory);
    }
    Puller::new(pull).context("read the configuration of registries")
}

fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start worker threads")?;
    runtime.block_on(work)
}

async fn pull(puller: &Puller, options: &ArgMatches) -> anyhow::Result<()> {
    let credentials = match options.get_one::<String>("creds") {
        Some(text) => {
            let (user, password) = text
                .split_once(':')
                .context("--creds is not in the form user:password")?;
            Some(Credentials::password(user, password))
        }
        None => None,
    };
    for name in options.get_many::<String>("names").into_iter().flatten() {
        let progress = shown_progress(name);
        let mut request = PullRequest::new(name.as_str());
        request.credentials.clone_from(&credentials);
        request.auth_file = options.get_one::<String>("authfile").map(PathBuf::from);
        request.progress = Some(progress.clone());
        let outcome = puller.pull(request).await;
        progress.finish();
        let image = outcome
            .map_err(|error| chained(&*error))
            .with_context(|| format!("pull {name}"))?;
        output::print(&format!("{}@{}\n", image.reference, image.digest))?;
    }
    Ok(())
}

async fn load(puller: &Puller, options: &ArgMatches) -> anyhow::Result<()> {
    let source = options
        .get_one::<String>("source")
        .map_or("", String::as_str);
    let Some(image) = FileImage::parse(source) else {
        bail!(
            "`{source}` is none of oci:PATH, oci-archive:PATH, docker-archive:PATH, dir:PATH and containers-storage:[STORE]IMAGE"
        );
    };
    let progress = shown_progress(source);
    let names = options
        .get_many::<String>("name")
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let request = LoadRequest {
        image,
        names,
        progress: Some(progress.clone()),
    };
    let outcome = puller.load(request).await;
    progress.finish();
    let loaded = outcome
        .map_err(|error| chained(&error))
        .with_context(|| format!("load {source}"))?;
    output::print(&format!("{}\n", loaded.id))
}

/// An error that is shared cannot be kept; its text can.
fn chained(error: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    anyhow::anyhow!("{}", crioxide_telemetry::chain(error))
}

fn remove(images: &Images, options: &ArgMatches) -> anyhow::Result<()> {
    for name in options.get_many::<String>("names").into_iter().flatten() {
        match images
            .remove(name)
            .with_context(|| format!("remove image {name}"))?
        {
            Removal::NotFound => bail!("image {name} not found"),
            Removal::Untagged { name } => output::print(&format!("Untagged: {name}\n"))?,
            Removal::Deleted { id } => output::print(&format!("Deleted: {id}\n"))?,
        }
    }
    Ok(())
}

fn list(images: &Images) -> anyhow::Result<()> {
    let infos = images.list().context("list the images of the store")?;
    output::print(&table(&infos))
}

/// One line per name, aligned.
fn table(infos: &[ImageInfo]) -> String {
    let mut rows = vec![["IMAGE".to_owned(), "IMAGE ID".to_owned(), "SIZE".to_owned()]];
    for info in infos {
        let id: String = info.id.to_string().chars().take(13).collect();
        let size = indicatif::DecimalBytes(info.size).to_string();
        let names = if info.repo_tags.is_empty() {
            &info.repo_digests
        } else {
            &info.repo_tags
        };
        for name in names {
            rows.push([name.clone(), id.clone(), size.clone()]);
        }
        if names.is_empty() {
            rows.push(["<none>".to_owned(), id, size]);
        }
    }
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    rows.iter()
        .map(|[name, id, size]| format!("{name:<first$}  {id:<second$}  {size}\n"))
        .collect()
}
