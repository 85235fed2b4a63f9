//! Which certificate authorities are trusted. In: `ca_file` and the environment. Out: certificates that were checked one
//! by one (the S3 SDK panics on a bad one). Never: looks before the first https request.

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Where distributions keep their bundle.
const SYSTEM: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cacert.pem",
];

#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The user named them: all must be readable, and together hold a certificate.
    Named { files: Vec<PathBuf>, directories: Vec<PathBuf> },
    /// The system's bundle if there is one, else the compiled-in roots.
    Default,
}

/// The settings come first, then what AWS's tools know, then what OpenSSL's know.
fn source(ca_file: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> Source {
    let path = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let one = |file: PathBuf| Source::Named { files: vec![file], directories: Vec::new() };
    if let Some(file) = ca_file.map(Path::to_owned).or_else(|| path("AWS_CA_BUNDLE")) {
        return one(file);
    }
    match (path("SSL_CERT_FILE"), path("SSL_CERT_DIR")) {
        (None, None) => Source::Default,
        (file, directory) => {
            Source::Named { files: file.into_iter().collect(), directories: directory.into_iter().collect() }
        }
    }
}

/// Authorities that rustls accepts.
pub(super) struct Trust {
    pub roots: RootCertStore,
    /// The same ones, as they came.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    certificates: Vec<CertificateDer<'static>>,
}

/// Reads files, on a thread for such work. The error says which file and why.
pub(super) async fn load(ca_file: Option<&Path>) -> Result<Trust, String> {
    let ca_file = ca_file.map(Path::to_owned);
    tokio::task::spawn_blocking(move || read(ca_file.as_deref()))
        .await
        .map_err(|_| "loading the certificates was broken off".to_owned())?
}

#[cfg(feature = "s3")]
impl Trust {
    /// The only form that the S3 SDK takes.
    pub(super) fn pem(&self) -> Vec<u8> {
        self.certificates.iter().map(|certificate| armour(certificate)).collect::<String>().into_bytes()
    }
}

fn read(ca_file: Option<&Path>) -> Result<Trust, String> {
    let mut trust = Trust { roots: RootCertStore::empty(), certificates: Vec::new() };
    for certificate in certificates(source(ca_file, |name| std::env::var_os(name)))? {
        // A bundle may hold one that cannot be an authority; the others still serve.
        if trust.roots.add(certificate.clone()).is_ok() {
            trust.certificates.push(certificate);
        }
    }
    if trust.certificates.is_empty() {
        return Err("none of the certificates can serve as an authority; check ca_file or SSL_CERT_FILE".to_owned());
    }
    Ok(trust)
}

fn certificates(source: Source) -> Result<Vec<CertificateDer<'static>>, String> {
    let Source::Named { mut files, directories } = source else {
        let system = SYSTEM.iter().filter_map(|file| parse(Path::new(file)).ok()).find(|found| !found.is_empty());
        return Ok(system.unwrap_or_else(|| webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec()));
    };
    let mut all = Vec::new();
    for directory in directories {
        let entries = fs::read_dir(&directory)
            .map_err(|error| format!("cannot read the certificate directory {}: {error}", directory.display()))?;
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    for file in &files {
        all.extend(
            parse(file).map_err(|error| format!("cannot read the certificates in {}: {error}", file.display()))?,
        );
    }
    if all.is_empty() {
        return Err(format!("no certificate (PEM) in {}", list(&files)));
    }
    Ok(all)
}

fn list(files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    if names.is_empty() { "the certificate directory".to_owned() } else { names.join(", ") }
}

/// Every certificate of a PEM file; broken blocks are left out.
fn parse(file: &Path) -> std::io::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(&fs::read(file)?).flatten().collect())
}

/// DER as PEM.
#[cfg(any(feature = "s3", test))]
fn armour(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        pem = pem + line + "\n";
        rest = more;
    }
    pem + rest + "\n-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(files: &[&str], directories: &[&str]) -> Source {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        Source::Named { files: paths(files), directories: paths(directories) }
    }

    #[test]
    fn the_nearest_setting_wins() {
        let none: [(&str, &str); 0] = [];
        let ssl = [("SSL_CERT_FILE", "/f"), ("SSL_CERT_DIR", "/d")];
        let all = [("AWS_CA_BUNDLE", "/a"), ("SSL_CERT_FILE", "/f")];
        for (ca_file, env, expected) in [
            (Some("/c"), &all[..], named(&["/c"], &[])),
            (None, &all[..], named(&["/a"], &[])),
            (None, &ssl[..], named(&["/f"], &["/d"])),
            (None, &ssl[1..], named(&[], &["/d"])),
            (None, &none[..], Source::Default),
            (None, &[("AWS_CA_BUNDLE", ""), ("SSL_CERT_FILE", "")][..], Source::Default),
        ] {
            let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
            assert_eq!(source(ca_file.map(Path::new), get), expected);
        }
    }

    #[test]
    fn built_in_roots_survive_the_way_through_pem() {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        let pem: String = roots.iter().map(|root| armour(root)).collect();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        fs::write(&file, &pem).unwrap();
        assert_eq!(parse(&file).unwrap(), roots);
        assert!(read(Some(&file)).is_ok());
    }

    #[test]
    fn bad_files_are_errors_that_name_them_and_never_panics() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let broken = armour(b"not a certificate");
        for content in
            ["", "no PEM at all", broken.as_str(), "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"]
        {
            fs::write(&file, content).unwrap();
            assert!(read(Some(&file)).is_err(), "{content}");
        }
        let missing = read(Some(Path::new("/nowhere/ca.pem"))).err().unwrap();
        assert!(missing.contains("/nowhere/ca.pem"), "{missing}");
    }

    #[test]
    fn one_broken_certificate_does_not_spoil_a_bundle() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let good = webpki_root_certs::TLS_SERVER_ROOT_CERTS.first().unwrap();
        fs::write(&file, armour(b"broken") + &armour(good)).unwrap();
        assert!(read(Some(&file)).is_ok());
    }
}
