//! Small disks, so that one can be full. They live in memory.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::files::{copy_tree, remove_tree};
use super::{Server, Servers};

/// A small disk of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// A server's files.
    Of(Server),
    /// The data directory of the node in this place.
    Node(usize),
}

/// What is free of it is filled when a disk has to be full.
const DISKS: [(Disk, &str); 4] = [
    (Disk::Of(Server::Redis), "size=512m"),
    (Disk::Of(Server::Postgres), "size=1g"),
    (Disk::Node(0), "size=32m"),
    (Disk::Node(1), "size=32m"),
];
const FILLER: &str = "filler";

impl Disk {
    fn directory(self, root: &Path) -> PathBuf {
        match self {
            Self::Of(Server::Redis) => root.join("servers/redis"),
            Self::Of(Server::Postgres) => root.join("servers/postgres"),
            Self::Node(slot) => root.join(format!("node-{slot}")),
        }
    }
}

/// Mounts them all.
pub(super) fn mount(root: &Path) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root may mount one");
    }
    for (disk, size) in DISKS {
        let directory = disk.directory(root);
        fs::create_dir_all(&directory)?;
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&directory).output()?;
        if !output.status.success() {
            unmount_all(root);
            bail!("mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}

/// Gives those back that are mounted below the directory of a run.
pub(crate) fn unmount_all(root: &Path) {
    for (disk, _) in DISKS {
        // Complaints about one that is not are of no use.
        let _ = Command::new("umount").arg("-l").arg(disk.directory(root)).stderr(Stdio::null()).status();
    }
}

impl Servers {
    /// Takes all room on a disk.
    ///
    /// # Errors
    /// There are no small disks, or writing fails for another reason than the lack of room.
    pub fn fill_disk(&self, disk: Disk) -> anyhow::Result<()> {
        if let Some(reason) = &self.no_small_disks {
            bail!("no small disk: {reason}");
        }
        let mut filler = fs::File::create(disk.directory(&self.root).join(FILLER))?;
        for size in [1 << 20, 4096, 1] {
            let zeros = vec![0; size];
            loop {
                match filler.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling a disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn free_disk(&self, disk: Disk) -> anyhow::Result<()> {
        remove_tree(&disk.directory(&self.root).join(FILLER))
    }

    /// Gives the disks back; what is to be kept moves to a real one, beside.
    pub(super) fn unmount(&self, keep: bool) {
        if self.no_small_disks.is_some() {
            return;
        }
        for (disk, _) in DISKS {
            let directory = disk.directory(&self.root);
            let _ = self.free_disk(disk);
            if keep {
                let _ = copy_tree(&directory, &directory.with_extension("kept"));
            }
        }
        unmount_all(&self.root);
    }
}
