//! Where a replica lives: a directory, here or behind the shared OpenSSH; a bucket of the shared SeaweedFS or
//! of the shared fake-gcs-server; a container of the shared Azurite. Says how to name it to litevisor and to
//! Litestream, and what objects it holds.

use super::azurite::{self, Azurite};
use super::fake_gcs::FakeGcs;
use super::seaweed::{ACCESS_KEY, REGION, SECRET_KEY, Seaweed, block_on};
use super::sshd::{self, Sshd};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub enum Replica {
    Directory(PathBuf),
    /// `endpoint` may be that of a gate in front of the server.
    S3 {
        endpoint: String,
        bucket: String,
        prefix: String,
    },
    /// On the shared fake-gcs-server.
    Gs {
        bucket: String,
        prefix: String,
    },
    Abs {
        container: String,
        prefix: String,
    },
    /// A directory of this machine behind the shared OpenSSH.
    Sftp(PathBuf),
}

impl Replica {
    pub fn gs(bucket: &str, prefix: &str) -> Replica {
        FakeGcs::shared().create_bucket(bucket);
        Replica::Gs { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    pub fn abs(container: &str, prefix: &str) -> Replica {
        Azurite::shared().create_container(container);
        Replica::Abs { container: container.to_owned(), prefix: prefix.to_owned() }
    }

    pub fn sftp(name: &str) -> Replica {
        Replica::Sftp(Sshd::shared().data(name))
    }

    pub fn s3(bucket: &str, prefix: &str) -> Replica {
        let seaweed = Seaweed::shared();
        seaweed.create_bucket(bucket);
        Replica::S3 { endpoint: seaweed.endpoint(), bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    /// The replica of that name below this one.
    pub fn below(&self, name: &str) -> Replica {
        let mut below = self.clone();
        match &mut below {
            Replica::Directory(root) | Replica::Sftp(root) => root.push(name),
            Replica::S3 { prefix, .. } | Replica::Gs { prefix, .. } | Replica::Abs { prefix, .. } => {
                *prefix = format!("{prefix}/{name}");
            }
        }
        below
    }

    /// The same replica behind another endpoint.
    pub fn at(&self, endpoint: &str) -> Replica {
        match self {
            Replica::Directory(_) | Replica::Sftp(_) | Replica::Gs { .. } | Replica::Abs { .. } => {
                panic!("{self:?} has no gate")
            }
            Replica::S3 { bucket, prefix, .. } => {
                Replica::S3 { endpoint: endpoint.into(), bucket: bucket.clone(), prefix: prefix.clone() }
            }
        }
    }

    pub fn url(&self) -> String {
        match self {
            Replica::Directory(path) => format!("file://{}", path.display()),
            Replica::S3 { bucket, prefix, .. } => format!("s3://{bucket}/{prefix}"),
            Replica::Gs { bucket, prefix } => format!("gs://{bucket}/{prefix}"),
            Replica::Abs { container, prefix } => format!("abs://{}@{container}/{prefix}", azurite::ACCOUNT),
            Replica::Sftp(path) => {
                format!("sftp://{}@127.0.0.1:{}{}", sshd::user(), Sshd::shared().port(), path.display())
            }
        }
    }

    /// Keys of `[database.replica]`.
    pub fn toml(&self) -> String {
        let url = self.url();
        match self {
            Replica::Directory(_) => format!("url = \"{url}\"\n"),
            Replica::Sftp(_) => {
                let server = Sshd::shared();
                let (key, host) = (server.file("id_ed25519"), server.host_key("ed25519"));
                format!("url = \"{url}\"\nkey_file = \"{}\"\nhost_key = \"{host}\"\n", key.display())
            }
            Replica::S3 { endpoint, .. } => {
                format!(
                    "url = \"{url}\"\nendpoint = \"{endpoint}\"\nregion = \"{REGION}\"\nforce_path_style = true\n\
                     access_key_id = \"{ACCESS_KEY}\"\nsecret_access_key = \"{SECRET_KEY}\"\n"
                )
            }
            Replica::Gs { .. } => {
                format!("url = \"{url}\"\nendpoint = \"{}\"\n", FakeGcs::shared().endpoint())
            }
            Replica::Abs { .. } => {
                let (endpoint, key) = (Azurite::shared().endpoint(), azurite::KEY);
                format!("url = \"{url}\"\nendpoint = \"{endpoint}\"\naccount_key = \"{key}\"\n")
            }
        }
    }

    /// The `replica:` of a litestream.yml, indented by six.
    pub fn yaml(&self) -> String {
        match self {
            Replica::Directory(path) => format!("      type: file\n      path: {}\n", path.display()),
            Replica::Sftp(path) => {
                let server = Sshd::shared();
                let (user, port, path) = (sshd::user(), server.port(), path.display());
                // Of several host keys Litestream asks for the ECDSA one, and compares that.
                let (key, host) = (server.file("id_ed25519"), server.host_key("ecdsa"));
                format!(
                    "      type: sftp\n      host: 127.0.0.1:{port}\n      user: {user}\n      key-path: {}\n      \
                     host-key: {host}\n      path: {path}\n",
                    key.display()
                )
            }
            Replica::S3 { endpoint, bucket, prefix } => {
                format!(
                    "      type: s3\n      bucket: {bucket}\n      path: {prefix}\n      endpoint: {endpoint}\n      region: {REGION}\n      \
                     force-path-style: true\n      access-key-id: {ACCESS_KEY}\n      secret-access-key: {SECRET_KEY}\n"
                )
            }
            // Where the server is stands in the environment.
            Replica::Gs { bucket, prefix } => {
                format!("      type: gs\n      bucket: {bucket}\n      path: {prefix}\n")
            }
            Replica::Abs { container, prefix } => {
                let (endpoint, account, key) = (Azurite::shared().endpoint(), azurite::ACCOUNT, azurite::KEY);
                format!(
                    "      type: abs\n      bucket: {container}\n      path: {prefix}\n      endpoint: {endpoint}\n      \
                     account-name: {account}\n      account-key: {key}\n"
                )
            }
        }
    }

    /// Every object under the replica's root with something that changes when its content does.
    pub fn objects(&self) -> BTreeMap<String, String> {
        match self {
            Replica::Directory(root) | Replica::Sftp(root) => {
                let mut objects = BTreeMap::new();
                walk(root, root, &mut objects);
                objects
            }
            Replica::S3 { bucket, prefix, .. } => list(bucket, &format!("{prefix}/")),
            Replica::Gs { bucket, prefix } => {
                let (prefix, found) =
                    (format!("{prefix}/"), FakeGcs::shared().objects(bucket, &format!("{prefix}/")));
                let content = |object: &serde_json::Value| object["md5Hash"].as_str().unwrap().to_owned();
                found
                    .iter()
                    .map(|(name, object)| (name[prefix.len()..].to_owned(), content(object)))
                    .collect()
            }
            Replica::Abs { container, prefix } => Azurite::shared().list(container, &format!("{prefix}/")),
        }
    }

    /// Bytes of one object; asked of the server itself, not through a gate.
    pub fn read(&self, key: &str) -> Vec<u8> {
        match self {
            Replica::Directory(root) | Replica::Sftp(root) => std::fs::read(root.join(key)).unwrap(),
            Replica::S3 { bucket, prefix, .. } => {
                let client = Seaweed::shared().client();
                block_on(async {
                    let reply = client
                        .get_object()
                        .bucket(bucket)
                        .key(format!("{prefix}/{key}"))
                        .send()
                        .await
                        .unwrap();
                    reply.body.collect().await.unwrap().to_vec()
                })
            }
            Replica::Gs { bucket, prefix } => FakeGcs::shared().read(bucket, &format!("{prefix}/{key}")),
            Replica::Abs { container, prefix } => {
                Azurite::shared().read(container, &format!("{prefix}/{key}"))
            }
        }
    }

    /// Deletes one object; on the server itself, not through a gate.
    pub fn remove(&self, key: &str) {
        match self {
            Replica::Directory(root) | Replica::Sftp(root) => std::fs::remove_file(root.join(key)).unwrap(),
            Replica::S3 { bucket, prefix, .. } => {
                let client = Seaweed::shared().client();
                let key = format!("{prefix}/{key}");
                block_on(async { client.delete_object().bucket(bucket).key(key).send().await.map(drop) })
                    .unwrap();
            }
            Replica::Gs { .. } | Replica::Abs { .. } => panic!("no test deletes there"),
        }
    }

    /// (level, first TXID, last TXID) of every LTX file.
    pub fn ltx_files(&self) -> BTreeMap<(u32, u64, u64), String> {
        self.objects().into_iter().filter_map(|(key, content)| Some((parse(&key)?, content))).collect()
    }

    /// The newest TXID on any level; 0 for an empty replica.
    pub fn newest_txid(&self) -> u64 {
        self.ltx_files().keys().map(|(_, _, max)| *max).max().unwrap_or(0)
    }
}

/// `ltx/9/MIN-MAX.ltx` in a directory, `0009/MIN-MAX.ltx` in a bucket.
pub fn parse(key: &str) -> Option<(u32, u64, u64)> {
    let (directory, name) = key.rsplit_once('/')?;
    let level = match directory.strip_prefix("ltx/") {
        Some(decimal) => decimal.parse().ok()?,
        None => u32::from_str_radix(directory, 16).ok()?,
    };
    let (min, max) = name.strip_suffix(".ltx")?.split_once('-')?;
    Some((level, u64::from_str_radix(min, 16).ok()?, u64::from_str_radix(max, 16).ok()?))
}

/// Keys under `prefix`, relative to it, each with its ETag; asked of the server itself, not through a gate.
fn list(bucket: &str, prefix: &str) -> BTreeMap<String, String> {
    let client = Seaweed::shared().client();
    block_on(async {
        let mut pages = client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for object in page.unwrap().contents() {
                let key = object.key().unwrap().strip_prefix(prefix).unwrap().to_owned();
                found.insert(key, object.e_tag().unwrap_or_default().to_owned());
            }
        }
        found
    })
}

fn walk(root: &Path, directory: &Path, into: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            walk(root, &path, into);
        } else if let Ok(bytes) = std::fs::read(&path) {
            let key = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            into.insert(key, format!("{} bytes, {:016x}", bytes.len(), fingerprint(&bytes)));
        }
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
