//! The API server and etcd of the test cluster, alone on loopback, with nobody else on them.

use crate::support::{Folder, Process, ports, wait_for};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Only the requests of the operator, each once.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - {level: Metadata, users: [operator]}
  - {level: None}
";

/// A control plane without controllers, scheduler or nodes.
pub struct Plane {
    folder: Folder,
    /// Port of etcd.
    etcd: u16,
    _etcd: Process,
    _apiserver: Process,
}

/// What the operator asked of the API server, without its Lease and its watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    /// Gets.
    pub gets: usize,
    /// Lists.
    pub lists: usize,
    /// Lists of `GraphBackups`, pages counted one by one.
    pub backup_lists: usize,
    /// Everything that changes something, but Events.
    pub writes: usize,
    /// Events created or patched.
    pub events: usize,
}

impl Plane {
    /// Starts both and waits until they serve.
    pub async fn start() -> Self {
        let programs =
            PathBuf::from(std::env::var_os("GBO_CLUSTER_PROGRAMS").expect("GBO_CLUSTER_PROGRAMS is not set"));
        let folder = Folder::new("plane");
        let [client, peers, port] = [ports::next(), ports::next(), ports::next()];
        let etcd = start_etcd(&programs, &folder, client, peers);
        write_files(&folder, port);
        let mut apiserver = start_apiserver(&programs, &folder, client, port);
        let certificate = folder.join("pki/apiserver.crt");
        wait_for("the API server", Duration::from_secs(120), async || {
            apiserver.must_run();
            certificate.exists().then_some(())?;
            let client = client_of(&folder.join("driver.kubeconfig")).await?;
            client.request_text(http::Request::get("/readyz").body(Vec::new()).ok()?).await.ok()
        })
        .await;
        Self { folder, etcd: client, _etcd: etcd, _apiserver: apiserver }
    }

    /// A client for the driver.
    pub async fn client(&self) -> Client {
        client_of(&self.folder.join("driver.kubeconfig")).await.expect("a client")
    }

    /// Kubeconfig of the operator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("operator.kubeconfig")
    }

    /// Lets etcd forget everything before a revision: whoever knows only an older one has to list anew.
    pub async fn compact(&self, revision: &str) {
        let body = format!(r#"{{"revision": "{revision}"}}"#);
        let head = "POST /v3/kv/compaction HTTP/1.0\r\nContent-Type: application/json";
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut stream = TcpStream::connect(("127.0.0.1", self.etcd)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }

    /// Where the audit log ends now.
    pub fn mark(&self) -> u64 {
        fs::metadata(self.folder.join("audit.log")).map_or(0, |log| log.len())
    }

    /// The operator's requests that ended since a mark.
    pub fn requests_since(&self, mark: u64) -> Requests {
        let mut requests = Requests::default();
        let Ok(mut log) = fs::File::open(self.folder.join("audit.log")) else { return requests };
        log.seek(SeekFrom::Start(mark)).unwrap();
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        for line in text.lines() {
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            count(&entry, &mut requests);
        }
        requests
    }
}

fn count(entry: &Value, requests: &mut Requests) {
    let of = &entry["objectRef"];
    let election = of["resource"] == "leases" && of["name"] == "graph-backup-operator";
    match entry["verb"].as_str() {
        _ if election => {}
        Some("get") => requests.gets += 1,
        Some("list") => {
            requests.lists += 1;
            requests.backup_lists += usize::from(of["resource"] == "graphbackups");
        }
        Some("create" | "update" | "patch" | "delete" | "deletecollection") if of["resource"] == "events" => {
            requests.events += 1;
        }
        Some("create" | "update" | "patch" | "delete" | "deletecollection") => requests.writes += 1,
        _ => {}
    }
}

fn start_etcd(programs: &Path, folder: &Folder, client: u16, peers: u16) -> Process {
    let arguments = [
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls=http://127.0.0.1:{client}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    Process::start_with(&programs.join("etcd"), &arguments, &[], &folder.join("etcd.log"))
}

fn start_apiserver(programs: &Path, folder: &Folder, etcd: u16, port: u16) -> Process {
    let file = |name: &str| folder.join(name).display().to_string();
    let arguments = [
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // It makes its own certificate there.
        format!("--cert-dir={}", file("pki")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=AlwaysAllow".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-cluster-ip-range=198.19.0.0/24".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        format!("--audit-policy-file={}", file("audit-policy.yaml")),
        format!("--audit-log-path={}", file("audit.log")),
    ];
    Process::start_with(&programs.join("kube-apiserver"), &arguments, &[], &folder.join("apiserver.log"))
}

fn write_files(folder: &Folder, port: u16) {
    let (private, public) = (folder.join("accounts.key"), folder.join("accounts.pub"));
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"], &[&private]);
    openssl(&["pkey", "-pubout", "-in"], &[&private, Path::new("-out"), &public]);
    fs::write(folder.join("audit-policy.yaml"), AUDIT_POLICY).unwrap();
    let mut tokens = String::new();
    for user in ["driver", "operator"] {
        writeln!(tokens, "{user}-token,{user},{user},\"system:masters\"").unwrap();
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\ncontexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n\
             clusters: [{{name: it, cluster: {{server: \"https://127.0.0.1:{port}\", certificate-authority: {}}}}}]\n\
             users: [{{name: it, user: {{token: {user}-token}}}}]\n",
            folder.join("pki/apiserver.crt").display()
        );
        fs::write(folder.join(format!("{user}.kubeconfig")), kubeconfig).unwrap();
    }
    fs::write(folder.join("tokens.csv"), tokens).unwrap();
}

fn openssl(arguments: &[&str], files: &[&Path]) {
    let output = Command::new("openssl").args(arguments).args(files).output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn client_of(kubeconfig: &Path) -> Option<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).ok()?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.ok()?;
    Client::try_from(config).ok()
}
