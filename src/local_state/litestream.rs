//! Litestream's own directory beside a database (`.NAME-litestream`): removes its copies of segments, by
//! their names. Other files there stay. No link is followed.

use crate::model::{DbPath, Txid};
use crate::rights::{self, Dir, absent_ok};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};

/// Litestream's levels are `0` to `9`.
const LEVELS: u8 = 10;

/// Removes the local segments. False: there are none.
pub fn forget(db: &DbPath) -> io::Result<bool> {
    rights::within(db, || {
        let name = db.litestream_dir().file_name().map(OsString::from).unwrap_or_default();
        let Some(dir) = there(Dir::open(db.directory()).and_then(|above| above.below(&name)))? else {
            return Ok(false);
        };
        let Some(segments) = there(dir.below(OsStr::new("ltx")))? else { return Ok(false) };
        for level in 0..LEVELS {
            let level = OsString::from(level.to_string());
            let Some(files) = there(segments.below(&level))? else { continue };
            for file in files.names()?.into_iter().filter(|file| is_segment(file)) {
                absent_ok(files.remove(&file))?;
            }
            segments.remove_directory(&level)?;
        }
        dir.remove_directory(OsStr::new("ltx"))?;
        Ok(true)
    })
}

fn there(opened: io::Result<Dir>) -> io::Result<Option<Dir>> {
    match opened {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `MIN-MAX.ltx`, also with what Litestream adds while it writes one.
fn is_segment(name: &OsStr) -> bool {
    let range = name.to_str().map(|name| name.strip_suffix(".tmp").unwrap_or(name));
    let ends = range.and_then(|name| name.strip_suffix(".ltx")?.split_once('-'));
    ends.is_some_and(|(min, max)| Txid::from_name(min).is_some() && Txid::from_name(max).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_its_own_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let db = DbPath::new(dir.path().join("app.db"));
        assert!(!forget(&db).unwrap());
        let (one, file) =
            ("0000000000000001-0000000000000001.ltx", "0000000000000001-000000000000000f.ltx.tmp");
        let segments = db.litestream_dir().join("ltx");
        fs::create_dir_all(segments.join("0")).unwrap();
        fs::create_dir_all(segments.join("9")).unwrap();
        fs::write(segments.join("0").join(one), "").unwrap();
        fs::write(segments.join("9").join(file), "").unwrap();
        assert!(forget(&db).unwrap());
        assert!(!segments.exists() && db.litestream_dir().exists());
        // Another file keeps the directory.
        fs::create_dir_all(segments.join("0")).unwrap();
        fs::write(segments.join("0").join(one), "").unwrap();
        fs::write(segments.join("0/notes"), "mine").unwrap();
        assert!(forget(&db).is_err());
        assert_eq!(fs::read_dir(segments.join("0")).unwrap().count(), 1);
        // A link at each place.
        let outside = dir.path().join("outside/ltx/0");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join(one), "theirs").unwrap();
        for (link, target) in [
            (db.litestream_dir(), dir.path().join("outside")),
            (segments.clone(), dir.path().join("outside/ltx")),
            (segments.join("0"), outside.clone()),
        ] {
            if let Ok(meta) = fs::symlink_metadata(db.litestream_dir()) {
                let path = db.litestream_dir();
                if meta.is_symlink() {
                    fs::remove_file(path).unwrap()
                } else {
                    fs::remove_dir_all(path).unwrap()
                }
            }
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(&target, &link).unwrap();
            let _ = forget(&db);
            assert!(outside.join(one).exists(), "{link:?}");
        }
    }
}
