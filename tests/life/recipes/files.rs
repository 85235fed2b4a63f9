//! The platforms' own files: parsed, and their numbers compared with `supervisor.toml`'s.

use super::{RECIPES, recipe};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn read(name: &str, file: &str) -> String {
    std::fs::read_to_string(recipe(name).join(file)).unwrap_or_else(|error| panic!("{name}/{file}: {error}"))
}

/// `[shutdown] grace`, in seconds.
fn grace(name: &str) -> u64 {
    let table: toml::Table = read(name, "supervisor.toml").parse().unwrap();
    let text = table["shutdown"]["grace"].as_str().unwrap().to_owned();
    text.strip_suffix('s').unwrap().parse().unwrap()
}

fn seconds(text: &str) -> u64 {
    text.trim_matches('"').strip_suffix('s').unwrap().parse().unwrap()
}

/// The documents of a YAML file.
fn yaml(name: &str, file: &str) -> Vec<serde_json::Value> {
    let text = read(name, file);
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}/{file}: {error}")))
        .collect()
}

fn kind<'a>(documents: &'a [serde_json::Value], kind: &str) -> &'a serde_json::Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn compose() {
    let file = &yaml("compose", "compose.yaml")[0];
    let service = &file["services"]["grafana"];
    assert_eq!(seconds(service["stop_grace_period"].as_str().unwrap()), grace("compose"));
    assert!(service["init"].is_null());
    let image = service["build"]["dockerfile_inline"].as_str().unwrap();
    assert!(image.contains("COPY --from=litevisor /litevisor /usr/local/bin/litevisor"));
    for kind in ["configs", "secrets"] {
        for one in service[kind].as_array().unwrap() {
            let name = one.as_str().or(one["source"].as_str()).unwrap();
            assert!(file[kind][name]["file"].is_string(), "{kind}: {name} is not defined");
        }
    }
    let defaults = read("compose", "supervisor.toml");
    for secret in file["secrets"].as_object().unwrap().keys() {
        assert!(defaults.contains(&format!("/run/secrets/{secret}")), "{secret} is not read");
    }
}

#[test]
fn ecs() {
    let task: serde_json::Value = serde_json::from_str(&read("ecs-fargate", "task-definition.json")).unwrap();
    let container = &task["containerDefinitions"][0];
    assert_eq!(container["stopTimeout"], grace("ecs-fargate"));
    assert!(grace("ecs-fargate") <= 120, "Fargate's most");
    assert!(container["essential"] == true && task["networkMode"] == "awsvpc");
    assert_eq!(container["healthCheck"]["command"][2], "healthcheck");
    assert!(container["healthCheck"]["startPeriod"].as_u64().unwrap() <= 300, "ECS's most");
    let named: Vec<&str> = container["environment"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(named.contains(&"REPLICA_BUCKET"));
    let policy: serde_json::Value =
        serde_json::from_str(&read("ecs-fargate", "task-role-policy.json")).unwrap();
    let actions = policy["Statement"].to_string();
    for action in ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"] {
        assert!(actions.contains(action), "{action}");
    }
}

#[test]
fn fly() {
    let file: toml::Table = read("fly", "fly.toml").parse().unwrap();
    assert_eq!(file["kill_signal"].as_str(), Some("SIGINT"));
    assert_eq!(seconds(file["kill_timeout"].as_str().unwrap()), grace("fly"));
    assert!(grace("fly") <= 300, "Fly's most");
    assert!(recipe("fly").join(file["build"]["dockerfile"].as_str().unwrap()).is_file());
}

/// The port in the file is the one that the app is waited for at.
fn has_port(name: &str, port: &str) -> bool {
    let table: toml::Table = read(name, "supervisor.toml").parse().unwrap();
    table["app"]["ready"].as_str() == Some(&format!("tcp:{port}"))
}

#[test]
fn railway() {
    let file: toml::Table = read("railway", "railway.toml").parse().unwrap();
    let (build, deploy) = (file["build"].as_table().unwrap(), file["deploy"].as_table().unwrap());
    assert!(recipe("railway").join(build["dockerfilePath"].as_str().unwrap()).is_file());
    assert!(deploy["healthcheckPath"].as_str().unwrap().starts_with('/'));
    let known = ["healthcheckPath", "healthcheckTimeout", "restartPolicyType", "restartPolicyMaxRetries"];
    assert!(deploy.keys().all(|key| known.contains(&key.as_str())), "{deploy:?}");
    let readme = read("railway", "README.md");
    assert!(readme.contains(&format!("RAILWAY_DEPLOYMENT_DRAINING_SECONDS={} ", grace("railway"))));
    assert!(readme.contains("PORT=8080") && has_port("railway", "8080"));
}

#[test]
fn render() {
    let file = &yaml("render", "render.yaml")[0];
    let service = &file["services"][0];
    assert_eq!(service["maxShutdownDelaySeconds"], grace("render"));
    assert!(grace("render") <= 300, "Render's most");
    assert_eq!((&service["numInstances"], &service["runtime"]), (&1.into(), &"docker".into()));
    assert!(service["disk"].is_null(), "a disk ends the overlap");
    assert!(recipe("render").join(service["dockerfilePath"].as_str().unwrap()).is_file());
    let variables = service["envVars"].as_array().unwrap();
    let value = |name: &str| {
        variables.iter().find(|variable| variable["key"] == name).map(|variable| &variable["value"])
    };
    assert!(has_port("render", value("PORT").unwrap().as_str().unwrap()));
    for name in ["REPLICA_BUCKET", "REPLICA_ENDPOINT", "REPLICA_KEY", "REPLICA_SECRET"] {
        assert!(
            value(name).is_some() && read("render", "supervisor.toml").contains(&format!("${{{name}}}")),
            "{name}"
        );
    }
}

#[test]
fn kubernetes() {
    let toml = read("hedgedoc-kubernetes", "supervisor.toml");
    for file in ["one-container.yaml", "sidecar.yaml"] {
        let documents = yaml("hedgedoc-kubernetes", file);
        assert_eq!(kind(&documents, "ConfigMap")["data"]["supervisor.toml"].as_str(), Some(&*toml), "{file}");
        let deployment = &kind(&documents, "Deployment")["spec"];
        assert_eq!(
            (&deployment["replicas"], &deployment["strategy"]["type"]),
            (&1.into(), &"Recreate".into()),
            "{file}"
        );
        let pod = &deployment["template"]["spec"];
        let whole = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let pre_stop = &pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"];
        let asleep: u64 = pre_stop[1].as_str().unwrap().parse().unwrap();
        assert!(grace("hedgedoc-kubernetes") + asleep <= whole, "{file}: preStop runs inside the grace");
        let volumes: Vec<&str> = pod["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| volume["name"].as_str().unwrap())
            .collect();
        let containers =
            ["initContainers", "containers"].map(|kind| pod[kind].as_array().cloned().unwrap_or_default());
        for container in containers.concat() {
            for mount in container["volumeMounts"].as_array().unwrap() {
                assert!(volumes.contains(&mount["name"].as_str().unwrap()), "{file}: {mount}");
            }
        }
        let litevisor =
            if file == "sidecar.yaml" { &pod["initContainers"][0] } else { &pod["containers"][0] };
        assert_eq!(litevisor["startupProbe"]["httpGet"]["path"], "/readyz", "{file}");
        if file == "sidecar.yaml" {
            assert_eq!(
                (&litevisor["restartPolicy"], &litevisor["args"][0]),
                (&"Always".into(), &"replicate".into())
            );
        }
        let port = litevisor["startupProbe"]["httpGet"]["port"].as_u64().unwrap();
        assert!(toml.contains(&format!("listen = \":{port}\"")), "{file}: the probe's port");
    }
}

const UNIT_KEYS: [&str; 29] = [
    "Description",
    "Wants",
    "After",
    "ExecStart",
    "User",
    "StateDirectory",
    "RuntimeDirectory",
    "Environment",
    "EnvironmentFile",
    "LoadCredential",
    "KillMode",
    "TimeoutStopSec",
    "TimeoutStartSec",
    "Restart",
    "RestartSec",
    "RestartPreventExitStatus",
    "NoNewPrivileges",
    "ProtectSystem",
    "PrivateTmp",
    "WantedBy",
    "Type",
    "WatchdogSec",
    "SuccessExitStatus",
    "OnCalendar",
    "Persistent",
    "Requires",
    "Before",
    "Group",
    "WorkingDirectory",
];

#[test]
fn systemd() {
    for unit in ["app.service", "litevisor-once.service", "litevisor-once.timer"] {
        let text = read("systemd", unit);
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let known = match line.strip_prefix('[') {
                Some(section) => ["Unit]", "Service]", "Timer]", "Install]"].contains(&section),
                None => line.split_once('=').is_some_and(|(key, _)| UNIT_KEYS.contains(&key)),
            };
            assert!(known, "{unit}: {line}");
        }
    }
    assert!(read("systemd", "app.service").contains(&format!("TimeoutStopSec={}\n", grace("systemd"))));
    // It needs the programs of the units to be there: what it says of those is not meant.
    let Ok(said) =
        Command::new("systemd-analyze").arg("verify").arg(recipe("systemd").join("app.service")).output()
    else {
        return;
    };
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let wrong =
        said.lines().filter(|line| line.contains("app.service:") && !line.contains("is not executable"));
    assert_eq!(wrong.collect::<Vec<_>>(), [""; 0]);
}

/// No parser of HCL here: blocks are balanced, and whatever is referred to is defined.
#[test]
fn terraform() {
    let text = read("grafana-cloud-run", "main.tf");
    let code: String =
        text.lines().map(|line| line.split(" # ").next().unwrap().trim_end()).collect::<Vec<_>>().join("\n");
    let code: String =
        code.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    for (open, close) in [('{', '}'), ('[', ']'), ('(', ')')] {
        assert_eq!(code.matches(open).count(), code.matches(close).count(), "{open}{close}");
    }
    assert_eq!(code.matches('"').count() % 2, 0);
    let mut defined = BTreeSet::new();
    for line in code.lines() {
        let words: Vec<&str> = line.split('"').collect();
        match words[0].trim() {
            "variable" => drop(defined.insert(format!("var.{}", words[1]))),
            "resource" if words.len() > 3 => drop(defined.insert(format!("{}.{}", words[1], words[3]))),
            _ => {}
        }
    }
    let word = |char: char| char.is_alphanumeric() || char == '_' || char == '.';
    let used =
        code.split(|char| !word(char)).filter(|word| word.starts_with("var.") || word.starts_with("google_"));
    let used: BTreeSet<String> = used
        .filter(|word| word.contains('.'))
        .map(|word| word.split('.').take(2).collect::<Vec<_>>().join("."))
        .collect();
    assert!(used.len() > 5, "{used:?}");
    assert!(used.is_subset(&defined), "{:?} is not defined", used.difference(&defined));
    for part in [
        "max_instance_count = 1",
        "cpu_idle          = false",
        "EXECUTION_ENVIRONMENT_GEN2",
        "roles/storage.objectUser",
    ] {
        assert!(code.contains(part), "{part}");
    }
    assert_eq!(grace("grafana-cloud-run"), 10, "Cloud Run's");
}

#[test]
fn images_are_made_the_same_way() {
    for name in RECIPES {
        let file = recipe(name).join("Dockerfile");
        if !Path::new(&file).exists() {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for part in [
            "FROM litevisor AS litevisor",
            "COPY --from=litevisor /litevisor /usr/local/bin/litevisor",
            "ENTRYPOINT [\"/usr/local/bin/litevisor\", \"run\"]",
        ] {
            assert!(text.contains(part), "{name}: {part}");
        }
    }
}
