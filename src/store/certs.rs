//! Which certificate authorities are trusted: those of `ca_file` or the environment, else the system's. They
//! are read at the first https request, and each is checked.

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
enum CaSource {
    /// The user named them: all must be readable, and together hold a certificate.
    Named { by: String, files: Vec<PathBuf>, directories: Vec<PathBuf> },
    /// The system's bundle if there is one, else the compiled-in roots.
    Default,
}

/// The settings come first, then what AWS's tools know, then what OpenSSL's know.
fn source(ca_file: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> CaSource {
    let path = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let single = |by: &str, file: PathBuf| CaSource::Named {
        by: by.into(),
        files: vec![file],
        directories: Vec::new(),
    };
    let named = ca_file.map(|file| ("ca_file", file.to_owned()));
    if let Some((by, file)) = named.or_else(|| path("AWS_CA_BUNDLE").map(|file| ("AWS_CA_BUNDLE", file))) {
        return single(by, file);
    }
    match (path("SSL_CERT_FILE"), path("SSL_CERT_DIR")) {
        (None, None) => CaSource::Default,
        (file, directory) => {
            let by = [file.as_ref().map(|_| "SSL_CERT_FILE"), directory.as_ref().map(|_| "SSL_CERT_DIR")];
            let by = by.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            CaSource::Named {
                by,
                files: file.into_iter().collect(),
                directories: directory.into_iter().collect(),
            }
        }
    }
}

/// Authorities that rustls accepts.
pub(super) struct Trust {
    pub roots: RootCertStore,
}

/// Reads files, on a thread for such work. The error says which file and why.
pub(super) async fn load(ca_file: Option<&Path>) -> Result<Trust, String> {
    let ca_file = ca_file.map(Path::to_owned);
    tokio::task::spawn_blocking(move || read(ca_file.as_deref()))
        .await
        .map_err(|_| "loading the certificates was broken off".to_owned())?
}

fn read(ca_file: Option<&Path>) -> Result<Trust, String> {
    let mut trust = Trust { roots: RootCertStore::empty() };
    let source = source(ca_file, |name| std::env::var_os(name));
    let named = match &source {
        CaSource::Named { by, files, directories } => format!("{} (named by {by})", list(files, directories)),
        CaSource::Default => "the system's bundle".to_owned(),
    };
    for certificate in certificates(source)? {
        // A bundle may hold one that cannot be an authority; the others still serve.
        let _ = trust.roots.add(certificate);
    }
    if trust.roots.is_empty() {
        return Err(format!("none of the certificates in {named} can serve as an authority"));
    }
    Ok(trust)
}

fn certificates(source: CaSource) -> Result<Vec<CertificateDer<'static>>, String> {
    let CaSource::Named { by, mut files, directories } = source else {
        let system =
            SYSTEM.iter().filter_map(|file| parse(Path::new(file)).ok()).find(|found| !found.is_empty());
        return Ok(system.unwrap_or_else(|| webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec()));
    };
    let mut all = Vec::new();
    for directory in &directories {
        let entries = fs::read_dir(directory).map_err(|error| {
            format!("cannot read the certificate directory {} (named by {by}): {error}", directory.display())
        })?;
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    for file in &files {
        all.extend(parse(file).map_err(|error| {
            format!("cannot read the certificates in {} (named by {by}): {error}", file.display())
        })?);
    }
    if all.is_empty() {
        return Err(format!("no certificate (PEM) in {} (named by {by})", list(&files, &directories)));
    }
    Ok(all)
}

fn list(files: &[PathBuf], directories: &[PathBuf]) -> String {
    let named = if files.is_empty() { directories } else { files };
    named.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Every certificate of a PEM file; broken blocks are left out.
fn parse(file: &Path) -> std::io::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(&fs::read(file)?).flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DER as PEM.
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

    fn named(by: &str, files: &[&str], directories: &[&str]) -> CaSource {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        CaSource::Named { by: by.into(), files: paths(files), directories: paths(directories) }
    }

    #[test]
    fn the_nearest_setting_wins() {
        let none: [(&str, &str); 0] = [];
        let ssl = [("SSL_CERT_FILE", "/f"), ("SSL_CERT_DIR", "/d")];
        let all = [("AWS_CA_BUNDLE", "/a"), ("SSL_CERT_FILE", "/f")];
        for (ca_file, env, expected) in [
            (Some("/c"), &all[..], named("ca_file", &["/c"], &[])),
            (None, &all[..], named("AWS_CA_BUNDLE", &["/a"], &[])),
            (None, &ssl[..], named("SSL_CERT_FILE and SSL_CERT_DIR", &["/f"], &["/d"])),
            (None, &ssl[1..], named("SSL_CERT_DIR", &[], &["/d"])),
            (None, &none[..], CaSource::Default),
            (None, &[("AWS_CA_BUNDLE", ""), ("SSL_CERT_FILE", "")][..], CaSource::Default),
        ] {
            let get =
                |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
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
        for content in [
            "",
            "no PEM at all",
            broken.as_str(),
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        ] {
            fs::write(&file, content).unwrap();
            let message = read(Some(&file)).err().unwrap();
            assert!(
                message.contains(file.to_str().unwrap()) && message.contains("(named by ca_file)"),
                "{content}: {message}"
            );
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
