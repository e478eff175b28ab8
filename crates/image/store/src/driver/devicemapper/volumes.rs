//! Making and deleting volumes, each within a transaction.

use super::file_system::FileSystem;
use super::metadata::{BASE, Device, Transaction};
use super::pool::unusable;
use super::{Devicemapper, SIZE};
use crate::LayerId;
use crate::driver::DriverError;
use crioxide_files::WriteGuard;
use crioxide_sys::block_device;
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::PoisonError;

/// Numbers of volumes have 24 bits.
const NUMBERS: u32 = 0xff_ffff;

impl Devicemapper {
    /// Makes the volume that all others come from, or sees that it is the one that was made.
    pub(super) fn prepare_base(&self) -> Result<(), DriverError> {
        let locked = self.lock()?;
        let base = self.metadata.device(BASE)?;
        if let Some(base) = base
            .as_ref()
            .filter(|base| base.initialized && !base.deleted)
        {
            return self.verify_base(base);
        }
        let before = self.settle()?;
        if let Some(half_made) = base {
            self.delete(BASE, &half_made, &locked)?;
        } else if !self.pool.is_own() && before != 0 {
            return Err(unusable(
                "the thin pool has been used by something else, and this store has no layers in it"
                    .into(),
            ));
        }
        let size = self.options.base_size.unwrap_or(SIZE);
        let transaction = self.new_volume("", None)?;
        let mut base = Device::new(&transaction, size);
        self.metadata.write_device(BASE, &base)?;
        self.finish(&transaction)?;
        let name = self.device_name(BASE);
        let node = self.pool.activate(&name, base.device_id, size)?;
        let made = FileSystem::make(&node, &self.options);
        self.pool.release(&name)?;
        let made = made?;
        let mut set = self.metadata.set()?;
        set.base_uuid = made.uuid;
        set.base_file_system = made.kind.to_owned();
        self.metadata.write_set(&set)?;
        base.initialized = true;
        self.metadata.write_device(BASE, &base)
    }

    fn verify_base(&self, base: &Device) -> Result<(), DriverError> {
        let name = self.device_name(BASE);
        let node = self.pool.activate(&name, base.device_id, base.size)?;
        let found = FileSystem::of(&node);
        self.pool.release(&name)?;
        let (found, mut set) = (found?, self.metadata.set()?);
        if set.base_uuid.is_empty() {
            set.base_uuid = found.uuid;
            set.base_file_system = found.kind.to_owned();
            return self.metadata.write_set(&set);
        }
        if set.base_uuid != found.uuid {
            return Err(unusable(format!(
                "the base volume has the file system {} and not {}: this is not the pool that the store was made with",
                found.uuid, set.base_uuid
            )));
        }
        match self.options.base_size {
            Some(wanted) if wanted != base.size => tracing::warn!(
                wanted,
                size = base.size,
                "dm.basesize has no effect: the base volume is there already"
            ),
            _ => {}
        }
        Ok(())
    }

    /// Undoes the transaction that was cut off, if one was. Returns the number of the last that was not.
    pub(super) fn settle(&self) -> Result<u64, DriverError> {
        let last = self.pool.status()?.transaction;
        let Some(open) = self.metadata.transaction()? else {
            return Ok(last);
        };
        if open.open_transaction_id <= last {
            return Ok(last);
        }
        tracing::info!(
            volume = open.device_id,
            layer = open.device_hash,
            "undoing a transaction of the thin pool that was cut off"
        );
        if !self.delete_volume(open.device_id)? {
            return Err(unusable(format!(
                "volume {} of the thin pool is half-made and in use",
                open.device_id
            )));
        }
        let name = match open.device_hash.as_str() {
            "" => BASE,
            name => name,
        };
        let is_name = name == BASE || LayerId::parse(name).is_ok();
        if is_name
            && let Some(device) = self.metadata.device(name)?
            && device.device_id == open.device_id
        {
            self.metadata.remove_device(name)?;
        }
        self.metadata.write_transaction(&Transaction {
            open_transaction_id: last,
            ..open
        })?;
        Ok(last)
    }

    /// Deletes a volume that has no device, or none that stays. `false` while it is in use.
    pub(super) fn delete_volume(&self, number: u32) -> Result<bool, DriverError> {
        self.pool.wait(|| self.pool.delete_volume(number))
    }

    /// Opens a transaction and makes a volume in it, empty or as a snapshot of another.
    pub(super) fn new_volume(
        &self,
        name: &str,
        origin: Option<u32>,
    ) -> Result<Transaction, DriverError> {
        let last = self.settle()?;
        for _ in 0..NUMBERS {
            let transaction = Transaction {
                open_transaction_id: last + 1,
                device_hash: name.to_owned(),
                device_id: self.next(),
            };
            self.metadata.write_transaction(&transaction)?;
            if self.pool.make_volume(transaction.device_id, origin)? {
                return Ok(transaction);
            }
            // The number is another's, who must not suffer if this is cut off.
            self.metadata.write_transaction(&Transaction {
                open_transaction_id: last,
                ..transaction
            })?;
        }
        Err(unusable("the thin pool has no free volume numbers".into()))
    }

    fn next(&self) -> u32 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last + 1) & NUMBERS;
        *last
    }

    pub(super) fn finish(&self, transaction: &Transaction) -> Result<(), DriverError> {
        let now = transaction.open_transaction_id;
        self.pool.finish(now - 1, now)
    }

    /// Deletes a layer's volume; later, if it is in use.
    pub(super) fn delete(
        &self,
        name: &str,
        device: &Device,
        _locked: &WriteGuard<'_>,
    ) -> Result<(), DriverError> {
        let last = self.settle()?;
        let device_name = self.device_name(name);
        if self.options.discard.unwrap_or(self.pool.on_files()) && !device.deleted {
            self.give_back(&device_name, device);
        }
        if !self.pool.deactivate(&device_name)? {
            tracing::warn!(
                layer = name,
                "a deleted layer is in use: its volume stays until it is not"
            );
            self.pool.release(&device_name)?;
            let device = Device {
                deleted: true,
                ..device.clone()
            };
            return self.metadata.write_device(name, &device);
        }
        let transaction = Transaction {
            open_transaction_id: last + 1,
            device_hash: if name == BASE {
                String::new()
            } else {
                name.to_owned()
            },
            device_id: device.device_id,
        };
        self.metadata.write_transaction(&transaction)?;
        if !self.delete_volume(device.device_id)? {
            self.metadata.write_transaction(&Transaction {
                open_transaction_id: last,
                ..transaction
            })?;
            return Err(unusable(format!("the volume of layer {name} is in use")));
        }
        self.metadata.remove_device(name)?;
        self.finish(&transaction)
    }

    /// Gives the blocks that only this volume has back to the file below the pool. What cannot be given back stays there.
    fn give_back(&self, name: &str, device: &Device) {
        let activated = self.pool.activate(name, device.device_id, device.size);
        let given = activated.map_err(io::Error::other).and_then(|node| {
            let mut options = OpenOptions::new();
            // Not if it is mounted.
            let options = options
                .write(true)
                .custom_flags(OFlags::EXCL.bits().cast_signed());
            block_device::discard(&options.open(node)?, device.size)
        });
        if let Err(error) = given {
            tracing::debug!(%error, name, "blocks of a deleted layer were not given back");
        }
    }
}

impl Device {
    /// The volume that a transaction made.
    pub(super) fn new(transaction: &Transaction, size: u64) -> Self {
        Device {
            device_id: transaction.device_id,
            size,
            transaction_id: transaction.open_transaction_id,
            initialized: false,
            deleted: false,
        }
    }
}
