//! The floor of a pull: fetch, verify, inflate, verify again and write the files, two layers at a time, then one flush of
//! the file system, and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crioxide_test_support::image::{self, Blob, Compression, Format, ImageBuilder, Layer};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

pub(crate) const REPOSITORY: &str = "bench/files";
pub(crate) const TAG: &str = "1";
const LAYERS: usize = 4;
/// Layers under way at a time.
const WORKERS: usize = 2;
const BUFFER: usize = 256 << 10;

/// An image made of files of this machine: they compress and unpack like those that people use.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) image: image::Image,
    diff_ids: Vec<String>,
}

impl Image {
    /// About `mib` MiB of files below `/usr`, in a few layers.
    pub(crate) fn make(mib: usize) -> Result<Self> {
        let mut files = Files::below("/usr");
        let mut builder = ImageBuilder::new(Format::Oci);
        // One layer is half of the image and the next a quarter: real images are as uneven.
        for number in 0..LAYERS {
            let mut layer = Layer::new();
            let mut left = (mib << 20) >> (number + 1).min(LAYERS - 1);
            while let Some((path, bytes)) = files.next(left) {
                left -= bytes.len().min(left);
                layer = layer.file(&format!("layer{number}{path}"), &bytes, 0o644);
            }
            builder = builder.layer(layer, Compression::Gzip);
        }
        let image = builder.build()?;
        let config: serde_json::Value = serde_json::from_slice(&image.config.bytes)?;
        let diff_ids = config["rootfs"]["diff_ids"]
            .as_array()
            .context("layer ids of an image just built")?;
        let diff_ids = diff_ids
            .iter()
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect();
        Ok(Self { image, diff_ids })
    }
}

/// Images of one layer with about `mib` MiB of files each, none of which is in two of them.
pub(crate) fn different(count: usize, mib: usize) -> Result<Vec<image::Image>> {
    let mut files = Files::below("/usr");
    let mut images = Vec::new();
    for _ in 0..count {
        let (mut layer, mut left) = (Layer::new(), mib << 20);
        while let Some((path, bytes)) = files.next(left) {
            left -= bytes.len().min(left);
            layer = layer.file(path.trim_start_matches('/'), &bytes, 0o644);
        }
        let builder = ImageBuilder::new(Format::Oci).layer(layer, Compression::Gzip);
        images.push(builder.build()?);
    }
    Ok(images)
}

/// Regular files in a fixed order.
struct Files {
    open: Vec<std::path::PathBuf>,
}

impl Files {
    fn below(root: &str) -> Self {
        Self {
            open: vec![root.into()],
        }
    }

    /// The next file that is not larger than `most`; None when `most` is used up or there are no more.
    fn next(&mut self, most: usize) -> Option<(String, Vec<u8>)> {
        if most == 0 {
            return None;
        }
        loop {
            let path = self.open.pop()?;
            let Ok(about) = path.symlink_metadata() else {
                continue;
            };
            if about.is_dir() {
                let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
                let mut below: Vec<_> = entries.map(|entry| entry.path()).collect();
                below.sort();
                self.open.extend(below);
            } else if about.is_file()
                && (1..=most.max(1 << 20) as u64).contains(&about.len())
                && let (Ok(bytes), Some(name)) = (std::fs::read(&path), path.to_str())
            {
                return Some((name.to_owned(), bytes));
            }
        }
    }
}

/// One pull into an empty directory below `place`, durable when it returns.
pub(crate) fn floor(image: &Image, host: &str, place: &Path) -> Result<Duration> {
    let folder = tempfile::tempdir_in(place).context("create a directory to unpack into")?;
    let started = Instant::now();
    fetch(host, &format!("manifests/{TAG}"), &mut std::io::sink())?;
    fetch(
        host,
        &format!("blobs/{}", image.image.config.digest),
        &mut std::io::sink(),
    )?;
    let mut layers: Vec<_> = image.image.layers.iter().zip(&image.diff_ids).collect();
    layers.sort_by_key(|(blob, _)| std::cmp::Reverse(blob.bytes.len()));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((blob, diff_id)) =
                        layers.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        layer(host, blob, diff_id, &folder.path().join(&diff_id[7..]))?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let directory = std::fs::File::open(folder.path()).context("open the directory")?;
    rustix::fs::syncfs(directory).context("write everything to the device")?;
    Ok(started.elapsed())
}

fn layer(host: &str, blob: &Blob, diff_id: &str, target: &Path) -> Result<()> {
    std::fs::create_dir(target).with_context(|| format!("create `{}`", target.display()))?;
    let body = open(host, &format!("blobs/{}", blob.digest))?;
    let packed = Hashing::new(body);
    let inflated = Hashing::new(flate2::bufread::GzDecoder::new(BufReader::with_capacity(
        BUFFER, packed,
    )));
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, inflated));
    let mut buffer = vec![0; BUFFER];
    for entry in archive.entries().context("read a layer")? {
        write(&mut entry.context("read a layer")?, target, &mut buffer)
            .with_context(|| format!("unpack `{}`", blob.digest))?;
    }
    let mut inflated = archive.into_inner().into_inner();
    std::io::copy(&mut inflated, &mut std::io::sink()).context("read the end of a layer")?;
    ensure!(
        inflated.digest() == diff_id,
        "layer `{diff_id}` is another when unpacked"
    );
    let packed = inflated.inner.into_inner().into_inner();
    ensure!(
        packed.digest() == blob.digest,
        "layer `{}` is another",
        blob.digest
    );
    Ok(())
}

/// Files and directories; the layers made here hold nothing else.
fn write(entry: &mut tar::Entry<'_, impl Read>, target: &Path, buffer: &mut [u8]) -> Result<()> {
    let path = target.join(entry.path()?);
    let mode = Mode::from_raw_mode(entry.header().mode()? & 0o777);
    if entry.header().entry_type().is_dir() {
        std::fs::create_dir_all(&path)?;
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(&path, flags, mode) {
        Err(rustix::io::Errno::NOENT) => {
            std::fs::create_dir_all(path.parent().context("a file without a directory")?)?;
            rustix::fs::open(&path, flags, mode)
        }
        other => other,
    };
    let mut file = std::fs::File::from(opened?);
    loop {
        let count = entry.read(buffer)?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count])?;
    }
    let modified = Duration::from_secs(entry.header().mtime()?);
    file.set_modified(std::time::UNIX_EPOCH + modified)?;
    Ok(())
}

/// A reader that digests what passes.
struct Hashing<R> {
    inner: R,
    state: Sha256,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            state: Sha256::new(),
        }
    }

    fn digest(&self) -> String {
        let hex: Vec<String> = self
            .state
            .clone()
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("sha256:{}", hex.concat())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.state.update(&buffer[..count]);
        Ok(count)
    }
}

fn fetch(host: &str, path: &str, target: &mut impl Write) -> Result<()> {
    std::io::copy(&mut open(host, path)?, target).with_context(|| format!("fetch `{path}`"))?;
    Ok(())
}

/// The body of an answer with a known length.
fn open(host: &str, path: &str) -> Result<impl Read + use<>> {
    let mut stream = TcpStream::connect(host).with_context(|| format!("connect to {host}"))?;
    let request = format!("GET /v2/{REPOSITORY}/{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .context("send a request")?;
    let mut reader = BufReader::with_capacity(BUFFER, stream);
    let mut length = 0;
    let mut line = String::new();
    reader.read_line(&mut line).context("read an answer")?;
    ensure!(line.starts_with("HTTP/1.1 200"), "`{path}`: {line}");
    loop {
        line.clear();
        reader.read_line(&mut line).context("read an answer")?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            return Ok(reader.take(length));
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().context("read a length")?;
        }
    }
}
