//! Files and what they mean.

use super::*;

fn around() -> Around {
    Around {
        network: NetworkConfig::default(),
        publish: Vec::new(),
        publish_all: false,
        volumes: PathBuf::from("/volumes"),
        tls_verify: true,
        log: Log::default(),
        annotations: BTreeMap::new(),
        users: UsersWish::Host,
        create_command: Vec::new(),
    }
}

const SHOP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  color: blue
  motd.txt: |
    hello
---
apiVersion: v1
kind: Pod
metadata:
  name: shop
  labels: {app: shop}
spec:
  restartPolicy: Never
  hostAliases:
  - {ip: 10.0.0.9, hostnames: [printer, copier]}
  dnsConfig: {searches: [a.example], options: [{name: ndots, value: "2"}]}
  nodeSelector: {disk: ssd}
  containers:
  - name: web
    image: localhost/banner
    command: [httpd, -f]
    args: ["-p", "$(PORT)"]
    ports:
    - {containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}
    - containerPort: 443
    env:
    - {name: PORT, value: "80"}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    resources: {requests: {cpu: 100m}}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: config, mountPath: /etc/motd, subPath: motd.txt}
    - {name: scratch, mountPath: /scratch}
  - name: db
    image: localhost/banner
    volumeMounts:
    - {name: scratch, mountPath: /scratch, readOnly: true}
    - {name: logs, mountPath: /logs}
    - {name: files, mountPath: /data}
  volumes:
  - name: config
    configMap: {name: settings}
  - name: scratch
    emptyDir: {}
  - name: logs
    hostPath: {path: /var/log/shop, type: DirectoryOrCreate}
  - name: files
    persistentVolumeClaim: {claimName: shop-files}
"#;

#[test]
fn a_pod_becomes_a_pod_its_containers_and_its_volumes() {
    let play = read(SHOP, &[], &around()).unwrap().remove(0);
    assert_eq!(play.pod.name.as_ref().unwrap().as_str(), "shop");
    assert_eq!(play.pod.exit_policy, engine::pods::ExitPolicy::Stop);
    let ports: Vec<String> = play.pod.network.publish.iter().cloned().map(String::from).collect();
    assert_eq!(ports, ["127.0.0.1:8080:80/tcp"]);
    assert_eq!(play.pod.network.add_hosts[0].names.len(), 2);
    assert_eq!(play.pod.network.dns_options, ["ndots:2"]);
    let [web, db] = &play.containers[..] else { panic!("two containers") };
    assert_eq!(web.name.as_ref().unwrap().as_str(), "shop-web");
    assert_eq!(
        (web.entrypoint.clone().unwrap(), &web.command[..]),
        (vec!["httpd".to_owned(), "-f".to_owned()], &["-p".to_owned(), "80".to_owned()][..])
    );
    let env: Vec<String> = web.env.iter().map(|(name, value)| format!("{name}={}", value.clone().unwrap())).collect();
    assert_eq!(env, ["PORT=80", "COLOR=blue", "POD=shop"]);
    let mounts: Vec<String> =
        web.volumes.iter().chain(&db.volumes).map(|v| format!("{:?} {} {:?}", v.source, v.target, v.options)).collect();
    assert_eq!(
        mounts,
        [
            "Named(\"shop-config\") /config [\"ro\"]",
            "Bind(\"/volumes/shop-config/_data/motd.txt\") /etc/motd [\"ro\"]",
            "Named(\"shop-scratch\") /scratch []",
            "Named(\"shop-scratch\") /scratch [\"ro\"]",
            "Bind(\"/var/log/shop\") /logs []",
            "Named(\"shop-files\") /data []",
        ]
    );
    assert_eq!(play.paths, [(PathBuf::from("/var/log/shop"), HostPath::DirectoryOrCreate)]);
    assert_eq!(play.claims, ["shop-files"]);
    let files: Vec<_> = play.pod.volumes[0].files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    assert_eq!(files, [("color", "blue"), ("motd.txt", "hello\n")]);
    assert_eq!(names(SHOP).unwrap(), [("shop".to_owned(), vec!["shop-files".to_owned()])]);
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: store}
spec:
  replicas: 3
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      hostNetwork: true
      restartPolicy: Never
      containers:
      - {name: web, image: banner, ports: [{containerPort: 80, hostPort: 80}]}
";

#[test]
fn a_deployment_becomes_one_pod() {
    let play = read(DEPLOYMENT, &[], &around()).unwrap().remove(0);
    assert_eq!(play.pod.name.as_ref().unwrap().as_str(), "store-pod");
    assert_eq!(play.containers[0].name.as_ref().unwrap().as_str(), "store-pod-web");
    assert_eq!(play.pod.network.mode, engine::config::NetworkMode::Host);
    assert!(play.pod.network.publish.is_empty() && play.remarks[0].starts_with("Limiting replica count to 1"));
}

#[test]
fn the_command_line_publishes_in_place_of_the_file() {
    let ports = |around: &Around| -> Vec<String> {
        read(SHOP, &[], around).unwrap().remove(0).pod.network.publish.into_iter().map(String::from).collect()
    };
    assert_eq!(ports(&Around { publish: vec!["9090:80".parse().unwrap()], ..around() }), ["9090:80"]);
    assert_eq!(ports(&Around { publish_all: true, ..around() }), ["127.0.0.1:8080:80/tcp", "443:443/tcp"]);
}

/// A pod with this in its spec and, indented, in its container.
fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n{spec}\n  containers:\n  - name: c\n    image: i\n{container}\n"
    )
}

#[test]
fn what_cannot_be_honoured_is_refused_by_its_place() {
    let check = |text: &str, words: &str| {
        let refused = read(text, &[], &around()).expect_err(text).0;
        assert!(refused.contains(words) && !refused.contains('\n'), "{refused:?} for {text}");
    };
    check("a: [", "not YAML: ");
    check("[]", "the document must be a mapping, not a list");
    check("kind: Job\napiVersion: v1", "kind Job is not supported by podwire yet");
    check("kind: Service\napiVersion: v1", "YAML document does not contain any supported kube kind");
    check("", "YAML document does not contain any supported kube kind");
    check("kind: Pod\napiVersion: v2", "apiVersion v2 is not known for this kind: v1 is");
    check(&pod("  initContainers: [{}]", ""), "spec.initContainers is not supported by podwire yet");
    check(&pod("  restartPolicies: Never", ""), "spec.restartPolicies is not supported by podwire, or misspelt");
    check(&pod("  restartPolicy: Sometimes", ""), "restartPolicy Sometimes is not known");
    check(&pod("  dnsPolicy: None", ""), "dnsPolicy None needs a dnsConfig");
    check(
        &pod("", "    env: [{name: A, value: 5}]"),
        "spec.containers[0].env[0].value must be a text (in quotes where it looks like something else), not 5",
    );
    check(&pod("", "    livenessProbe: {}"), "livenessProbe.exec, httpGet or tcpSocket: one of them is needed");
    check(
        &pod("", "    livenessProbe: {grpc: {port: 1}, exec: {command: [a]}}"),
        "livenessProbe.grpc is not supported by podwire yet",
    );
    check(&pod("", "    livenessProbe: {tcpSocket: {port: web}}"), "web is neither a port nor the name of one");
    check(&pod("", "    livenessProbe: {httpGet: {port: 80, path: \"/'; reboot\"}}"), "must be a path of a URL");
    check(&pod("", "    startupProbe: {exec: {command: [a]}}"), "only supported by podwire beside a livenessProbe");
    check(
        &pod("", "    startupProbe: {exec: {command: [a]}}\n    livenessProbe: {exec: {command: [b]}}"),
        "startupProbe must ask what livenessProbe asks",
    );
    check(&pod("", "    resources: {limits: {memory: 1 Gi}}"), "resources.limits.memory: \"1 Gi\" is no quantity");
    check(&pod("", "    resources: {limits: {nvidia.com/gpu: 1}}"), "resources.limits.nvidia.com/gpu is not supported");
    check(&pod("", "    ports: [{containerPort: 70000}]"), "containerPort must be a number in its range, not 70000");
    check(&pod("", "    volumeMounts: [{name: v, mountPath: /v}]"), "the pod has no volume called v");
    check(&pod("  volumes: [{name: v, nfs: {server: s}}]", ""), "a volume is one of hostPath, emptyDir");
    check(&pod("  volumes: [{name: v, configMap: {name: m}}]", ""), "ConfigMap m is in no document");
    check(
        &pod(
            "  volumes: [{name: v, emptyDir: {}}]",
            "    volumeMounts: [{name: v, mountPath: /v, subPath: ../../etc}]",
        ),
        "must lead below the volume",
    );
    check(&pod("  hostNetwork: true", "    ports: [{containerPort: 80, hostPort: 8080}]"), "must be the same (80)");
    check(&(pod("", "") + "---\n" + &pod("", "")), "two pods of the file are called p");
}

#[test]
fn policies_probes_and_limits_become_those_of_the_containers() {
    use engine::config::{OnUnhealthy, Restart};
    let container = |spec: &str, container: &str| {
        read(&pod(spec, container), &[], &around()).unwrap().remove(0).containers.remove(0)
    };
    let seconds = std::time::Duration::from_secs;
    assert_eq!(container("", "").care.restart, Restart::Always);
    assert_eq!(container("  restartPolicy: OnFailure", "").care.restart, Restart::OnFailure(0));
    let limited = container("", "    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {memory: 1Mi}}").limits;
    assert_eq!((limited.nano_cpus, limited.memory), (Some(500_000_000), Some(64 << 20)));
    let never = container("  restartPolicy: Never", "    livenessProbe: {exec: {command: [test, -e, /up]}}");
    let check = never.care.health.unwrap();
    assert_eq!((check.shell, &check.command[..]), (false, &["test".to_owned(), "-e".into(), "/up".into()][..]));
    assert_eq!((check.interval, check.timeout, check.retries), (Some(seconds(10)), seconds(1), 3));
    assert_eq!((check.start_period, check.on_failure), (seconds(0), OnUnhealthy::None));
    let web = "    ports: [{name: http, containerPort: 8080}]
    startupProbe: {httpGet: {port: http, path: /up}, periodSeconds: 2, failureThreshold: 30}
    livenessProbe: {httpGet: {port: http, path: /up}, initialDelaySeconds: 5, periodSeconds: 1}
    readinessProbe: {tcpSocket: {port: 1}}";
    let check = container("", web).care.health.unwrap();
    assert_eq!(
        (check.shell, &check.command[..]),
        (true, &["curl -f 'http://localhost:8080/up' || exit 1".to_owned()][..])
    );
    assert_eq!((check.start_period, check.on_failure), (seconds(60), OnUnhealthy::Restart));
}

#[test]
fn what_is_written_is_read_again() {
    let container = serde_json::json!({
        "Name": "shop-web", "ImageName": "localhost/banner:latest",
        "Config": {
            "Cmd": ["-p", "80"], "Entrypoint": ["httpd", "-f"], "Env": ["PATH=/bin", "A=yes", "B=5", "C=x: y # z"],
            "User": "7:8", "WorkingDir": "/srv", "Tty": true, "OpenStdin": false, "StopTimeout": 3,
            "Healthcheck": {
                "Test": ["CMD-SHELL", "test -e /up"], "Interval": 5_000_000_000_u64, "Timeout": 2_000_000_000_u64, "Retries": 4,
            },
        },
        "HostConfig": { "CapAdd": ["CAP_NET_ADMIN"], "CapDrop": [], "Privileged": false, "ReadonlyRootfs": true, "RestartPolicy": {"Name": "no"},
            "NanoCpus": 500_000_000, "Memory": 67_108_864, "MemoryReservation": 1000, "SecurityOpt": ["no-new-privileges"] },
        "Mounts": [
            {"Type": "volume", "Name": "files", "Source": "/x", "Destination": "/data", "RW": true},
            {"Type": "bind", "Source": "/var/log", "Destination": "/logs", "RW": false},
        ],
    });
    let infra = serde_json::json!({
        "IsInfra": true, "Config": {"Hostname": "shop", "Labels": {"a": "b"}},
        "HostConfig": {
            "NetworkMode": "bridge", "Dns": ["1.1.1.1"], "DnsSearch": [], "DnsOptions": ["ndots:2"], "ExtraHosts": ["x;y:10.0.0.9"],
            "PortBindings": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}]},
        },
    });
    for kind in [Kind::Pod, Kind::Deployment] {
        let text = write(&Written {
            name: "shop",
            pod: None,
            infra: Some(&infra),
            containers: &[(container.clone(), Value::Null)],
            files: &Files::new(),
            kind,
            replicas: 1,
            service: true,
            now: jiff::Timestamp::UNIX_EPOCH,
        })
        .unwrap();
        let play = read(&text, &[], &around()).unwrap_or_else(|e| panic!("{e}\n{text}")).remove(0);
        let web = &play.containers[0];
        assert_eq!(
            web.env,
            [("A", "yes"), ("B", "5"), ("C", "x: y # z")].map(|(n, v)| (n.to_owned(), Some(v.to_owned())))
        );
        assert_eq!((web.user.as_deref(), web.workdir.as_deref(), web.tty), (Some("7:8"), Some("/srv"), true));
        assert_eq!(play.pod.labels["a"], "b");
        let ports: Vec<String> = play.pod.network.publish.iter().cloned().map(String::from).collect();
        assert_eq!(ports, ["8080:80/tcp", "127.0.0.1:5353:53/udp"]);
        assert_eq!(web.volumes.len(), 2);
        let limits = &web.limits;
        assert_eq!((limits.nano_cpus, limits.memory), (Some(500_000_000), Some(64 << 20)));
        assert_eq!((limits.memory_reservation, web.stop_timeout), (Some(1000), Some(3)));
        assert!(web.security.no_new_privileges && web.security.read_only);
        let check = web.care.health.as_ref().unwrap();
        assert_eq!((check.command[2].as_str(), check.retries), ("test -e /up", 4));
        assert!(
            play.remarks.iter().any(|remark| remark.starts_with("Service shop is passed over")),
            "{:?}",
            play.remarks
        );
        // Kubernetes reads YAML 1.1, where this is true.
        assert!(text.contains("value: \"yes\"") || text.contains("value: 'yes'"), "{text}");
        assert!(text.contains("value: \"5\"") || text.contains("value: '5'"), "{text}");
    }
}

proptest::proptest! {
    /// Lines left out, doubled, moved in or out, or with other values.
    #[test]
    fn a_damaged_file_is_read_or_refused_in_one_line(
        edits in proptest::collection::vec((0_usize..60, 0_u8..5, "[ -~]{0,12}"), 1..6)
    ) {
        let mut lines: Vec<String> = SHOP.lines().map(str::to_owned).collect();
        for (at, edit, text) in edits {
            let at = at % lines.len();
            match edit {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                2 => lines[at].insert_str(0, "  "),
                3 => lines[at] = lines[at].trim_start().to_owned(),
                _ => lines[at] = format!("{}: {text}", lines[at].split(':').next().unwrap_or_default()),
            }
        }
        if let Err(Refused(line)) = read(&lines.join("\n"), &[], &around()) {
            proptest::prop_assert!(!line.contains('\n') && !line.is_empty(), "{line:?}");
        }
    }
}

#[test]
fn secrets_are_values_of_the_file() {
    let text = r#"
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {password: aHVudGVyMg==}
stringData: {user: admin}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostUsers: false
  securityContext: {supplementalGroups: [7], sysctls: [{name: net.core.somaxconn, value: "64"}]}
  containers:
  - name: c
    image: i
    securityContext: {allowPrivilegeEscalation: false, seccompProfile: {type: Unconfined}}
    env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}]
    envFrom: [{secretRef: {name: keys}, prefix: K_}]
    volumeMounts: [{name: s, mountPath: /s}, {name: d, mountPath: /dev/x, readOnly: true}]
  volumes:
  - {name: s, secret: {secretName: keys, items: [{key: user, path: name}]}}
  - {name: d, hostPath: {path: /dev/null, type: CharDevice}}
"#;
    let play = read(text, &[], &around()).unwrap().remove(0);
    let c = &play.containers[0];
    let env: Vec<String> = c.env.iter().map(|(name, value)| format!("{name}={}", value.clone().unwrap())).collect();
    assert_eq!(env, ["K_password=hunter2", "K_user=admin", "PASSWORD=hunter2"]);
    let file = &play.pod.volumes[0].files[0];
    assert_eq!((file.path.as_str(), file.text.as_str()), ("name", "admin"));
    assert_eq!((c.inside.devices[0].target.as_str(), c.inside.devices[0].access.as_str()), ("/dev/x", "rm"));
    assert_eq!((c.volumes.len(), &c.inside.groups[..]), (1, &["7".to_owned()][..]));
    assert!(c.security.no_new_privileges && c.security.seccomp == engine::config::Seccomp::Unconfined);
    assert_eq!(play.pod.common.sysctls["net.core.somaxconn"], "64");
    assert!(matches!(play.pod.users, UsersWish::Auto { .. }));
    let wrong = text.replace("aHVudGVyMg==", "not base64");
    assert_eq!(read(&wrong, &[], &around()).unwrap_err().0, "Secret keys: the value of password must be base64");
    let gone = text.replace("secretName: keys", "secretName: others");
    assert_eq!(read(&gone, &[], &around()).unwrap_err().0, "Secret others is in no document of the file");
}
