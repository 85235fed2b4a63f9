//! One file of the replica, whole and verified, before the copy is touched: in memory, or on the disk in a
//! file without a name.

use crate::local_state::{place, spill};
use crate::ltx::{Decoder, Event, Header, LtxError, Trailer};
use crate::model::{DbPath, PageNo};
use crate::replica::RemoteFile;
use crate::restore::RestoreError;
use crate::restore::error::Damage;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// A larger file is kept on the disk.
const MEMORY: usize = 4 << 20;
const READ_BYTES: usize = 256 << 10;

/// A file that is arriving.
pub struct Spool {
    db: DbPath,
    replica: String,
    file: RemoteFile,
    decoder: Decoder,
    bytes: Vec<u8>,
    disk: Option<File>,
    length: u64,
}

/// A file whose checksum is right, and whose name says what its header says.
pub struct Spooled {
    replica: String,
    pub file: RemoteFile,
    pub header: Header,
    pub trailer: Trailer,
    bytes: Vec<u8>,
    disk: Option<File>,
    pub length: u64,
}

impl Spool {
    pub fn new(db: &DbPath, replica: &str, file: &RemoteFile) -> Spool {
        Spool {
            db: db.clone(),
            replica: replica.to_owned(),
            file: file.clone(),
            decoder: Decoder::default(),
            bytes: Vec::new(),
            disk: None,
            length: 0,
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let mut left = bytes;
        loop {
            match self.decoder.next(&mut left) {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(error) => return Err(self.damaged(Damage::Format(error))),
            }
        }
        self.length += bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > MEMORY { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), RestoreError> {
        let directory = place::of(&self.db);
        let failed = RestoreError::io("write a file of the replica to", &directory);
        let disk = match &mut self.disk {
            Some(disk) => disk,
            None => {
                let made = spill::nameless(&self.db).map_err(|source| RestoreError::LocalState { source })?;
                self.disk.insert(made)
            }
        };
        let written = disk.write_all(&self.bytes).map_err(failed);
        self.bytes.clear();
        written
    }

    /// All of it has arrived.
    pub fn finish(mut self) -> Result<Spooled, RestoreError> {
        if self.disk.is_some() {
            self.write()?;
        }
        let (header, trailer) = match std::mem::take(&mut self.decoder).finish() {
            Ok(ends) => ends,
            Err(error) => return Err(self.damaged(Damage::Format(error))),
        };
        if header.range != self.file.range {
            return Err(self.damaged(Damage::Name(header.range)));
        }
        let Spool { replica, file, bytes, disk, length, .. } = self;
        Ok(Spooled { replica, file, header, trailer, bytes, disk, length })
    }

    fn damaged(&self, damage: Damage) -> RestoreError {
        RestoreError::Damaged { replica: self.replica.clone(), file: self.file.key.clone(), damage }
    }
}

impl Spooled {
    /// Hands each page to `each`, in their order.
    pub fn pages<E: From<RestoreError>>(
        &self,
        mut each: impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut decoder = Decoder::default();
        let mut feed = |mut bytes: &[u8]| -> Result<(), E> {
            while let Some(event) = decoder.next(&mut bytes).map_err(|error| self.damaged(error))? {
                if let Event::Page(page, data) = event {
                    each(page, data)?;
                }
            }
            Ok(())
        };
        let Some(disk) = &self.disk else { return feed(&self.bytes) };
        let mut buffer = vec![0; READ_BYTES];
        let mut at = 0;
        while at < self.length {
            let read = disk.read_at(&mut buffer, at);
            let got = read.map_err(RestoreError::io("read again", std::path::Path::new(&self.file.key)))?;
            if got == 0 {
                break;
            }
            feed(buffer.get(..got).unwrap_or_default())?;
            at += got as u64;
        }
        Ok(())
    }

    fn damaged(&self, error: LtxError) -> RestoreError {
        let damage = Damage::Format(error);
        RestoreError::Damaged { replica: self.replica.clone(), file: self.file.key.clone(), damage }
    }
}
