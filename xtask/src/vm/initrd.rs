//! The first root: loads the disk's driver, mounts the disk and goes there.

use std::path::Path;

use anyhow::Result;

use super::kernel::Kernel;

const SCRIPT: &str = include_str!("early.sh");

/// What it takes to mount the disk.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "ext4", "crc32c_generic"];

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

pub(super) fn build(kernel: &Kernel, busybox: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive(Vec::new());
    for name in ["bin", "mods", "dev"] {
        archive.entry(name, DIRECTORY, (0, 0), &[])?;
    }
    archive.entry("dev/console", CONSOLE, (5, 1), &[])?;
    archive.entry("bin/busybox", PROGRAM, (0, 0), &std::fs::read(busybox)?)?;
    archive.entry("init", PROGRAM, (0, 0), SCRIPT.as_bytes())?;
    for (position, file) in kernel.modules.closure(&MODULES).into_iter().enumerate() {
        let name = format!("mods/{position:02}.ko"); // the shell's * sorts, so this is the order of loading
        archive.entry(&name, PROGRAM, (0, 0), &std::fs::read(kernel.modules_dir.join(file))?)?;
    }
    archive.entry("TRAILER!!!", 0, (0, 0), &[])?;
    Ok(archive.0)
}

/// cpio, in the "new ASCII" form that the kernel reads.
struct Archive(Vec<u8>);

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) -> Result<()> {
        let inode = u32::try_from(self.0.len())? + 1; // any that is not used twice
        let (size, name_size) = (u32::try_from(data.len())?, u32::try_from(name.len())? + 1);
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.0.extend(b"070701");
        for field in fields {
            self.0.extend(format!("{field:08X}").bytes());
        }
        self.0.extend(name.bytes().chain([0]));
        self.align();
        self.0.extend(data);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}
