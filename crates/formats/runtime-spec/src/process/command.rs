//! What a container runs and where.

use std::path::PathBuf;

use thiserror::Error;

use crate::image_facts::ImageFacts;

/// A container that has nothing to run.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// Neither request nor image name a command.
    #[error("no command specified")]
    Missing,
    /// A working directory no process can be in.
    #[error("working directory {directory:?} is not an absolute path")]
    WorkingDirectory {
        /// The directory.
        directory: String,
    },
}

/// The process arguments: the request's command replaces the image's entrypoint *and* its arguments.
///
/// # Errors
/// Fails if nothing is left to run.
pub fn arguments(
    command: &[String],
    args: &[String],
    image: &ImageFacts,
) -> Result<Vec<String>, CommandError> {
    let (program, rest): (&[String], &[String]) = match (command.is_empty(), args.is_empty()) {
        (false, _) => (command, args),
        (true, false) => (&image.entrypoint, args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let arguments = [program, rest].concat();
    if arguments.is_empty() {
        Err(CommandError::Missing)
    } else {
        Ok(arguments)
    }
}

/// The working directory: the request's, else the image's, else `/`.
///
/// # Errors
/// Fails for relative directories, which would depend on the runtime's own.
pub fn working_directory(requested: &str, image: &ImageFacts) -> Result<PathBuf, CommandError> {
    let directory = [requested, &image.working_dir, "/"]
        .into_iter()
        .find(|directory| !directory.is_empty())
        .unwrap_or("/");
    if !directory.starts_with('/') || directory.contains('\0') {
        return Err(CommandError::WorkingDirectory {
            directory: directory.to_owned(),
        });
    }
    Ok(PathBuf::from(directory))
}

/// Whether the command is an init system that manages cgroups itself.
#[must_use]
pub fn is_systemd(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|program| {
        program.ends_with("/sbin/init") || program.rsplit('/').next() == Some("systemd")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn command_and_args_follow_kubernetes() {
        let image = ImageFacts {
            entrypoint: texts("entry"),
            cmd: texts("cmd"),
            ..ImageFacts::default()
        };
        let run = |command: &str, args: &str| {
            arguments(&texts(command), &texts(args), &image)
                .unwrap()
                .join(" ")
        };
        assert_eq!(run("", ""), "entry cmd");
        assert_eq!(run("", "args"), "entry args");
        assert_eq!(run("command", ""), "command");
        assert_eq!(run("command", "args"), "command args");
        assert_eq!(
            arguments(&[], &[], &ImageFacts::default()),
            Err(CommandError::Missing)
        );
        assert_eq!(CommandError::Missing.to_string(), "no command specified");
    }

    #[test]
    fn working_directories() {
        let image = ImageFacts {
            working_dir: "/image".into(),
            ..ImageFacts::default()
        };
        assert_eq!(
            working_directory("/pod", &image).unwrap(),
            PathBuf::from("/pod")
        );
        assert_eq!(
            working_directory("", &image).unwrap(),
            PathBuf::from("/image")
        );
        assert_eq!(
            working_directory("", &ImageFacts::default()).unwrap(),
            PathBuf::from("/")
        );
        assert!(working_directory("proc/self/fd/7", &image).is_err());
    }

    #[test]
    fn init_systems_are_recognised() {
        for (program, expected) in [
            ("/sbin/init", true),
            ("/usr/sbin/init", true),
            ("/lib/systemd/systemd", true),
            ("systemd", true),
            ("init", false),
            ("/bin/systemd-run", false),
        ] {
            assert_eq!(is_systemd(&[program.to_owned()]), expected, "{program}");
        }
    }
}
