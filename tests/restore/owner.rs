//! Whose the restored file is, as root: as configured, else like the file that was there, else the app's
//! user's, else like the directory.

use crate::support::site::Site;
use crate::support::{SOON, bank};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

fn look(path: &Path) -> (u32, u32, u32) {
    let found = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

/// A start on what `arrange` leaves on the disk. The app proves that it may write.
fn started(site: &Site, arrange: impl Fn(&Site)) -> (u32, u32, u32) {
    site.wipe();
    // The way there is open to everybody, as in a container.
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap()
    };
    open(site.disk().parent().unwrap());
    arrange(site);
    let mut run =
        site.run(&["test", "-r", site.db().to_str().unwrap(), "-a", "-w", site.db().to_str().unwrap()]);
    assert_eq!(run.wait(SOON).code, 0, "{}", run.log_text());
    assert!(run.log_text().contains("restored"), "{}", run.log_text());
    look(&site.db())
}

#[test]
fn owner_and_mode_are_what_the_app_needs() {
    assert!(nix::unistd::geteuid().is_root(), "this test gives files away: run it as root");
    let (app, other) = (12345, 23456);
    let mut site = Site::in_directory();
    site.make_history(20);
    let with = |site: &mut Site, app: &str, database: &str| {
        site.settings = app.to_owned();
        site.database_settings = format!("{database}\n");
    };
    let owned_disk = |site: &Site| chown(site.disk(), Some(app), Some(app)).unwrap();
    let default_of = |site: &Site, uid: u32, mode: u32| {
        bank::seed(&site.db());
        chown(site.db(), Some(uid), Some(uid)).unwrap();
        std::fs::set_permissions(site.db(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };

    // As configured, whatever was there, and whoever the app is.
    with(&mut site, "[app]\nuser = \"12345:12345\"\n", "owner = \"23456:12345\"\nmode = \"0660\"");
    let found = started(&site, |site| {
        owned_disk(site);
        default_of(site, 777, 0o600);
    });
    assert_eq!(found, (other, app, 0o660));
    // Like the file that was set aside.
    with(&mut site, "", "");
    assert_eq!(started(&site, |site| default_of(site, 777, 0o604)), (777, 777, 0o604));
    // The app's user.
    with(&mut site, "[app]\nuser = \"12345:12345\"\n", "");
    let (uid, gid, mode) = started(&site, owned_disk);
    assert_eq!((uid, gid, mode & 0o600), (app, app, 0o600));
    // The directory's owner.
    with(&mut site, "", "");
    let (uid, gid, _) = started(&site, owned_disk);
    assert_eq!((uid, gid), (app, app));
    // Our own records belong to the same one, so that nothing of root's is left in the app's directory.
    let own = site.files_on_disk().into_iter().find(|name| name.ends_with("-litevisor")).unwrap();
    assert_eq!(look(&site.disk().join(own)).0, app);
}

/// Directories that are missing are made for the app, too.
#[test]
fn directories_that_are_made_belong_to_the_app() {
    assert!(nix::unistd::geteuid().is_root(), "this test gives files away: run it as root");
    let mut site = Site::in_directory();
    site.make_history(20);
    site.settings = "[app]\nuser = \"12345:12345\"\n".to_owned();
    let found = started(&site, |site| std::fs::remove_dir_all(site.disk()).unwrap());
    assert_eq!((found.0, found.1), (12345, 12345));
    let (uid, gid, _) = look(&site.disk());
    assert_eq!((uid, gid), (12345, 12345));
}
