//! Kubernetes files: played, written and taken down.

use lab::trial::{Need, Sentence};
use lab::{HOST4, Lab, LabOptions, sentences};

use crate::words::{banner_comes, eventually, get, load, load_for_user, no_banner};

pub(crate) fn sentences() -> Vec<Sentence> {
    let mut all = sentences![LabOptions::default(); &[];
        a_pod_written_for_kubernetes_plays_and_is_taken_down_without_a_trace,
        a_deployment_plays_as_one_pod_and_config_maps_become_files_and_variables,
        a_file_that_cannot_be_honoured_is_refused_before_anything_is_made,
        a_pod_that_runs_is_written_as_a_file_that_plays,
        what_is_written_plays_and_is_written_the_same_again,
        secrets_services_and_paths_of_the_host_are_dealt_with,
        what_a_probe_finds_dead_is_started_again_within_its_limits,
    ];
    all.extend(sentences![LabOptions { user: true, ..LabOptions::default() }; &[Need::UidMap];
        an_ordinary_user_plays_a_pod_and_takes_it_down,
    ]);
    all
}

/// As one finds them in tutorials: two containers, a port of the host, and fields that only a cluster can honour.
const SHOP: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: shop
  labels:
    app: shop
spec:
  restartPolicy: Never
  nodeSelector:
    disk: ssd
  hostAliases:
  - ip: 10.0.0.9
    hostnames: [printer]
  containers:
  - name: web
    image: localhost/banner
    imagePullPolicy: IfNotPresent
    ports:
    - name: http
      containerPort: 80
      hostPort: 8080
    volumeMounts:
    - name: scratch
      mountPath: /scratch
    resources:
      requests:
        cpu: 100m
  - name: db
    image: localhost/banner
    command: ["sh", "-c"]
    args: ["echo $(GREETING) >/scratch/greeting; exec sleep 1000"]
    env:
    - name: GREETING
      value: hello
    volumeMounts:
    - name: scratch
      mountPath: /scratch
  volumes:
  - name: scratch
    emptyDir: {}
"#;

/// A file of the lab.
fn file(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.dir().join(name);
    std::fs::write(&path, text).expect("a file of the lab");
    path.display().to_string()
}

fn a_pod_written_for_kubernetes_plays_and_is_taken_down_without_a_trace(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let shop = file(lab, "shop.yaml", SHOP);
    let played = lab.ok(&format!("podwire kube play {shop}"));
    let lines: Vec<&str> = played.lines().collect();
    assert_eq!((lines[0], lines[2], lines.len()), ("Pod:", "Containers:", 5), "{played}");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.host("podwire exec shop-db wget -qO- http://127.0.0.1/"));
    eventually(|| lab.host("podwire exec shop-web cat /scratch/greeting"), |run| run.code == 0).ok().says("hello");
    lab.host("podwire exec shop-web cat /etc/hosts").ok().says("10.0.0.9\tprinter").says("127.0.0.1\tshop-db");
    let network = "podman-default-kube-network";
    banner_comes(|| lab.host(&format!("podwire run --rm --network {network} banner wget -qO- http://shop/")));
    lab.host("podwire pod inspect -f '{{.ExitPolicy}} {{.Labels}}' shop").ok().says("stop map[app:shop]");
    lab.host(&format!("podwire kube play {shop}")).refuses(125, "already exists");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let again = lab.ok(&format!("podwire play kube --replace - <{shop}"));
    assert_ne!(again, played);
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    let down = lab.ok(&format!("podwire kube down {shop}"));
    let id = again.lines().nth(1).expect("the pod's id");
    assert_eq!(down, format!("Pods stopped:\n{id}\nPods removed:\n{id}\nSecrets removed:\nVolumes removed:"));
    no_banner(lab.outside(&get(&format!("{HOST4}:8080"))));
    assert_eq!(lab.host(&format!("podwire network exists {network}")).code, 1, "it goes with the last pod");
    before.same(lab, "after kube down");
    lab.host(&format!("podwire kube down {shop}")).ok();
}

fn a_deployment_plays_as_one_pod_and_config_maps_become_files_and_variables(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let text = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  index.html: "Welcome to the demo of podwire's pods\n"
  color: blue
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: store}
spec:
  replicas: 2
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      restartPolicy: Never
      dnsPolicy: None
      dnsConfig: {nameservers: [192.0.2.9], searches: [a.example], options: [{name: ndots, value: "2"}]}
      containers:
      - name: web
        image: localhost/banner
        ports: [{containerPort: 80, hostPort: 8080, hostIP: 192.168.99.109}]
        envFrom: [{configMapRef: {name: settings}}]
        volumeMounts:
        - {name: pages, mountPath: /www}
        - {name: data, mountPath: /data}
      volumes:
      - {name: pages, configMap: {name: settings, items: [{key: index.html, path: index.html}]}}
      - {name: data, persistentVolumeClaim: {claimName: store-data}}
"#;
    let store = file(lab, "store.yaml", text);
    let played = lab.host(&format!("podwire kube play --network podman {store}")).ok();
    assert!(played.err.contains("Limiting replica count to 1"), "{}", played.err);
    let page = || lab.outside(&get(&format!("{HOST4}:8080")));
    eventually(page, |run| run.code == 0).ok().says("podwire's pods");
    lab.host("podwire exec store-pod-web env").ok().says("color=blue");
    assert_ne!(lab.host("podwire exec store-pod-web sh -c 'echo x >/www/x'").code, 0, "read-only");
    let conf = lab.ok("podwire exec store-pod-web cat /etc/resolv.conf");
    assert_eq!(conf, "search a.example\nnameserver 192.0.2.9\noptions ndots:2");
    lab.host("podwire exec store-pod-web sh -c 'echo kept >/data/kept'").ok();
    lab.host(&format!("podwire kube down {store}")).ok();
    lab.host(&format!("podwire kube play --network podman {store}")).ok();
    lab.host("podwire exec store-pod-web cat /data/kept").ok().says("kept");
    lab.host(&format!("podwire kube play --down --force {store}")).ok().says("Volumes removed:\nstore-data");
    before.same(lab, "after kube down --force");
}

fn a_file_that_cannot_be_honoured_is_refused_before_anything_is_made(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let refused = |from: &str, to: &str, words: &str| {
        let text = SHOP.replacen(from, to, 1);
        assert_ne!(text, SHOP, "{from} is in the file");
        let path = file(lab, "wrong.yaml", &text);
        lab.host(&format!("podwire kube play {path}")).refuses(125, words);
        before.same(lab, words);
    };
    refused("kind: Pod", "kind: Job", "kind Job is not supported by podwire yet");
    refused("value: hello", "value: 5", "spec.containers[1].env[0].value must be a text");
    refused("requests:", "limit:", "limit is not supported by podwire, or misspelt");
    refused("hostPort: 8080", "hostPorts: 8080", "hostPorts is not supported by podwire, or misspelt");
    refused("image: localhost/banner\n    command", "image: nosuch\n    imagePullPolicy: Never\n    command", "nosuch");
    refused("metadata:", "metadata: [", "not YAML");
    lab.host("podwire kube play /nosuch.yaml").refuses(125, "open /nosuch.yaml: no such file or directory");
}

const SICKLY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sickly}
spec:
  restartPolicy: OnFailure
  containers:
  - name: web
    image: localhost/banner
    command: [sh, -c, "touch /alive; exec sleep 1000"]
    livenessProbe:
      exec: {command: [test, -e, /alive]}
      periodSeconds: 1
      failureThreshold: 1
    resources: {limits: {memory: 64Mi, cpu: 500m}}
"#;

fn what_a_probe_finds_dead_is_started_again_within_its_limits(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let path = file(lab, "sickly.yaml", SICKLY);
    lab.host(&format!("podwire kube play {path}")).ok();
    let shown = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}";
    assert_eq!(lab.ok(&format!("podwire inspect --format '{shown}' sickly-web")), "on-failure 67108864 500000000");
    let state = || lab.host("podwire inspect --format '{{.State.Health.Status}} {{.RestartCount}}' sickly-web");
    eventually(state, |run| run.out.trim() == "healthy 0").ok();
    lab.host("podwire exec sickly-web rm /alive").ok();
    let pid = lab.ok("podwire inspect --format '{{.State.Pid}}' sickly-web");
    let another = || lab.host("podwire inspect --format '{{.State.Pid}} {{.State.Health.Status}}' sickly-web");
    eventually(another, |run| run.out.ends_with(" healthy\n") && !run.out.starts_with(&format!("{pid} "))).ok();
    lab.host(&format!("podwire kube down {path}")).ok();
    before.same(lab, "after the pod was taken down");
}

fn a_pod_that_runs_is_written_as_a_file_that_plays(lab: &Lab) {
    load(lab);
    lab.host("podwire pod create --name shop -p 8080:80 --add-host printer:10.0.0.9 --network podman").ok();
    lab.host("podwire run -d --pod shop --name web -e COLOR=yes banner").ok();
    lab.host("podwire run -d --pod shop --name db -w /tmp -v data:/data banner sleep 1000").ok();
    let path = lab.dir().join("written.yaml").display().to_string();
    lab.host(&format!("podwire kube generate -f {path} shop")).ok();
    let text = std::fs::read_to_string(&path).expect("the file that was written");
    for line in ["kind: Pod", "hostPort: 8080", "name: COLOR", "value: \"yes\"", "workingDir: /tmp", "claimName: data"]
    {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains("PATH"), "what the image says goes without saying:\n{text}");
    lab.host(&format!("podwire kube generate -f {path} shop")).refuses(125, "cannot write");
    lab.host("podwire pod rm -f -t 0 shop").ok();
    lab.host(&format!("podwire kube play {path}")).ok();
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    lab.host("podwire exec shop-db pwd").ok().says("/tmp");
    lab.host("podwire exec shop-web env").ok().says("COLOR=yes");
    lab.host("podwire generate kube shop-web").ok().says("name: shop-web-pod");
    lab.host("podwire kube generate -t deployment shop").ok().says("kind: Deployment").says("name: shop-deployment");
    lab.host("podwire kube generate nope").refuses(125, "no container with name or ID \"nope\" found");
}

fn an_ordinary_user_plays_a_pod_and_takes_it_down(lab: &Lab) {
    load_for_user(lab);
    let before = lab.settled_state();
    let shop = file(lab, "shop.yaml", SHOP);
    lab.user(&format!("podwire kube play {shop}")).ok().says("Pod:");
    banner_comes(|| lab.outside(&get(&format!("{HOST4}:8080"))));
    banner_comes(|| lab.user("podwire exec shop-db wget -qO- http://127.0.0.1/"));
    lab.user(&format!("podwire kube down {shop}")).ok();
    no_banner(lab.outside(&get(&format!("{HOST4}:8080"))));
    before.same(lab, "after kube down");
}

/// With all that a file can say and a pod that runs can tell.
const WHOLE: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {motd: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: whole, labels: {app: whole, tier: back}}
spec:
  restartPolicy: Never
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 2
  hostAliases: [{ip: 10.0.0.9, hostnames: [printer]}]
  dnsConfig: {nameservers: [192.0.2.9], searches: [a.example], options: [{name: ndots, value: "2"}]}
  containers:
  - name: web
    image: localhost/banner
    command: [sh, -c]
    args: ["exec sleep 1000"]
    env: [{name: COLOR, value: "yes"}]
    ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}, {containerPort: 53, hostPort: 5353, protocol: UDP}]
    livenessProbe: {exec: {command: [test, -e, /bin]}, periodSeconds: 30, failureThreshold: 2, initialDelaySeconds: 3}
    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {memory: 32Mi}}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      runAsUser: 7
      runAsGroup: 8
      capabilities: {add: [NET_ADMIN], drop: [KILL]}
      seccompProfile: {type: Unconfined}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: scratch, mountPath: /scratch}
    - {name: data, mountPath: /data, readOnly: true}
    - {name: logs, mountPath: /logs}
    workingDir: /tmp
  - name: db
    image: localhost/banner
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes:
  - {name: config, configMap: {name: settings}}
  - {name: scratch, emptyDir: {}}
  - {name: data, persistentVolumeClaim: {claimName: whole-data}}
  - {name: logs, hostPath: {path: /run/whole-logs, type: DirectoryOrCreate}}
"#;

fn what_is_written_plays_and_is_written_the_same_again(lab: &Lab) {
    load(lab);
    let before = lab.settled_state();
    let whole = file(lab, "whole.yaml", WHOLE);
    lab.host(&format!("podwire kube play {whole}")).ok();
    let write = || lab.ok("podwire kube generate whole | grep -v creationTimestamp");
    let first = write();
    for said in [
        "kind: ConfigMap",
        "motd: hello",
        "cpu: 500m",
        "memory: 64Mi",
        "memory: 32Mi",
        "livenessProbe:",
        "failureThreshold: 2",
        "allowPrivilegeEscalation: false",
        "shareProcessNamespace: true",
        "terminationGracePeriodSeconds: 2",
        "emptyDir:",
        "claimName: whole-data",
        "path: /run/whole-logs",
        "readOnlyRootFilesystem: true",
        "hostIP: \"127.0.0.1\"",
        "protocol: UDP",
        "type: Unconfined",
    ] {
        assert!(first.contains(said), "{said} in {first}");
    }
    let written = file(lab, "written.yaml", &first);
    lab.host(&format!("podwire kube play --replace {written}")).ok();
    assert_eq!(write(), first);
    lab.host("podwire exec whole-web cat /config/motd").ok().says("hello");
    let service = lab.ok("podwire kube generate --service -t deployment --replicas 3 whole");
    assert!(service.contains("kind: Service") && service.contains("type: NodePort") && service.contains("replicas: 3"));
    lab.host("podwire kube generate --replicas 3 whole")
        .refuses(125, "--replicas can only be set when --type is set to deployment");
    let deployment = file(lab, "deployment.yaml", &service);
    lab.host(&format!("podwire kube down --force {written}")).ok();
    let played = lab.host(&format!("podwire kube play --start=false {deployment}")).ok();
    assert!(
        played.err.contains("Service whole is passed over") && played.err.contains("Limiting replica"),
        "{}",
        played.err
    );
    lab.host("podwire pod ps --format '{{.Name}} {{.Status}}'").ok().says("whole-deployment-pod Created");
    lab.host(&format!("podwire kube down --force {deployment}")).ok();
    lab.host("rmdir /run/whole-logs").ok();
    before.same(lab, "after kube down");
}

fn secrets_services_and_paths_of_the_host_are_dealt_with(lab: &Lab) {
    load(lab);
    let text = r#"
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {ports: [{port: 80}], selector: {app: keys}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {password: aHVudGVyMg==}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: keys}
spec:
  selector: {matchLabels: {app: keys}}
  template:
    metadata: {labels: {app: keys}}
    spec:
      restartPolicy: Never
      securityContext: {supplementalGroups: [4711], sysctls: [{name: net.ipv4.ip_forward, value: "1"}]}
      containers:
      - name: c
        image: localhost/banner
        env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}]
        volumeMounts: [{name: s, mountPath: /keys}, {name: d, mountPath: /dev/nix}]
      volumes:
      - {name: s, secret: {secretName: keys}}
      - {name: d, hostPath: {path: /dev/null, type: CharDevice}}
"#;
    let keys = file(lab, "keys.yaml", text);
    let annotated = format!("podwire kube play --annotation a=b --log-driver none {keys}");
    let played = lab.host(&annotated).ok();
    assert!(played.err.contains("Service front is passed over: it takes a cluster"), "{}", played.err);
    let run = |line: &str| lab.ok(&format!("podwire exec keys-pod-c sh -c '{line}'"));
    assert_eq!(run("echo $PASSWORD; cat /keys/password; test -c /dev/nix && id -G"), "hunter2\nhunter20 4711");
    assert_eq!(run("cat /proc/sys/net/ipv4/ip_forward"), "1");
    assert_eq!(
        lab.ok("podwire inspect -f '{{.HostConfig.LogConfig.Type}} {{.Config.Annotations.a}}' keys-pod-c"),
        "none b"
    );
    lab.host(&format!("podwire kube down {keys}")).ok();
    let wrong = file(lab, "wrong.yaml", &text.replace("path: /dev/null, type: CharDevice", "path: /etc, type: File"));
    lab.host(&format!("podwire kube play {wrong}")).refuses(125, "the hostPath /etc must be a file");
    assert!(lab.ok("podwire pod ps -q").is_empty());
}
