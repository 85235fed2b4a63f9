//! `GET /`: the state of the run as one page for people. Pure. It has no script, loads nothing, and says in
//! words what it draws. It names neither a replica's address nor a secret: whoever reaches the port may read
//! it, as `/metrics`.

use super::health::{self, DbState};
use super::lag_history::{MINUTES, Minutes};
use super::status_registry::{DatabaseView, Snapshot};
use crate::gate::GateView;
use crate::model::{Moment, Txid};
use crate::replica::RestorableRange;
use crate::replicate::Status;
use std::fmt::{self, Display, Write};
use std::time::{Duration, SystemTime};

/// The page loads nothing, runs nothing, is in no frame. The hash is that of `STYLE`.
pub const POLICY: &str = "default-src 'none'; style-src \
    'sha256-cKAzapAk8i1PfX9qTYEpH+TpBZ+z2Y+8r9EdH49F7gY='; frame-ancestors 'none'; base-uri 'none'; \
    form-action 'none'";

const STYLE: &str = include_str!("page.css");
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 60.0;

/// Text between tags or in a quoted attribute.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string().chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Names may turn the text around them, or hide in it.
            char if char.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&char)
                || ('\u{2066}'..='\u{2069}').contains(&char) =>
            {
                write!(f, "{}", char.escape_unicode())
            }
            char => f.write_char(char),
        })
    }
}

/// `lags`: of a database, over the last hour.
pub fn html(
    snapshot: &Snapshot,
    max_lag: Option<Duration>,
    lags: impl Fn(&str) -> Minutes,
    now: Moment,
) -> String {
    let reasons = health::unready(snapshot, max_lag);
    let verdict = if reasons.is_empty() { health::ready_line(snapshot) } else { "not ready" };
    let mut page = String::new();
    let _ = page_of(&mut page, snapshot, verdict, &reasons, &lags, now);
    page
}

fn page_of(
    out: &mut String,
    snapshot: &Snapshot,
    verdict: &str,
    reasons: &[String],
    lags: &dyn Fn(&str) -> Minutes,
    now: Moment,
) -> fmt::Result {
    let class = if reasons.is_empty() { "good" } else { "bad" };
    let title = Escaped(verdict);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>litevisor: \
         {title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>litevisor</h1>\n\
         <p class=\"{class}\" role=\"status\">{title}</p>\n"
    )?;
    list(out, reasons)?;
    list(out, &health::notes(snapshot))?;
    out.push_str("</header>\n<main>\n");
    app(out, snapshot)?;
    out.push_str("<section aria-labelledby=\"databases\">\n<h2 id=\"databases\">Databases</h2>\n");
    if snapshot.databases.is_empty() {
        out.push_str("<p>None.</p>\n");
    }
    for (number, view) in snapshot.databases.iter().enumerate() {
        database(out, snapshot, (number, view), &lags(&view.db), now)?;
    }
    out.push_str("</section>\n");
    gates(out, &snapshot.gates)?;
    if let Some(handover) = &snapshot.handover {
        let epoch = handover.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        write!(
            out,
            "<section aria-labelledby=\"hand-over\">\n<h2 \
             id=\"hand-over\">Hand-over</h2>\n<dl>\n{}{}{}</dl>\n</section>\n",
            Row("State", handover.state),
            Row("Epoch of this instance", epoch),
            Row("In words", &handover.detail)
        )?;
    }
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        out,
        "</main>\n<footer>\n<p>litevisor {version}, {}. Load the page again for newer figures. For programs: \
         <a href=\"/readyz\">/readyz</a>, <a href=\"/healthz\">/healthz</a>, <a \
         href=\"/metrics\">/metrics</a>.</p>\n</footer>\n\
         </body>\n</html>",
        Time(now)
    )
}

fn list(out: &mut String, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    out.push_str("<ul>\n");
    lines.iter().try_for_each(|line| writeln!(out, "<li>{}</li>", Escaped(line)))?;
    out.push_str("</ul>\n");
    Ok(())
}

/// A term and what it is.
struct Row<K, V>(K, V);

impl<K: Display, V: Display> Display for Row<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "<dt>{}</dt><dd>{}</dd>", Escaped(&self.0), Escaped(&self.1))
    }
}

struct Time(Moment);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        write!(f, "<time datetime=\"{text}\">{text}</time>")
    }
}

fn app(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let app = &snapshot.app;
    out.push_str("<section aria-labelledby=\"app\">\n<h2 id=\"app\">App</h2>\n<dl>\n");
    write!(out, "{}", Row("Phase", snapshot.phase.name().replace('_', " ")))?;
    write!(out, "{}", Row("Process", app.pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string())))?;
    if let Some(started) = app.started {
        writeln!(out, "<dt>Started</dt><dd>{}</dd>", Time(moment(started)))?;
    }
    write!(out, "{}", Row("Restarts", app.restarts))?;
    if let Some(ended) = &app.ended {
        write!(out, "{}", Row("Last end", ended))?;
    }
    out.push_str("</dl>\n</section>\n");
    Ok(())
}

fn database(
    out: &mut String,
    snapshot: &Snapshot,
    (number, view): (usize, &DatabaseView),
    lags: &Minutes,
    now: Moment,
) -> fmt::Result {
    let state = health::state(view);
    let problem = health::problem(view);
    let good = matches!(state, DbState::Replicating | DbState::Following) && problem.is_none();
    let class = if good { "good" } else { "bad" };
    let name = state.name().replace('_', " ");
    writeln!(
        out,
        "<article aria-labelledby=\"db{number}\">\n<h3 id=\"db{number}\">{}</h3>\n<dl>\n\
         <dt>State</dt><dd class=\"{class}\">{name}</dd>",
        Escaped(&view.db)
    )?;
    if let Some(problem) = problem {
        writeln!(out, "<dt>Problem</dt><dd class=\"bad\">{}</dd>", Escaped(problem))?;
    }
    if let Some(status) = &view.status {
        let lag = status.lag(snapshot.now);
        let txid = |txid: Txid| if txid == Txid::NONE { "none".to_owned() } else { txid.to_string() };
        write!(out, "{}", Row("Committed TXID", txid(status.captured.0.max(status.uploaded.0))))?;
        write!(out, "{}", Row("Uploaded TXID", txid(status.uploaded.0)))?;
        write!(out, "{}", Row("Lag", format!("{:.1} s", lag.as_secs_f64())))?;
        if let Some(at) = status.uploaded_at {
            writeln!(out, "<dt>Last upload</dt><dd>{}</dd>", Time(moment(at)))?;
        }
    }
    if let Some(proof) = &view.proof {
        let running = if proof.is_running { "running now; " } else { "" };
        let last = match (proof.problem(), proof.proven()) {
            (Some(problem), _) => problem,
            (None, Some((time, txid))) => format!("sound at {}, TXID {}", Moment(time), Txid(txid)),
            (None, None) => "none yet".to_owned(),
        };
        write!(out, "{}", Row("Last proof", format!("{running}{last}")))?;
    }
    if let Some(follow) = &view.follow {
        write!(out, "{}", Row("Copy's TXID", follow.position))?;
        write!(
            out,
            "{}",
            Row("Behind the replica", format!("{:.1} s", follow.behind(snapshot.now).as_secs_f64()))
        )?;
    }
    out.push_str("</dl>\n");
    if view.status.is_some() {
        lag_figure(out, number, lags)?;
    }
    if let Some(status) = &view.status {
        timeline(out, number, status, now)?;
    }
    out.push_str("</article>\n");
    Ok(())
}

/// The highest lag of each minute, and the same in one sentence.
fn lag_figure(out: &mut String, number: usize, lags: &Minutes) -> fmt::Result {
    let known = || lags.iter().flatten();
    let Some(most) = known().max() else { return Ok(()) };
    // At least a second high, so that a lag of milliseconds looks like the nothing that it is.
    let scale = most.as_secs_f64().max(1.0);
    let bar = WIDTH / MINUTES as f64;
    let sentence = format!(
        "At most {:.1} s in the last {}, {:.1} s in the newest.",
        most.as_secs_f64(),
        minutes(lags.len()),
        lags.back().copied().flatten().unwrap_or_default().as_secs_f64()
    );
    writeln!(
        out,
        "<figure>\n<svg role=\"img\" aria-labelledby=\"lag{number}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">"
    )?;
    for (at, lag) in lags.iter().enumerate() {
        let Some(lag) = lag else { continue };
        let height = (lag.as_secs_f64() / scale * (HEIGHT - 2.0)).max(1.0);
        let x = WIDTH - bar * (lags.len() - at) as f64;
        let y = HEIGHT - height;
        writeln!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>", bar - 1.0)?;
    }
    writeln!(out, "</svg>\n<figcaption id=\"lag{number}\">Lag: {sentence}</figcaption>\n</figure>")
}

fn minutes(count: usize) -> String {
    if count == 1 { "minute".into() } else { format!("{count} minutes") }
}

/// What can be restored, drawn and as a table; gaps are rows of their own.
fn timeline(out: &mut String, number: usize, status: &Status, now: Moment) -> fmt::Result {
    let mut ranges = status.restorable.to_vec();
    // The last one grows with every upload.
    let newest = (status.uploaded.0, status.uploaded_at.map_or(Moment(0), moment));
    ranges.last_mut().into_iter().for_each(|range| range.last = range.last.max(newest));
    let Some(first) = ranges.first() else { return Ok(()) };
    let start = first.first.1.0;
    let span = (now.0.saturating_sub(start)).max(1) as f64;
    let place = |moment: Moment| ((moment.0.saturating_sub(start)) as f64 / span * WIDTH).clamp(0.0, WIDTH);
    writeln!(
        out,
        "<figure>\n<svg class=\"timeline\" role=\"img\" aria-label=\"The same as the table below\" \
         viewBox=\"0 0 {WIDTH} 14\">"
    )?;
    for range in &ranges {
        let (from, to) = (place(range.first.1), place(range.last.1));
        writeln!(out, "<rect x=\"{from:.1}\" y=\"0\" width=\"{:.1}\" height=\"14\"/>", (to - from).max(2.0))?;
    }
    writeln!(
        out,
        "</svg>\n</figure>\n<table aria-describedby=\"db{number}\">\n<caption>Moments that can be \
         restored</caption>\n\
         <thead><tr><th scope=\"col\">from</th><th scope=\"col\">to</th><th \
         scope=\"col\">positions</th></tr></thead>\n<tbody>"
    )?;
    let mut before: Option<&RestorableRange> = None;
    for range in &ranges {
        if let Some(before) = before {
            writeln!(
                out,
                "<tr class=\"bad\"><td>{}</td><td>{}</td><td>gap: nothing in between can be \
                 restored</td></tr>",
                Time(before.last.1),
                Time(range.first.1)
            )?;
        }
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            Time(range.first.1),
            Time(range.last.1),
            range.points
        )?;
        before = Some(range);
    }
    out.push_str("</tbody>\n</table>\n");
    Ok(())
}

fn gates(out: &mut String, gates: &[GateView]) -> fmt::Result {
    if gates.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<section aria-labelledby=\"gates\">\n<h2 id=\"gates\">Gates</h2>\n<table>\n\
         <caption>Listeners in front of the app</caption>\n<thead><tr><th scope=\"col\">listens on</th><th \
         scope=\"col\">state</th>\
         <th scope=\"col\">connections</th><th scope=\"col\">held bytes</th><th scope=\"col\">oldest \
         held</th>\
         <th scope=\"col\">sent without proof</th></tr></thead>\n<tbody>\n",
    );
    for gate in gates {
        let (class, state) = gate.shut.as_deref().map_or(("good", "open"), |why| ("bad", why));
        let oldest =
            gate.oldest.map_or_else(|| "none".to_owned(), |oldest| format!("{:.2} s", oldest.as_secs_f64()));
        writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td \
             class=\"{class}\">{}</td><td>{}</td><td>{}</td><td>{oldest}</td><td>{}</td></tr>",
            Escaped(&gate.listen),
            Escaped(state),
            gate.connections,
            gate.held_bytes,
            gate.unproven
        )?;
    }
    out.push_str("</tbody>\n</table>\n");
    let unprovable = gates.iter().flat_map(|gate| &gate.unprovable);
    let lines: Vec<String> = unprovable.map(|(db, why)| format!("{db}: {why}")).collect();
    list(out, &lines)?;
    out.push_str("</section>\n");
    Ok(())
}

fn moment(time: SystemTime) -> Moment {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Captured, Uploaded};
    use crate::observe::handover::HandoverView;
    use crate::observe::status_registry::{Phase, StatusRegistry};

    const NOW: Moment = Moment(1_795_327_279_000);

    /// Every element is closed where it must be; the names of all that were opened.
    fn elements(page: &str) -> Vec<String> {
        let mut open: Vec<&str> = Vec::new();
        let mut seen = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("<{tag} has no end"));
            let name = tag.split_ascii_whitespace().next().unwrap();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{page}"),
                None if ["!doctype", "meta", "rect/"].contains(&name) || tag.ends_with('/') => {}
                None => open.push(name),
            }
            seen.push(name.to_owned());
        }
        assert!(open.is_empty(), "{open:?}");
        seen
    }

    fn range(first: (u64, i64), last: (u64, i64), points: usize) -> RestorableRange {
        let at = |(txid, minutes): (u64, i64)| (Txid(txid), Moment(NOW.0 - minutes * 60_000));
        RestorableRange { first: at(first), last: at(last), mark: "", points }
    }

    fn snapshot() -> Snapshot {
        let status = Status {
            captured: Captured(Txid(47)),
            uploaded: Uploaded(Txid(46)),
            replicating: true,
            restorable: [range((1, 90), (20, 60), 20), range((30, 30), (46, 0), 17)].into(),
            ..Status::default()
        };
        let db = "/d/<img src=x onerror=alert(1)>\u{202e}'\".db".to_owned();
        let replicated = DatabaseView { db, status: Some(status), ..DatabaseView::default() };
        let restoring = DatabaseView { db: "/d/b.db".into(), ..DatabaseView::default() };
        let detail = "it owns the replica & <serves>".to_owned();
        let handover =
            Some(HandoverView { epoch: Some(7), state: "owner", detail, ..HandoverView::default() });
        let databases = vec![replicated, restoring];
        Snapshot { phase: Phase::Running, databases, handover, ..StatusRegistry::default().snapshot() }
    }

    #[test]
    fn what_people_read() {
        let lags = |_: &str| {
            Minutes::from([None, Some(Duration::from_millis(300)), Some(Duration::from_millis(1200))])
        };
        let page = html(&snapshot(), None, lags, NOW);
        let elements = elements(&page);
        for once in ["main", "h1", "header", "footer", "title", "caption"] {
            assert_eq!(elements.iter().filter(|name| *name == once).count(), 1, "{once}");
        }
        for text in [
            "<html lang=\"en\">",
            "&lt;img src=x onerror=alert(1)&gt;\\u{202e}&#39;&quot;.db",
            "<dt>Uploaded TXID</dt><dd>000000000000002e</dd>",
            "Lag: At most 1.2 s in the last 3 minutes, 1.2 s in the newest.",
            "gap: nothing in between can be restored",
            "<td>17</td>",
            "it owns the replica &amp; &lt;serves&gt;",
            "<dd class=\"bad\">restoring</dd>",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        for foreign in ["<script", "<img", "http:", "https:", "style=", "javascript:", "\u{202e}"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn nothing_is_known_yet() {
        let page = html(&StatusRegistry::default().snapshot(), None, |_| Minutes::default(), NOW);
        elements(&page);
        assert!(page.contains("<p class=\"bad\" role=\"status\">not ready</p>"), "{page}");
        assert!(page.contains("<p>None.</p>"));
    }

    /// A browser would not apply it otherwise.
    #[cfg(feature = "sftp")]
    #[test]
    fn the_policy_names_the_style() {
        use base64::Engine;
        let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
        let hash = base64::engine::general_purpose::STANDARD.encode(digest);
        assert!(POLICY.contains(&format!("'sha256-{hash}'")), "{hash}");
    }
}
